"""The ClientHello: what a client says before anything is encrypted (RFC 8446, 4.1.2; RFC 5246, 7.4.1.2).

It is read by ourselves, before a TLS library sees it: the name (SNI) and the protocols (ALPN) that it asks for decide
whether TLS is ended here at all, and if so with which certificate and under which rules. Bytes are only looked at,
never changed: whoever takes the connection over gets all of them.

Rules:
- A ClientHello may come in any number of pieces and of records (RFC 8446, 5.1); each byte is looked at once.
- Bounded: `MAX_HELLO` bytes with all record headers. Browsers with post-quantum key shares send some 2 KiB.
- What is not a ClientHello in form is refused here. Whether its contents are acceptable is the TLS library's business.

Rejected: the library's own callback for the name (OpenSSL's): it comes when the handshake has begun, too late to pass
the connection through untouched, and the session tickets would be those of the context that was there first.

Pure: bytes in, a ClientHello out.
"""

from dataclasses import dataclass

MAX_HELLO = 16 << 10
HANDSHAKE = 0x16
CLIENT_HELLO = 1
SERVER_NAME = 0
ALPN = 16
HEADER = 5
MAX_RECORD = 1 << 14


class BadHello(Exception):
    """What was sent begins like TLS and is no ClientHello. `alert` is the TLS alert's number that says so."""

    def __init__(self, reason: str, alert: int = 50) -> None:
        super().__init__(reason)
        self.alert = alert


class NotTls(Exception):
    """The first byte is not that of a TLS handshake."""


@dataclass(frozen=True, slots=True)
class Hello:
    """`name`: the server's name in lower case without a final dot; "" if none was sent. `protocols`: ALPN's."""

    name: str = ""
    protocols: tuple[bytes, ...] = ()


class HelloReader:
    """Fed with what a connection begins with; `data` is all of it."""

    __slots__ = ("_at", "_message", "data")

    def __init__(self) -> None:
        self.data = bytearray()
        # Where the next record begins, and the handshake message as far as the records before it carry it.
        self._at = 0
        self._message = bytearray()

    def feed(self, data: bytes) -> Hello | None:
        """The ClientHello once it is complete, None before. Raises NotTls, BadHello."""
        self.data += data
        if self.data and self.data[0] != HANDSHAKE:
            raise NotTls
        while len(self.data) >= self._at + HEADER:
            found = self._record()
            if found is None:
                break
            if found:
                return parse_hello(bytes(self._message))
        if len(self.data) > MAX_HELLO:
            raise BadHello(f"the ClientHello is longer than {MAX_HELLO} bytes")
        return None

    def _record(self) -> bool | None:
        """Take in the record at `_at`: None when it is not complete, else whether the message is."""
        at, data = self._at, self.data
        if data[at] != HANDSHAKE or data[at + 1] != 3:
            raise BadHello("something else than a handshake record in the ClientHello", 10)
        length = data[at + 3] << 8 | data[at + 4]
        if not 0 < length <= MAX_RECORD:
            raise BadHello("a record of the ClientHello is empty or too long")
        if at == 0 and len(data) > HEADER and data[HEADER] != CLIENT_HELLO:
            raise BadHello("the first message is not a ClientHello", 10)
        if len(data) < at + HEADER + length:
            return None
        self._message += data[at + HEADER : at + HEADER + length]
        self._at = at + HEADER + length
        return len(self._message) >= 4 and len(self._message) >= 4 + int.from_bytes(self._message[1:4])


def parse_hello(message: bytes) -> Hello:
    """A whole handshake message (bytes behind it are not looked at). Raises BadHello.

    Without a reader object for each vector: that took 35 µs for a browser's hello, this takes 9.
    """
    if message[0] != CLIENT_HELLO:
        raise BadHello("the first message is not a ClientHello", 10)
    end = 4 + int.from_bytes(message[1:4])
    data = message[:end]
    name = ""
    protocols: tuple[bytes, ...] = ()
    seen: set[int] = set()
    try:
        # Version and random; session id, ciphers and compressions by their lengths.
        at = 4 + 34
        at += 1 + data[at]
        at += 2 + (data[at] << 8 | data[at + 1])
        at += 1 + data[at]
        if at == end:
            return Hello()
        if at + 2 + (data[at] << 8 | data[at + 1]) != end:
            raise BadHello("the length of the ClientHello's extensions is wrong")
        at += 2
        while at < end:
            kind, start = data[at] << 8 | data[at + 1], at + 4
            at = start + (data[at + 2] << 8 | data[at + 3])
            if at > end:
                raise BadHello("a length in the ClientHello is wrong")
            if kind in seen:
                raise BadHello("an extension of the ClientHello is there twice", 47)
            seen.add(kind)
            if kind == SERVER_NAME:
                name = _server_name(data[start:at])
            elif kind == ALPN:
                protocols = _protocols(data[start:at])
    except IndexError:
        raise BadHello("a length in the ClientHello is wrong") from None
    return Hello(name, protocols)


def _server_name(value: bytes) -> str:
    """RFC 6066, 3: one name of type 0. Names are compared with configured ones and nothing else, so any ASCII without
    NUL will do."""
    length = len(value) - 5
    if length < 1 or value[:5] != bytes((*(length + 3).to_bytes(2), 0, *length.to_bytes(2))):
        raise BadHello("the server name in the ClientHello is not valid")
    text = value[5:].decode("latin-1").lower()
    if not text.isascii() or "\0" in text or length > 255:
        raise BadHello("the server name in the ClientHello is not valid", 47)
    return text.removesuffix(".")


def _protocols(value: bytes) -> tuple[bytes, ...]:
    """RFC 7301, 3.1."""
    end, at, found = len(value), 2, []
    if end < 4 or value[0] << 8 | value[1] != end - 2:
        raise BadHello("the protocols in the ClientHello are not valid")
    while at < end:
        start = at + 1
        at = start + value[at]
        if at > end or at == start:
            raise BadHello("the protocols in the ClientHello are not valid")
        found.append(value[start:at])
    return tuple(found)


def alert(number: int) -> bytes:
    """A fatal alert, in the clear, as it may be sent before the handshake."""
    return bytes((0x15, 3, 1, 0, 2, 2, number))
