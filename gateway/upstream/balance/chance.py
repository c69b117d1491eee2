"""Random choice by weight, and "least time": the better of two random ones, by response time and queue.

Two choices come close to the best of all at the price of two looks, and do not send everybody to the one endpoint that
looks best for a moment (Mitzenmacher, "The Power of Two Choices in Randomized Load Balancing", 2001).

Pure: chance is handed in.
"""

from bisect import bisect_right
from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import Generic

from .policy import T

Chance = Callable[[], float]
"""A number in [0, 1)."""


class Random(Generic[T]):
    def __init__(self, chance: Chance) -> None:
        self._chance = chance
        self._ready: Sequence[T] = ()
        self._bounds: list[int] = []

    def update(self, ready: Sequence[T]) -> None:
        self._ready = ready
        self._bounds = list(accumulate(endpoint.weight for endpoint in ready))

    def pick(self, key: int) -> T:
        return self._ready[bisect_right(self._bounds, self._chance() * self._bounds[-1])]


class LeastTime(Generic[T]):
    """Of two random endpoints the one with the smaller expected wait: response time by requests in progress."""

    def __init__(self, chance: Chance) -> None:
        self._random: Random[T] = Random(chance)
        self._count = 0

    def update(self, ready: Sequence[T]) -> None:
        self._random.update(ready)
        self._count = len(ready)

    def pick(self, key: int) -> T:
        first = self._random.pick(key)
        if self._count == 1:
            return first
        second = self._random.pick(key)
        return first if _wait(first) <= _wait(second) else second


def _wait(endpoint: T) -> float:
    # An endpoint that has not answered yet counts as fast, so that it is tried.
    return (endpoint.load + 1e-6) * (endpoint.open + 1) / endpoint.weight
