"""Round robin, weighted smoothly: of weights 5, 1, 1 the heavy one is not served five times in a row.

It counts in memory that all workers of the node share, so that a client that opens one connection after the other meets
every replica in turn, whichever worker the kernel hands it to. The counter is not locked: two workers that read it at
once repeat a turn, which costs nothing. For that the order of weighted turns is worked out beforehand (the smooth
algorithm that NGINX made known), instead of step by step in each worker.

Pure: counters in, endpoint out.
"""

from collections.abc import Sequence
from math import gcd
from typing import Generic

from .policy import T

MASK = 0xFFFFFFFF
LONGEST = 2048
"""Turns in a schedule; weights whose sum is greater are scaled down to it."""


class RoundRobin(Generic[T]):
    """`turns[turn]` is the shared counter."""

    def __init__(self, turns: memoryview, turn: int) -> None:
        self._turns = turns
        self._turn = turn
        self._order: Sequence[T] = ()

    def update(self, ready: Sequence[T]) -> None:
        self._order = schedule(ready)

    def pick(self, key: int) -> T:
        turn = self._turns[self._turn]
        self._turns[self._turn] = (turn + 1) & MASK
        return self._order[turn % len(self._order)]


def schedule(ready: Sequence[T]) -> Sequence[T]:
    """One round: every endpoint as often as its weight says, spread as evenly as can be."""
    weights = [endpoint.weight for endpoint in ready]
    if len(set(weights)) <= 1:
        return ready
    total = sum(weights)
    if total > LONGEST:
        weights = [max(1, weight * LONGEST // total) for weight in weights]
    common = gcd(*weights)
    weights = [weight // common for weight in weights]
    total = sum(weights)
    current = [0] * len(weights)
    order: list[T] = []
    for _ in range(total):
        current = [have + weight for have, weight in zip(current, weights, strict=True)]
        best = max(range(len(current)), key=current.__getitem__)
        current[best] -= total
        order.append(ready[best])
    return order
