"""Fewest requests in progress for its weight; among equals, whose turn it is.

Counts are this worker's own: over many requests the kernel spreads connections evenly over workers, so that the least
loaded here is the least loaded of all.

Pure: counters in, endpoint out.
"""

from collections.abc import Sequence
from typing import Generic

from .policy import T
from .round_robin import MASK


class LeastConnections(Generic[T]):
    def __init__(self, turns: memoryview, turn: int) -> None:
        self._turns = turns
        self._turn = turn
        self._ready: Sequence[T] = ()

    def update(self, ready: Sequence[T]) -> None:
        self._ready = ready

    def pick(self, key: int) -> T:
        start = self._turns[self._turn]
        self._turns[self._turn] = (start + 1) & MASK
        count = len(self._ready)
        best = self._ready[start % count]
        for step in range(1, count):
            other = self._ready[(start + step) % count]
            if (other.open + 1) * best.weight < (best.open + 1) * other.weight:
                best = other
        return best
