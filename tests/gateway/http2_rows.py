"""What an HTTP/2 server does with frames that are right, odd or wrong: a table in the manner of h2spec, after RFC 9113,
RFC 7541, RFC 8441 and RFC 9218, section by section.

A row's frames are sent after the preface and SETTINGS, and a PING behind them. What comes back is summed up in a word:
`goaway CODE`, `reset CODE` (of a stream of the row's), a response's status, `ok` (only the PING was answered),
`closed`. `wanted` are the answers that the RFC allows and essaim gives one of; `DIFFERENCES` has where HAProxy and
nghttpx give another one.
"""

from dataclasses import dataclass

import hpack

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
GET = [(":method", "GET"), (":scheme", "http"), (":authority", "a.example"), (":path", "/")]
POST = [(":method", "POST"), *GET[1:]]
PROTOCOL, FLOW, CLOSED = "goaway PROTOCOL_ERROR", "goaway FLOW_CONTROL_ERROR", "goaway STREAM_CLOSED"
SIZE, COMPRESSION = "goaway FRAME_SIZE_ERROR", "goaway COMPRESSION_ERROR"
MALFORMED = "reset PROTOCOL_ERROR"


@dataclass(frozen=True)
class Row:
    section: str
    name: str
    frames: bytes
    wanted: tuple[str, ...]
    greeting: bytes | None = None


@dataclass(frozen=True)
class Differ:
    """What HAProxy 2.6 and nghttpx 1.52 answer where it is not what is wanted."""

    why: str
    haproxy: str = ""
    nghttpx: str = ""


Fields = list[tuple[str, str]] | list[tuple[bytes, bytes]]


def block(fields: Fields) -> bytes:
    return bytes(hpack.Encoder().encode(fields, huffman=False))


def headers(fields: Fields | bytes = GET, number: int = 1, *, end: bool = True, whole: bool = True) -> bytes:
    content = fields if isinstance(fields, bytes) else block(fields)
    return raw(1, (1 if end else 0) | (4 if whole else 0), number, content)


def continuation(content: bytes, number: int = 1, *, end: bool = True) -> bytes:
    return raw(9, 4 if end else 0, number, content)


def data(content: bytes = b"", number: int = 1, *, end: bool = True) -> bytes:
    return raw(0, 1 if end else 0, number, content)


def raw(kind: int, flags: int, number: int, content: bytes = b"") -> bytes:
    return len(content).to_bytes(3, "big") + bytes([kind, flags]) + number.to_bytes(4, "big") + content


def settings(*pairs: tuple[int, int]) -> bytes:
    return raw(4, 0, 0, b"".join(name.to_bytes(2, "big") + value.to_bytes(4, "big") for name, value in pairs))


def window(increment: int, number: int = 0) -> bytes:
    return raw(8, 0, number, increment.to_bytes(4, "big"))


def reset(number: int = 1, code: int = 8) -> bytes:
    return raw(3, 0, number, code.to_bytes(4, "big"))


def priority(number: int, on: int = 0) -> bytes:
    return raw(2, 0, number, on.to_bytes(4, "big") + b"\x0f")


def ping(content: bytes = b"a ping!!") -> bytes:
    return raw(6, 0, 0, content)


def without(name: str, fields: list[tuple[str, str]] = GET) -> list[tuple[str, str]]:
    return [field for field in fields if field[0] != name]


def replaced(name: str, value: str, fields: list[tuple[str, str]] = GET) -> list[tuple[str, str]]:
    return [(one, value if one == name else old) for one, old in fields]


OPEN = headers(POST, end=False)
HALF = headers(GET)
FIRST, SECOND = block(GET)[:6], block(GET)[6:]

ROWS = [
    # -- 3.4: the preface
    Row("3.4", "a preface that is wrong", b"", (PROTOCOL, "closed"), greeting=b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n"),
    Row("3.4", "no SETTINGS behind it", b"", (PROTOCOL, "closed"), greeting=PREFACE + ping()),
    Row("3.4", "HEADERS before SETTINGS", b"", (PROTOCOL, "closed"), greeting=PREFACE + headers()),
    Row("3.4", "an acknowledgement before SETTINGS", b"", (PROTOCOL, "closed"), greeting=PREFACE + raw(4, 1, 0)),
    # -- 4: frames
    Row("4.1", "a frame of a type nobody knows", raw(0x42, 0, 0, b"what"), ("ok",)),
    Row("4.1", "the same on a stream", raw(0x42, 0xFF, 1, b"what"), ("ok",)),
    Row("4.1", "flags that are not defined", raw(6, 0x16, 0, bytes(8)), ("ok",)),
    Row("4.1", "the bit that is reserved", raw(6, 0, 0, bytes(8)).replace(bytes(4), b"\x80\0\0\0", 1), ("ok",)),
    Row("4.2", "DATA as long as it may be", OPEN + data(bytes(16384)), ("200",)),
    Row("4.2", "DATA that is longer", OPEN + raw(0, 1, 1, bytes(16385)), (SIZE, "reset FRAME_SIZE_ERROR")),
    Row("4.2", "HEADERS that are longer", raw(1, 5, 1, bytes(16385)), (SIZE,)),
    Row("4.2", "a frame of 2^24-1 bytes, of which the head has come", b"\xff\xff\xff\x00\x01\0\0\0\x01", (SIZE,)),
    Row("4.3", "a block that is no HPACK", raw(1, 5, 1, b"\xff\xff\xff\xff\xff\xff"), (COMPRESSION,)),
    Row("4.3", "a block that ends within a field", raw(1, 5, 1, block([*GET, ("x", "yz")])[:-1]), (COMPRESSION,)),
    Row("4.3", "PRIORITY within a block", headers(FIRST, whole=False) + priority(3), (PROTOCOL,)),
    Row("4.3", "HEADERS of another stream within it", headers(FIRST, whole=False) + headers(number=3), (PROTOCOL,)),
    Row("4.3", "PING within it", headers(FIRST, whole=False) + ping(), (PROTOCOL,)),
    Row("5.5", "an unknown frame within it", headers(FIRST, whole=False) + raw(0x42, 0, 1), (PROTOCOL,)),
    # -- 5.1: states
    Row("5.1", "DATA on an idle stream", data(b"x"), (PROTOCOL,)),
    Row("5.1", "RST_STREAM on an idle stream", reset(), (PROTOCOL,)),
    Row("5.1", "WINDOW_UPDATE on an idle stream", window(1, 1), (PROTOCOL,)),
    Row("5.1", "CONTINUATION on an idle stream", continuation(FIRST), (PROTOCOL,)),
    Row("5.1", "PRIORITY on an idle stream", priority(1), ("ok",)),
    Row("5.1", "DATA after END_STREAM", HALF + data(b"x"), ("reset STREAM_CLOSED", CLOSED)),
    Row("5.1", "HEADERS after END_STREAM", HALF + headers(), ("reset STREAM_CLOSED", CLOSED)),
    Row("5.1", "CONTINUATION after END_STREAM", HALF + continuation(b""), (PROTOCOL,)),
    Row("5.1", "WINDOW_UPDATE after END_STREAM", HALF + window(100, 1), ("200",)),
    Row("5.1", "PRIORITY after END_STREAM", HALF + priority(1), ("200",)),
    Row("5.1", "DATA after RST_STREAM", OPEN + reset() + data(b"x"), ("reset STREAM_CLOSED", CLOSED)),
    Row("5.1", "HEADERS after RST_STREAM", OPEN + reset() + headers(), (CLOSED, "reset STREAM_CLOSED")),
    Row("5.1", "CONTINUATION after RST_STREAM", OPEN + reset() + continuation(b""), (PROTOCOL,)),
    Row("5.1", "WINDOW_UPDATE after RST_STREAM", OPEN + reset() + window(100, 1), ("ok",)),
    Row("5.1", "RST_STREAM twice", OPEN + reset() + reset(), ("ok",)),
    Row("5.1", "PRIORITY after RST_STREAM", OPEN + reset() + priority(1), ("ok",)),
    Row("5.1.1", "a stream with an even number", headers(number=2), (PROTOCOL,)),
    Row("5.1.1", "a number below the last one's", headers(number=5) + headers(number=3), (CLOSED, PROTOCOL)),
    Row("5.1.1", "numbers with gaps", headers(number=101), ("200",)),
    Row("5.1.1", "the greatest number", headers(number=(1 << 31) - 1), ("200",)),
    Row(
        "5.1.2", "more streams than are allowed at once",
        b"".join(headers(POST, number, end=False) for number in range(1, 1300, 2)), ("reset REFUSED_STREAM",),
    ),
    Row("5.3", "HEADERS that depend on themselves", raw(1, 0x25, 1, b"\0\0\0\x01\x0f" + block(GET)), ("200",)),
    Row("5.3", "PRIORITY that depends on itself", priority(1, 1), ("ok",)),
    # -- 6.1: DATA
    Row("6.1", "DATA on stream 0", raw(0, 1, 0, b"x"), (PROTOCOL,)),
    Row("6.1", "DATA with padding", OPEN + raw(0, 9, 1, b"\x03abc\0\0\0"), ("200",)),
    Row("6.1", "DATA that is all padding", OPEN + raw(0, 9, 1, b"\x03\0\0\0"), ("200",)),
    Row("6.1", "DATA with more padding than payload", OPEN + raw(0, 9, 1, b"\x08abc"), (PROTOCOL,)),
    Row("6.1", "DATA without the length of its padding", OPEN + raw(0, 9, 1), (SIZE, PROTOCOL)),
    Row("6.1", "DATA without content", OPEN + data(b"", end=False) + data(b"x"), ("200",)),
    # -- 6.2: HEADERS
    Row("6.2", "HEADERS on stream 0", raw(1, 5, 0, block(GET)), (PROTOCOL,)),
    Row("6.2", "HEADERS with padding", raw(1, 0x0D, 1, b"\x02" + block(GET) + bytes(2)), ("200",)),
    Row("6.2", "HEADERS with more padding than payload", raw(1, 0x0D, 1, b"\xff" + block(GET)), (PROTOCOL,)),
    Row("6.2", "HEADERS without the length of its padding", raw(1, 0x0D, 1), (SIZE, PROTOCOL)),
    Row("6.2", "HEADERS without room for its priority", raw(1, 0x25, 1, b"\0\0"), (SIZE, PROTOCOL)),
    Row("6.2", "HEADERS with padding and priority",
        raw(1, 0x2D, 1, b"\x01\0\0\0\0\x0f" + block(GET) + b"\0"), ("200",)),
    # -- 6.3: PRIORITY
    Row("6.3", "PRIORITY on stream 0", raw(2, 0, 0, bytes(5)), (PROTOCOL,)),
    Row("6.3", "PRIORITY of 4 bytes", raw(2, 0, 1, bytes(4)), ("reset FRAME_SIZE_ERROR", SIZE)),
    # -- 6.4: RST_STREAM
    Row("6.4", "RST_STREAM on stream 0", raw(3, 0, 0, bytes(4)), (PROTOCOL,)),
    Row("6.4", "RST_STREAM of 3 bytes", OPEN + raw(3, 0, 1, bytes(3)), (SIZE,)),
    Row("6.4", "a code nobody knows", OPEN + reset(1, 0xABCD), ("ok",)),
    # -- 6.5: SETTINGS
    Row("6.5", "SETTINGS on a stream", raw(4, 0, 1), (PROTOCOL,)),
    Row("6.5", "SETTINGS of 5 bytes", raw(4, 0, 0, bytes(5)), (SIZE,)),
    Row("6.5", "an acknowledgement with content", raw(4, 1, 0, bytes(6)), (SIZE,)),
    Row("6.5", "SETTINGS without content", raw(4, 0, 0), ("ok",)),
    Row("6.5", "an acknowledgement too many", raw(4, 1, 0), ("ok",)),
    Row("6.5.2", "ENABLE_PUSH of 2", settings((2, 2)), (PROTOCOL,)),
    Row("6.5.2", "ENABLE_PUSH of 1, from a client", settings((2, 1)), ("ok",)),
    Row("6.5.2", "INITIAL_WINDOW_SIZE of 2^31", settings((4, 1 << 31)), (FLOW,)),
    Row("6.5.2", "INITIAL_WINDOW_SIZE of 2^31-1", settings((4, (1 << 31) - 1)) + headers(), ("200",)),
    Row("6.5.2", "MAX_FRAME_SIZE of 2^14-1", settings((5, (1 << 14) - 1)), (PROTOCOL,)),
    Row("6.5.2", "MAX_FRAME_SIZE of 2^24", settings((5, 1 << 24)), (PROTOCOL,)),
    Row("6.5.2", "MAX_FRAME_SIZE of 2^24-1", settings((5, (1 << 24) - 1)) + headers(), ("200",)),
    Row("6.5.2", "a setting nobody knows", settings((0xFF, 1)), ("ok",)),
    Row("6.5.2", "HEADER_TABLE_SIZE of 0", settings((1, 0)) + headers(), ("200",)),
    Row("6.5.2", "MAX_CONCURRENT_STREAMS of 0, of the server", settings((3, 0)) + headers(), ("200",)),
    Row("8441 3", "ENABLE_CONNECT_PROTOCOL of 2", settings((8, 2)), (PROTOCOL, "ok")),
    Row("9218 2.1", "NO_RFC7540_PRIORITIES of 2", settings((9, 2)), (PROTOCOL, "ok")),
    # -- 6.6 to 6.10
    Row("6.6", "PUSH_PROMISE of a client", raw(5, 4, 1, bytes(4)), (PROTOCOL,)),
    Row("6.7", "PING on a stream", raw(6, 0, 1, bytes(8)), (PROTOCOL,)),
    Row("6.7", "PING of 7 bytes", raw(6, 0, 0, bytes(7)), (SIZE,)),
    Row("6.7", "an answer to a PING that nobody sent", raw(6, 1, 0, bytes(8)), ("ok",)),
    Row("6.8", "GOAWAY on a stream", raw(7, 0, 1, bytes(8)), (PROTOCOL,)),
    Row("6.8", "GOAWAY of 7 bytes", raw(7, 0, 0, bytes(7)), (SIZE,)),
    Row("6.8", "GOAWAY in the middle of a request", HALF + raw(7, 0, 0, bytes(8)), ("200",)),
    Row("6.9", "WINDOW_UPDATE of 0", window(0), (PROTOCOL,)),
    Row("6.9", "WINDOW_UPDATE of 0 on a stream", OPEN + window(0, 1), (MALFORMED, PROTOCOL)),
    Row("6.9", "WINDOW_UPDATE of 3 bytes", raw(8, 0, 0, bytes(3)), (SIZE,)),
    Row("6.9.1", "a connection's window over 2^31-1", window((1 << 31) - 1) + window((1 << 31) - 1), (FLOW,)),
    Row(
        "6.9.1", "a stream's window over 2^31-1", OPEN + window((1 << 31) - 1, 1) + window((1 << 31) - 1, 1),
        ("reset FLOW_CONTROL_ERROR", FLOW),
    ),
    Row("6.9.2", "a window of 0, then SETTINGS that open it", settings((4, 0)) + HALF + settings((4, 60000)), ("200",)),
    Row("6.9.2", "a window that SETTINGS make too large",
        OPEN + window((1 << 31) - 65536, 1) + settings((4, 65536 + 1)), (FLOW, "reset FLOW_CONTROL_ERROR")),
    Row("6.10", "CONTINUATION", headers(FIRST, whole=False) + continuation(SECOND), ("200",)),
    Row("6.10", "several of them", headers(b"", whole=False) + continuation(FIRST, end=False) + continuation(SECOND),
        ("200",)),
    Row("6.10", "one of another stream", headers(FIRST, whole=False) + continuation(SECOND, 3), (PROTOCOL,)),
    Row("6.10", "one on stream 0", headers(FIRST, whole=False) + raw(9, 4, 0, SECOND), (PROTOCOL,)),
    Row("6.10", "one after the block's end", OPEN + continuation(FIRST), (PROTOCOL,)),
    Row("6.10", "one that nothing came before", continuation(FIRST), (PROTOCOL,)),
    Row("6.10", "one after DATA", OPEN + data(b"x", end=False) + continuation(FIRST), (PROTOCOL,)),
    # -- 8.1: messages
    Row("8.1", "a request with a body", OPEN + data(b"hello"), ("200",)),
    Row("8.1", "trailers", OPEN + data(b"hello", end=False) + headers([("x-sum", "1")]), ("200",)),
    Row("8.1", "trailers that do not end the stream",
        OPEN + headers([("x-sum", "1")], end=False), (MALFORMED, PROTOCOL)),
    Row("8.1", "a pseudo-field in trailers", OPEN + headers([(":path", "/x")]), (MALFORMED,)),
    Row("8.1", ":status in trailers", OPEN + headers([(":status", "200")]), (MALFORMED,)),
    Row("8.1", "Content-Length in trailers", OPEN + headers([("content-length", "5")]), (MALFORMED, "200")),
    Row("8.1", "Transfer-Encoding in trailers", OPEN + headers([("transfer-encoding", "chunked")]), (MALFORMED,)),
    Row("8.1", "an upper-case name in trailers", OPEN + headers([(b"X-Sum", b"1")]), (MALFORMED,)),
    Row("8.1.1", "a body shorter than it says", headers([*POST, ("content-length", "9")], end=False) + data(b"x"),
        (MALFORMED,)),
    Row("8.1.1", "a body longer than it says", headers([*POST, ("content-length", "1")], end=False) + data(b"xyz"),
        (MALFORMED,)),
    Row("8.1.1", "the same in several frames", headers([*POST, ("content-length", "2")], end=False)
        + data(b"x", end=False) + data(b"y", end=False) + data(b"z"), (MALFORMED,)),
    Row("8.1.1", "a Content-Length, and no body", headers([*POST, ("content-length", "1")]), (MALFORMED,)),
    Row("8.1.1", "Content-Length of 0, and no body", headers([*POST, ("content-length", "0")]), ("200",)),
    Row("8.1.1", "a body as long as it says",
        headers([*POST, ("content-length", "2")], end=False) + data(b"xy"), ("200",)),
    Row("8.1.1", "Content-Length twice, differing", headers([*POST, ("content-length", "1"), ("content-length", "2")],
        end=False) + data(b"x"), (MALFORMED, "400")),
    Row("8.1.1", "Content-Length with a sign", headers([*POST, ("content-length", "+1")], end=False) + data(b"x"),
        (MALFORMED, "400")),
    # -- 8.2: fields
    Row("8.2.1", "an upper-case name", headers([*GET, (b"X-A", b"b")]), (MALFORMED,)),
    Row("8.2.1", "a name with a space", headers([*GET, ("x a", "b")]), (MALFORMED,)),
    Row("8.2.1", "a name with a colon", headers([*GET, ("x:a", "b")]), (MALFORMED,)),
    Row("8.2.1", "a name with NUL", headers([*GET, ("x\0a", "b")]), (MALFORMED,)),
    Row("8.2.1", "a name with CR LF", headers([*GET, ("x\r\ny", "b")]), (MALFORMED,)),
    Row("8.2.1", "an empty name", headers([*GET, ("", "b")]), (MALFORMED,)),
    Row("8.2.1", "a name beyond ASCII", headers([*GET, ("x\xe9".encode("latin-1"), b"b")]), (MALFORMED,)),
    Row("8.2.1", "a value with CR LF", headers([*GET, ("x", "a\r\nTransfer-Encoding: chunked")]), (MALFORMED,)),
    Row("8.2.1", "a value with LF", headers([*GET, ("x", "a\nb")]), (MALFORMED,)),
    Row("8.2.1", "a value with CR", headers([*GET, ("x", "a\rb")]), (MALFORMED,)),
    Row("8.2.1", "a value with NUL", headers([*GET, ("x", "a\0b")]), (MALFORMED,)),
    Row("8.2.1", "a value that begins with a space", headers([*GET, ("x", " a")]), (MALFORMED, "200")),
    Row("8.2.1", "a value that ends with a tab", headers([*GET, ("x", "a\t")]), (MALFORMED, "200")),
    Row("8.2.1", "an empty value", headers([*GET, ("x", "")]), ("200",)),
    Row("8.2.2", "Connection", headers([*GET, ("connection", "close")]), (MALFORMED,)),
    Row("8.2.2", "Connection that names a field", headers([*GET, ("connection", "x-real-ip")]), (MALFORMED,)),
    Row("8.2.2", "Keep-Alive", headers([*GET, ("keep-alive", "5")]), (MALFORMED,)),
    Row("8.2.2", "Proxy-Connection", headers([*GET, ("proxy-connection", "close")]), (MALFORMED,)),
    Row("8.2.2", "Upgrade", headers([*GET, ("upgrade", "websocket")]), (MALFORMED,)),
    Row("8.2.2", "Transfer-Encoding",
        headers([*POST, ("transfer-encoding", "chunked")], end=False) + data(b"0\r\n\r\n"),
        (MALFORMED,)),
    Row("8.2.2", "TE: trailers", headers([*GET, ("te", "trailers")]), ("200",)),
    Row("8.2.2", "TE: gzip", headers([*GET, ("te", "gzip")]), (MALFORMED,)),
    Row("8.2.2", "TE: trailers, gzip", headers([*GET, ("te", "trailers, gzip")]), (MALFORMED,)),
    Row("8.2.3", "cookies in several fields", headers([*GET, ("cookie", "a=b"), ("cookie", "c=d")]), ("200",)),
    # -- 8.3: pseudo-fields
    Row("8.3", "a pseudo-field nobody knows", headers([*GET, (":what", "x")]), (MALFORMED,)),
    Row("8.3", ":status in a request", headers([*GET, (":status", "200")]), (MALFORMED,)),
    Row("8.3", "a pseudo-field after others", headers([*GET[:3], ("x", "y"), GET[3]]), (MALFORMED,)),
    Row("8.3.1", "no :method", headers(without(":method")), (MALFORMED,)),
    Row("8.3.1", "no :scheme", headers(without(":scheme")), (MALFORMED,)),
    Row("8.3.1", "no :path", headers(without(":path")), (MALFORMED,)),
    Row("8.3.1", "nothing at all", headers([("x", "y")]), (MALFORMED,)),
    Row("8.3.1", "an empty :path", headers(replaced(":path", "")), (MALFORMED,)),
    Row("8.3.1", "a :path without a slash", headers(replaced(":path", "x")), (MALFORMED, "400")),
    Row("8.3.1", "a :path with a space", headers(replaced(":path", "/a b")), (MALFORMED, "400")),
    Row("8.3.1", "a :path with CR LF", headers(replaced(":path", "/ HTTP/1.1\r\nX: y\r\n")), (MALFORMED, "400")),
    Row("8.3.1", "a :path with a fragment", headers(replaced(":path", "/a#b")), (MALFORMED, "400")),
    Row("8.3.1", "a :path that is a whole URI", headers(replaced(":path", "http://b/")), (MALFORMED, "400")),
    Row("8.3.1", ":path * for OPTIONS", headers(replaced(":method", "OPTIONS", replaced(":path", "*"))), ("200",)),
    Row("8.3.1", ":path * for GET", headers(replaced(":path", "*")), (MALFORMED, "400")),
    Row("8.3.1", "an empty :method", headers(replaced(":method", "")), (MALFORMED, "400")),
    Row("8.3.1", "a :method with a space", headers(replaced(":method", "GET /")), (MALFORMED, "400")),
    Row("8.3.1", "a :method with CR LF", headers(replaced(":method", "GET\r\nX")), (MALFORMED, "400")),
    Row("8.3.1", "a :method in lower case", headers(replaced(":method", "get")), ("200", "400", "405")),
    Row("8.3.1", "a :scheme with a space", headers(replaced(":scheme", "http x")), (MALFORMED, "400")),
    Row("8.3.1", "the :scheme https in the clear", headers(replaced(":scheme", "https")), ("200",)),
    Row("8.3.1", "the :scheme ftp", headers(replaced(":scheme", "ftp")), (MALFORMED, "400")),
    *(
        Row("8.3.1", f"{name} twice", headers([GET[0], GET[1], GET[2], GET[3], (name, value)]), (MALFORMED,))
        for name, value in GET
    ),
    Row("8.3.1", "host in place of :authority", headers([*without(":authority"), ("host", "a.example")]), ("200",)),
    Row("8.3.1", "host like :authority", headers([*GET, ("host", "a.example")]), ("200",)),
    Row("8.3.1", "host unlike :authority", headers([*GET, ("host", "b.example")]), (MALFORMED, "400")),
    Row("8.3.1", "host twice", headers([*GET, ("host", "a.example"), ("host", "a.example")]), (MALFORMED, "400")),
    Row("8.3.1", "neither :authority nor host", headers(without(":authority")), (MALFORMED, "400")),
    Row("8.3.1", "an empty :authority", headers(replaced(":authority", "")), (MALFORMED, "400")),
    Row("8.3.1", "a user's name in :authority", headers(replaced(":authority", "u@a.example")), (MALFORMED, "400")),
    Row("8.3.1", "a space in :authority", headers(replaced(":authority", "a b")), (MALFORMED, "400")),
    Row("8.3.1", "CR LF in :authority", headers(replaced(":authority", "a\r\nX: y")), (MALFORMED, "400")),
    Row("8.5", "CONNECT", headers([(":method", "CONNECT"), (":authority", "a.example:80")]),
        ("501", "405", "400", MALFORMED)),
    Row("8.5", "CONNECT with :path", headers(replaced(":method", "CONNECT")), (MALFORMED, "501")),
    Row("8441 4", ":protocol without CONNECT", headers([*GET, (":protocol", "websocket")], end=False), (MALFORMED,)),
    Row("8441 4", "a :protocol nobody knows",
        headers([(":method", "CONNECT"), (":protocol", "what"), *GET[1:]], end=False), ("501", "400", MALFORMED)),
    Row("8.1", "Expect: 100-continue", headers([*POST, ("expect", "100-continue")], end=False) + data(b"x"), ("200",)),
    Row("8.1", "another expectation", headers([*GET, ("expect", "what")]), ("417", "400")),
    Row("8.1", "HEAD", headers(replaced(":method", "HEAD")), ("200",)),
    # -- RFC 7541: HPACK
    Row("7541 2.3.3", "the table's place 0", raw(1, 5, 1, block(GET) + b"\x80"), (COMPRESSION,)),
    Row("7541 2.3.3", "a place behind the table's end", raw(1, 5, 1, block(GET) + b"\xc6"), (COMPRESSION,)),
    Row("7541 2.3.3", "a name behind the table's end", raw(1, 5, 1, block(GET) + b"\x7f\x3f\x01x"), (COMPRESSION,)),
    Row("7541 4.2", "a new size at a block's end", raw(1, 5, 1, block(GET) + b"\x20"), (COMPRESSION,)),
    Row("7541 4.2", "a new size at its beginning", raw(1, 5, 1, b"\x20" + block(GET)), ("200",)),
    Row("7541 4.2", "two of them", raw(1, 5, 1, b"\x20\x3f\xe1\x1f" + block(GET)), ("200",)),
    Row("7541 6.3", "a size beyond the setting", raw(1, 5, 1, b"\x3f\xe2\x1f" + block(GET)), (COMPRESSION,)),
    Row("7541 5.1", "a number without an end",
        raw(1, 5, 1, block(GET) + b"\xff" + b"\x80" * 20 + b"\x01"), (COMPRESSION,)),
    Row("7541 5.2", "a text longer than the block", raw(1, 5, 1, block(GET) + b"\x00\x01x\x7f\x7f"), (COMPRESSION,)),
    Row("7541 5.2", "a Huffman text with padding of 8 bits", raw(1, 5, 1, block(GET) + b"\x00\x01x\x82\x1f\xff"),
        (COMPRESSION,)),
    Row("7541 5.2", "a Huffman text padded with zeros",
        raw(1, 5, 1, block(GET) + b"\x00\x01x\x81\x18"), (COMPRESSION,)),
    Row("7541 5.2", "a Huffman text with EOS",
        raw(1, 5, 1, block(GET) + b"\x00\x01x\x84\xff\xff\xff\xff"), (COMPRESSION,)),
    Row("7541 6.2.2", "a literal that is not indexed", raw(1, 5, 1, block(GET) + b"\x00\x01x\x01y"), ("200",)),
    Row("7541 6.2.3", "a literal that must never be", raw(1, 5, 1, block(GET) + b"\x10\x01x\x01y"), ("200",)),
    # -- RFC 9218: priorities
    Row("9218 7.1", "PRIORITY_UPDATE", HALF + raw(0x10, 0, 0, b"\0\0\0\x01u=1"), ("200",)),
    Row("9218 7.1", "PRIORITY_UPDATE on a stream", raw(0x10, 0, 1, b"\0\0\0\x01u=1"), (PROTOCOL, "ok")),
    Row("9218 7.1", "PRIORITY_UPDATE of stream 0", raw(0x10, 0, 0, b"\0\0\0\0u=1"), (PROTOCOL, "ok")),
    Row("9218 7.1", "PRIORITY_UPDATE of 3 bytes", raw(0x10, 0, 0, b"\0\0\0"), (SIZE, "ok")),
    Row("9218 5", "a Priority field that nobody can read", headers([*GET, ("priority", "u=99, ;;")]), ("200",)),
]  # fmt: skip

OLD = "it keeps to RFC 7540, whose priorities RFC 9113 took back"
LENIENT = "it passes on what it could not frame wrongly; replicas that read it in their own way get it from nobody here"
OWN = "it names the same fault by another code"
DIFFERENCES = {
    "the same on a stream": Differ("a frame of an unknown type must be ignored (5.5)", haproxy=PROTOCOL),
    "HEADERS after END_STREAM": Differ(OWN, haproxy=PROTOCOL),
    "DATA after RST_STREAM": Differ("it ignores what comes for a stream that is closed", nghttpx="ok"),
    "HEADERS after RST_STREAM": Differ("it ignores what comes for a stream that is closed", nghttpx="ok"),
    "CONTINUATION after RST_STREAM": Differ(OWN, haproxy=CLOSED),
    "a number below the last one's": Differ("it ignores the second, and answers the first", nghttpx="200"),
    "more streams than are allowed at once": Differ("it ends the connection, which 5.1.2 allows", nghttpx=PROTOCOL),
    "HEADERS that depend on themselves": Differ(OLD, haproxy=PROTOCOL, nghttpx=PROTOCOL),
    "PRIORITY that depends on itself": Differ(OLD, haproxy=PROTOCOL, nghttpx=PROTOCOL),
    "DATA with padding": Differ("this HAProxy cannot read padding in DATA that ends a stream", haproxy=PROTOCOL),
    "DATA that is all padding": Differ("this HAProxy cannot read padding in DATA that ends a stream", haproxy=PROTOCOL),
    "an acknowledgement too many": Differ("nothing says that it is wrong (6.5.3)", nghttpx=PROTOCOL),
    "a window that SETTINGS make too large": Differ("it does not check that sum", haproxy="ok"),
    "several of them": Differ("it takes an empty HEADERS frame for a wrong size", haproxy=SIZE),
    "a pseudo-field in trailers": Differ(OWN, haproxy="reset INTERNAL_ERROR"),
    ":status in trailers": Differ(OWN, haproxy="reset INTERNAL_ERROR"),
    "Content-Length in trailers": Differ(OWN, haproxy="reset INTERNAL_ERROR"),
    "Transfer-Encoding in trailers": Differ(OWN, haproxy="reset INTERNAL_ERROR"),
    "an upper-case name in trailers": Differ(OWN, haproxy="reset INTERNAL_ERROR"),
    "a Content-Length, and no body": Differ(LENIENT, haproxy="200"),
    "an empty name": Differ(OWN, haproxy=COMPRESSION),
    "a :path with a fragment": Differ(LENIENT, nghttpx="200"),
    ":path * for GET": Differ(LENIENT, haproxy="200"),
    "a :method in lower case": Differ("it knows the methods that there are", nghttpx="501"),
    "the :scheme ftp": Differ(LENIENT, haproxy="200", nghttpx="200"),
    "host unlike :authority": Differ("it takes :authority, and drops host", haproxy="200", nghttpx="200"),
    "host twice": Differ("it takes :authority, and drops host", haproxy="200"),
    "neither :authority nor host": Differ(LENIENT, haproxy="200"),
    "an empty :authority": Differ(LENIENT, haproxy="200"),
    "a user's name in :authority": Differ(LENIENT, haproxy="200", nghttpx="200"),
    "CONNECT": Differ("it passes CONNECT on, and so opens tunnels", haproxy="200", nghttpx="200"),
    ":protocol without CONNECT": Differ("it ignores the stream", haproxy="ok"),
    "a :protocol nobody knows": Differ("it passes any protocol on", haproxy="200"),
    "another expectation": Differ("it leaves that to the replica", haproxy="200", nghttpx="200"),
}
