"""Requests out of HTTP/2's fields (RFC 9113, 8): what HTTP/1.1 would have been sent, checked by both protocols' rules.

A request that HTTP/2's own rules forbid is a `StreamFault`, as RFC 9113, 8.1.1 has it; one that is well-formed and
still not served here (a target that is too long, CONNECT) is `Refused` with a status, as in HTTP/1.1. Field lines go
through HTTP/1.1's parser (`http1/head.py`), whose rules about characters, lengths and hops hold here too.

- The authority becomes Host; a Host beside it must be the same (8.3.1). One of them is needed: replicas want it.
- Cookies in several fields are joined (8.2.3).
- A body of unknown length is chunked on the way to a replica, whatever the client says of its length.
- Extended CONNECT (RFC 8441) for a WebSocket is a GET with `upgrade`, as HTTP/1.1 asks for it.

Pure: fields in, requests out; `key` is chance that is passed in.
"""

import re
from typing import NoReturn

from essaim.gateway.codec.http1.head import SLASH, TOKEN, interpret_fields
from essaim.gateway.codec.message import HOST, Refused, Request

from .faults import ErrorCode, StreamFault
from .hpack import Field
from .priority import read_priority

NAME = re.compile(rb"[!#$%&'*+\-.^_`|~0-9a-z]++")
_METHOD = re.compile(TOKEN)
_PATH = re.compile(rb"[!\"$-~\x80-\xff]++")
_BEYOND_ASCII = re.compile(rb"[\x80-\xff]")
PSEUDO = frozenset({b":method", b":scheme", b":authority", b":path", b":protocol"})
OF_THE_CONNECTION = frozenset({
    b"connection", b"proxy-connection", b"keep-alive", b"transfer-encoding", b"upgrade", b"http2-settings",
})  # fmt: skip
"""Fields that no HTTP/2 message may have (RFC 9113, 8.2.2)."""
WEBSOCKET = b"websocket"
VERSION = "HTTP/2.0"
"""As access logs have it."""
WITH_CONTENT = frozenset({b"POST", b"PUT", b"PATCH"})
"""Methods whose requests say so where they have none (RFC 9110, 8.6)."""


def malformed(reason: str) -> StreamFault:
    return StreamFault(ErrorCode.PROTOCOL_ERROR, f"{reason} (RFC 9113, 8)")


def read_request(fields: list[Field], key: bytes, *, complete: bool) -> Request:
    """`complete`: no body follows. `key`: what a WebSocket's `Sec-WebSocket-Key` is to be.

    Raises StreamFault and Refused. The request's `length` is its Content-Length, CHUNKED without one, 0 if `complete`.
    """
    pseudo, regular = _split(fields)
    method, target, upgrade = _control(pseudo)
    names = {name for name, _ in regular}
    cookies = [value for name, value in regular if name == b"cookie"]
    host = _host(pseudo.get(b":authority"), [value for name, value in regular if name == b"host"])
    block = [b"Host: " + host]
    block += [name + b": " + value for name, value in regular if name not in (b"host", b"cookie")]
    if cookies:
        block.append(b"Cookie: " + b"; ".join(cookies))
    if upgrade and complete:
        raise malformed("a WebSocket whose client has ended its side")
    if upgrade:
        block += [b"Connection: upgrade", b"Upgrade: " + upgrade, b"Sec-WebSocket-Key: " + key]
    elif b"content-length" in names:
        pass
    elif not complete:
        block.append(b"Transfer-Encoding: chunked")
    elif method in WITH_CONTENT:
        block.append(b"Content-Length: 0")
    request = Request(method, target, 1)
    interpret_fields(request, b"\r\n".join(block) + b"\r\n")
    if complete and request.length > 0:
        raise malformed("a Content-Length, and no body")
    request.keep_alive, request.version = True, VERSION
    if b"priority" in names:
        request.priority = read_priority(b",".join(value for name, value in regular if name == b"priority"))
    return request


def _split(fields: list[Field]) -> tuple[dict[bytes, bytes], list[Field]]:
    """Pseudo-fields, and the fields that follow them, all of which may stand in a request."""
    pseudo: dict[bytes, bytes] = {}
    for name, value in fields:
        if name[:1] != b":":
            break
        if name in pseudo:
            raise malformed("a pseudo-field twice")
        if name not in PSEUDO:
            raise malformed("a pseudo-field that requests do not have")
        pseudo[name] = value
    regular = fields[len(pseudo) :]
    for name, value in regular:
        check_field(name, value)
    return pseudo, regular


def _control(pseudo: dict[bytes, bytes]) -> tuple[bytes, bytes, bytes]:
    """Method, target, and the protocol that extended CONNECT asks for."""
    method, protocol = pseudo.get(b":method"), pseudo.get(b":protocol")
    if method is None or not _METHOD.fullmatch(method):
        raise malformed("no :method, or one that is not a token")
    if protocol is None:
        if method == b"CONNECT":
            _refuse_connect(pseudo)
        return method, _path(pseudo, method), b""
    if method != b"CONNECT":
        raise malformed(":protocol without CONNECT")
    path = _path(pseudo, method)
    if protocol.lower() != WEBSOCKET:
        raise Refused(501, "the only protocol that CONNECT is served for here is websocket (RFC 8441)")
    return b"GET", path, WEBSOCKET


def _refuse_connect(pseudo: dict[bytes, bytes]) -> NoReturn:
    if b":scheme" in pseudo or b":path" in pseudo or b":authority" not in pseudo:
        raise malformed("CONNECT has :authority, and neither :scheme nor :path")
    raise Refused(501, "CONNECT is not served here")


def _path(pseudo: dict[bytes, bytes], method: bytes) -> bytes:
    scheme, path = pseudo.get(b":scheme"), pseudo.get(b":path")
    if scheme is None or path is None:
        raise malformed("no :scheme or no :path")
    if scheme.lower() not in (b"http", b"https"):
        raise malformed("a :scheme other than http and https")
    if not _PATH.fullmatch(path):
        raise malformed("a :path that is empty or has characters that no path has")
    if path[0] != SLASH and not (path == b"*" and method == b"OPTIONS"):
        raise malformed("a :path that does not begin with /")
    return path if path.isascii() else _BEYOND_ASCII.sub(lambda byte: b"%%%02X" % byte[0][0], path)


def _host(authority: bytes | None, hosts: list[bytes]) -> bytes:
    if len(hosts) > 1:
        raise malformed("more than one host field")
    if authority is not None and b"@" in authority:
        raise malformed("an :authority with the name of a user")
    if authority is not None and hosts and hosts[0].lower() != authority.lower():
        raise malformed("host and :authority differ")
    host = authority if authority is not None else hosts[0] if hosts else None
    if not host or not HOST.fullmatch(host):
        raise malformed("neither :authority nor host, or one that is not a host")
    return host


def check_field(name: bytes, value: bytes) -> None:
    """A field of a request or a trailer section that is no pseudo-field. Raises StreamFault."""
    if not NAME.fullmatch(name):
        raise malformed("a pseudo-field after others" if name[:1] == b":" else "a field name with a wrong character")
    if name in OF_THE_CONNECTION:
        raise malformed(f"the field {name.decode()} of a connection")
    if name == b"te" and value.lower() != b"trailers":
        raise malformed("a te other than trailers")
    if value[:1] in (b" ", b"\t") or value[-1:] in (b" ", b"\t"):
        raise malformed("a field value with white space around it")
    if b"\r" in value or b"\n" in value or b"\0" in value:
        raise malformed("a field value with CR, LF or NUL")


def trailer_lines(fields: list[Field]) -> bytes:
    """A trailer section as HTTP/1.1's lines, each ended by CRLF. Raises StreamFault."""
    for name, value in fields:
        if name[:1] == b":":
            raise malformed("a pseudo-field in a trailer section")
        check_field(name, value)
    return b"".join(b"%b: %b\r\n" % field for field in fields)
