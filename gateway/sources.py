"""Connections by source, so that one client cannot have them all. Each worker counts its own.

A source is an IPv4 address, or an IPv6 network of 64 bits: that is what one host or household is given, and any of its
addresses can be had for nothing (RFC 6177).

Pure: addresses in, verdicts out.
"""

from socket import AF_INET6, inet_pton

Source = str | bytes


def source_of(address: str) -> Source:
    """`address` as `plain_address` gives it; what is none is its own source."""
    if ":" not in address:
        return address
    try:
        return inet_pton(AF_INET6, address)[:8]
    except OSError:
        return address


class Sources:
    def __init__(self) -> None:
        self._open: dict[Source, int] = {}

    def enter(self, address: str, limit: int) -> bool:
        """Count a connection; False when the source has more than `limit` (0: no limit). `leave` in either case."""
        source = source_of(address)
        count = self._open[source] = self._open.get(source, 0) + 1
        return not limit or count <= limit

    def leave(self, address: str) -> None:
        source = source_of(address)
        count = self._open.get(source, 0) - 1
        if count > 0:
            self._open[source] = count
        else:
            self._open.pop(source, None)
