"""Who called, told to the backend: `X-Forwarded-*`, `X-Real-IP` and RFC 7239 `Forwarded`.

What a client claims about earlier hops is believed only when its address is trusted; from anybody else those fields
are removed (see `head.py`) and written anew. X-Real-IP is always written anew: it is the address that
`client_address.py` comes to.

Pure: values in, field lines out.
"""

from collections.abc import Sequence

from essaim.gateway.codec.message import FORWARDED_FOR, Request

SECURE = (b"https", b"wss")
PASSED_ON = (b"x-forwarded-uri", b"x-forwarded-method")
"""Claims of a trusted proxy that the gateway has none of its own for."""


def hops_of(request: Request) -> list[bytes]:
    """The values of X-Forwarded-For, the first field first."""
    return [value for kind, value, _ in request.forwarded if kind == FORWARDED_FOR]


def _node(address: str) -> str:
    """RFC 7239, 6: an IPv6 address is bracketed and quoted."""
    return f'"[{address}]"' if ":" in address else address


def port_of(host: bytes, scheme: bytes) -> bytes:
    """The port that a client asked at, as links have it: that of the authority, else the scheme's own. Which port the
    gateway listens at says nothing of it: a balancer or a port mapping may stand before it."""
    port = host.rpartition(b":")[2] if host[-1:].isdigit() and b":" in host and not host.endswith(b"]") else b""
    return port if port.isdigit() else b"443" if scheme.lower() in SECURE else b"80"


def field_lines(address: str, scheme: str, host: bytes, *, websocket: bool = False) -> bytes:
    """The lines for a request of an untrusted client; `host` is the authority it asked for. A WebSocket's scheme is ws
    or wss, as Traefik has it."""
    spoken = f"ws{scheme[4:]}" if websocket else scheme
    lines = (
        f"X-Forwarded-For: {address}\r\nX-Real-IP: {address}\r\nX-Forwarded-Proto: {spoken}\r\n"
        f"X-Forwarded-Port: {port_of(host, scheme.encode()).decode()}\r\nForwarded: for={_node(address)};proto={scheme}"
    ).encode()
    if not host:
        return lines + b"\r\n"
    return lines + b';host="' + host + b'"\r\nX-Forwarded-Host: ' + host + b"\r\n"


def extended_lines(
    address: str,
    client: str,
    scheme: str,
    host: bytes,
    claimed: Sequence[tuple[int, bytes, bytes]],
    *,
    proven: bool,
    websocket: bool = False,
) -> bytes:
    """The lines for a request that a trusted proxy forwards: its claims stand, its address is appended. `client`: who
    called it.

    `proven`: it had to show a certificate itself, so that what it says of its client's is not passed on.
    """
    hops = [value for kind, value, _ in claimed if kind == FORWARDED_FOR]
    values = {line.partition(b":")[0].lower(): value for _, value, line in claimed}
    out = [b"X-Forwarded-For: " + b", ".join([*hops, address.encode()])]
    out.append(b"X-Real-IP: " + client.encode())
    spoken = values.get(b"x-forwarded-proto", (f"ws{scheme[4:]}" if websocket else scheme).encode())
    out.append(b"X-Forwarded-Proto: " + spoken)
    out.append(b"X-Forwarded-Port: " + values.get(b"x-forwarded-port", port_of(host, spoken)))
    if named := values.get(b"x-forwarded-host", host):
        out.append(b"X-Forwarded-Host: " + named)
    if not proven:
        out += [line for _, _, line in claimed if line[:27].lower() == b"x-forwarded-tls-client-cert"]
    out += [line for _, _, line in claimed if line.partition(b":")[0].lower() in PASSED_ON]
    own = f"for={_node(address)};proto={scheme}".encode()
    chain = [value for _, value, line in claimed if line[:10].lower() == b"forwarded:"]
    out.append(b"Forwarded: " + b", ".join([*chain, own]))
    return b"\r\n".join(out) + b"\r\n"
