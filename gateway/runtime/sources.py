"""Connections by source, so that one client cannot have them all. Each worker counts its own.

A source is an IPv4 address, or an IPv6 network of 64 bits: that is what one host or household is given, and any of its
addresses can be had for nothing (RFC 6177).

Pure: addresses in, verdicts out.
"""

from collections.abc import Callable
from functools import lru_cache
from ipaddress import IPv6Address

Source = str | bytes


def source_of(address: str) -> Source:
    """`address` as `plain_address` gives it; what is none is its own source."""
    return address if ":" not in address else _network(address)


@lru_cache(maxsize=4096)
def _network(address: str) -> Source:
    try:
        return IPv6Address(address).packed[:8]
    except ValueError:
        return address


class Sources:
    """`over(source)` is asked for each connection, besides: whether its source may have no more."""

    def __init__(self, over: Callable[[Source], bool] | None = None) -> None:
        self._over = over
        self._open: dict[Source, int] = {}

    def count(self, source: Source) -> int:
        return self._open.get(source, 0)

    def enter(self, address: str, limit: int) -> bool:
        """Count a connection; False when the source has more than `limit` (0: no limit). `leave` in either case."""
        source = address if ":" not in address else _network(address)
        count = self._open[source] = self._open.get(source, 0) + 1
        if self._over is not None and self._over(source):
            return False
        return not limit or count <= limit

    def leave(self, address: str) -> None:
        source = address if ":" not in address else _network(address)
        count = self._open.get(source, 0) - 1
        if count > 0:
            self._open[source] = count
        else:
            self._open.pop(source, None)
