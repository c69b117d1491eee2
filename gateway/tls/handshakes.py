"""Connections of a worker that have not said yet what they are: bounded in number and time.

With `MOST` of them the oldest one has to go when another comes: honest clients are done within some round trips, so the
place is taken from who is slow on purpose (slowloris), and never refused to who comes.
"""

from typing import Protocol

from essaim.gateway.runtime.deadlines import Deadlines

MOST = 2048


class Arriving(Protocol):
    deadline: float

    def expire(self) -> None:
        """End the connection."""


class Handshakes:
    """`failures` counts handshakes that failed, or took too long."""

    def __init__(self, deadlines: Deadlines, most: int = MOST) -> None:
        self._deadlines = deadlines
        self._most = most
        self._arriving: dict[Arriving, None] = {}
        self.failures = 0

    def __len__(self) -> int:
        return len(self._arriving)

    def enter(self, one: Arriving) -> None:
        if len(self._arriving) >= self._most:
            oldest = next(iter(self._arriving))
            self.leave(oldest)
            oldest.expire()
        self._arriving[one] = None
        self._deadlines.add(one)

    def leave(self, one: Arriving) -> None:
        """Again has no effect."""
        if self._arriving.pop(one, one) is None:
            self._deadlines.members.discard(one)
