"""The PROXY protocol, versions 1 and 2 (haproxy.org/download/3.0/doc/proxy-protocol.txt): the client's address, told
to a backend at the start of its connection.

Pure: addresses in, bytes out; bytes in, addresses out.
"""

import ipaddress
import struct
from typing import Any

from essaim.gateway.protocol.addresses import plain_address
from essaim.gateway.protocol.numbers import MOST_PORT, whole

SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
LONGEST_V1 = 107


class BadHeader(Exception):
    """What was sent is not a PROXY header."""


def header(version: str, source: Any, destination: Any) -> bytes:
    """The header for a TCP connection between two socket addresses, in version "v1" or "v2"."""
    if not source or not destination:
        return b"PROXY UNKNOWN\r\n" if version == "v1" else SIGNATURE + b"\x20\x00\x00\x00"
    from_ip, to_ip = (ipaddress.ip_address(plain_address(one[0])) for one in (source, destination))
    if from_ip.version != to_ip.version:
        from_ip, to_ip = _as_v6(from_ip), _as_v6(to_ip)
    if version == "v1":
        return f"PROXY TCP{from_ip.version} {from_ip} {to_ip} {source[1]} {destination[1]}\r\n".encode()
    addresses = from_ip.packed + to_ip.packed + struct.pack(">HH", source[1], destination[1])
    family = 0x11 if from_ip.version == 4 else 0x21
    return SIGNATURE + struct.pack(">BBH", 0x21, family, len(addresses)) + addresses


def _as_v6(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> ipaddress.IPv6Address:
    if isinstance(address, ipaddress.IPv6Address):
        return address
    return ipaddress.IPv6Address(f"::ffff:{address}")


def _text(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> str:
    """An IPv4 client of a proxy's dual-stack socket by its IPv4 address, as rules and lists of trust have it."""
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return str(mapped or address)


def read_header(data: bytes) -> tuple[int, tuple[str, int] | None] | None:
    """The length of the header at the start of `data`, and the client's address (None: unknown or a local check).

    Returns None while more bytes are needed. Raises BadHeader.
    """
    if data[: len(SIGNATURE)] == SIGNATURE[: len(data)]:
        return _read_v2(data)
    if data[:6] == b"PROXY "[: len(data)]:
        return _read_v1(data)
    raise BadHeader("no PROXY header")


def _read_v1(data: bytes) -> tuple[int, tuple[str, int] | None] | None:
    end = data.find(b"\r\n", 0, LONGEST_V1)
    if end < 0:
        if len(data) >= LONGEST_V1:
            raise BadHeader("the PROXY line is too long")
        return None
    words = data[:end].decode("ascii", "replace").split(" ")
    if words[:2] == ["PROXY", "UNKNOWN"]:
        return end + 2, None
    if len(words) != 6 or words[1] not in ("TCP4", "TCP6"):
        raise BadHeader("the PROXY line is not valid")
    try:
        address, port = ipaddress.ip_address(words[2]), whole(words[4], 0, MOST_PORT)
        ipaddress.ip_address(words[3])
    except ValueError as error:
        raise BadHeader("the PROXY line is not valid") from error
    if address.version != int(words[1][3]):
        raise BadHeader("the PROXY line is not valid")
    return end + 2, (_text(address), port)


def _read_v2(data: bytes) -> tuple[int, tuple[str, int] | None] | None:
    if len(data) < 16:
        return None
    command, family, length = struct.unpack_from(">BBH", data, 12)
    if command not in (0x20, 0x21) or length > 2048:
        raise BadHeader("the PROXY header is not valid")
    if len(data) < 16 + length:
        return None
    size = {0x11: 4, 0x21: 16}.get(family)
    if command == 0x20 or size is None:
        return 16 + length, None
    if length < 2 * size + 4:
        raise BadHeader("the PROXY header is too short for its addresses")
    (port,) = struct.unpack_from(">H", data, 16 + 2 * size)
    return 16 + length, (_text(ipaddress.ip_address(data[16 : 16 + size])), port)
