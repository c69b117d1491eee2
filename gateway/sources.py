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
    """`everywhere` counts the same connections together with those of other ports, by its own `limit` (0: none), which
    holds while `when()` says so; `refused` is how often it was exceeded."""

    def __init__(
        self, everywhere: "Sources | None" = None, limit: int = 0, when: Callable[[], bool] = lambda: True
    ) -> None:
        self.refused = 0
        self._when = when
        self._everywhere = everywhere
        self._limit = limit
        self._open: dict[Source, int] = {}

    def enter(self, address: str, limit: int) -> bool:
        """Count a connection; False when the source has more than `limit` (0: no limit). `leave` in either case."""
        source = source_of(address)
        count = self._open[source] = self._open.get(source, 0) + 1
        fits = self._everywhere is None or self._everywhere.enter(address, 0)
        if self._limit and count > self._limit and self._when():
            self.refused += 1
            return False
        return fits and (not limit or count <= limit)

    def leave(self, address: str) -> None:
        if self._everywhere is not None:
            self._everywhere.leave(address)
        source = source_of(address)
        count = self._open.get(source, 0) - 1
        if count > 0:
            self._open[source] = count
        else:
            self._open.pop(source, None)
