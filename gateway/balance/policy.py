"""Which ready endpoint gets the next request.

The round robin counts in memory that all workers of the node share, so that a client that opens one connection after
the other meets every replica in turn, whichever worker the kernel hands it to. The counter is not locked: two workers
that read it at once repeat a turn, which costs nothing.

Pure: no I/O; the counters are handed in.
"""

from collections.abc import Sequence
from typing import Protocol, TypeVar

MASK = 0xFFFFFFFF


class Loaded(Protocol):
    """What the policies read of an endpoint."""

    key: str
    open: int
    load: float
    weight: int


T = TypeVar("T", bound=Loaded)


class Policy(Protocol[T]):
    def update(self, ready: Sequence[T]) -> None:
        """The endpoints to choose from, in an order that all workers share."""

    def pick(self, key: int) -> T:
        """One of them; `key` is the request's hash, for policies that use one. There is at least one."""


class RoundRobin(Policy[T]):
    def __init__(self, turns: memoryview, turn: int) -> None:
        self._turns = turns
        self._turn = turn
        self._ready: Sequence[T] = ()

    def update(self, ready: Sequence[T]) -> None:
        self._ready = ready

    def pick(self, key: int) -> T:
        turn = self._turns[self._turn]
        self._turns[self._turn] = (turn + 1) & MASK
        return self._ready[turn % len(self._ready)]


class LeastConnections(Policy[T]):
    """Fewest open requests for its weight; among equals, whose turn it is."""

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
            if other.open * best.weight < best.open * other.weight:
                best = other
        return best


POLICIES = {"round_robin": RoundRobin, "least_connections": LeastConnections}


def make_policy(name: str, turns: memoryview, turn: int) -> Policy[T]:
    return POLICIES.get(name, RoundRobin)(turns, turn)
