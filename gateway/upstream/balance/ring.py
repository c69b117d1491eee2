"""Consistent hashing on a ring, with bounded load: the same key meets the same replica, as long as that one is ready
and not overrun; when a replica comes or goes, only its share of the keys moves.

The bound (Mirrokni, Thorup, Zadimoghaddam, "Consistent Hashing with Bounded Loads", 2018): who has more than 1.25 times
the average of requests in progress is passed over for the next on the ring. Maglev's table was weighed and left out: to
fill 65,537 places in Python stalls a worker for tens of milliseconds with each change; a ring of 100 endpoints is
sorted in less than one.

Pure: keys in, endpoint out.
"""

from bisect import bisect_right
from collections.abc import Sequence
from functools import lru_cache
from math import ceil
from typing import Generic

from essaim.gateway.runtime.hashing import hash_key

from .policy import T

POINTS = 64
"""Places on the ring for an endpoint of weight 1; the shares of equal endpoints then differ by a few percent."""
MAX_POINTS = 1024
BOUND = 1.25


@lru_cache(maxsize=4096)
def _places(key: str, count: int) -> tuple[int, ...]:
    return tuple(hash_key(f"{key}#{number}".encode()) for number in range(count))


class Ring(Generic[T]):
    def __init__(self) -> None:
        self._ready: Sequence[T] = ()
        self._places: list[int] = []
        self._owners: list[T] = []

    def update(self, ready: Sequence[T]) -> None:
        self._ready = ready
        points = [
            (place, number)
            for number, endpoint in enumerate(ready)
            for place in _places(endpoint.key, min(POINTS * endpoint.weight, MAX_POINTS))
        ]
        points.sort()
        self._places = [place for place, _ in points]
        self._owners = [ready[number] for _, number in points]

    def pick(self, key: int) -> T:
        count = len(self._owners)
        start = bisect_right(self._places, key)
        owner = self._owners[start % count]
        limit = ceil(BOUND * (sum(endpoint.open for endpoint in self._ready) + 1) / len(self._ready))
        if owner.open < limit:
            return owner
        for step in range(1, count):
            other = self._owners[(start + step) % count]
            if other.open < limit:
                return other
        return owner
