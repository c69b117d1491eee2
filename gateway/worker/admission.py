"""Who is let in when a worker has as many connections as it has room for.

- A new connection takes the place of one that nobody would miss: first of those that have not asked for anything yet
  (no complete head, no TLS handshake, no PROXY header), then of those that rest between two requests, whoever waits
  longest first. Only when there is none is it refused. A client that opens connections and says nothing keeps nobody
  out.
- Connections of layer 4 are never ended for that: what rests there may be a pool of database connections. So once three
  quarters of the room are taken, a source that has a quarter of it gets no more, whatever labels say.
- Looking for places costs nothing until the room is full. Then LOOK connections are looked at, 5 ms of CPU, with each
  pass of the deadlines, and again before that only where the last look has paid.
"""

from collections import deque
from heapq import nsmallest
from itertools import islice
from typing import Protocol, cast
from weakref import WeakSet

from essaim.gateway.runtime.deadlines import Deadlines, Timed
from essaim.gateway.runtime.sources import Source, Sources

LOOK = 20_000
TAKE = 2048
"""So many of them are remembered as places to give."""
PAYS = 32
"""A look at so many for one place is worth its cost at any time."""


class Sparing(Timed, Protocol):
    """A connection that may be ended to make room."""

    def spare(self) -> int | None:
        """How soon: 0 before 1; None while it is in use."""

    def evict(self) -> None:
        """End it."""


class Admission:
    """`room`: connections of clients and to replicas."""

    def __init__(self, deadlines: Deadlines, room: int) -> None:
        self.room = room
        self._sources = WeakSet[Sources]()
        self._over = 0
        self._full = self._evicted = 0
        self._deadlines = deadlines
        self._looked, self._paid = -1.0, False
        self._start = 0
        self._places: deque[tuple[float, Sparing]] = deque()

    def sources(self) -> Sources:
        """Those of one more listener. What a source has at all of them is added up when the room is crowded, instead of
        being counted with each connection."""
        made = Sources(self._is_over)
        self._sources.add(made)
        return made

    def _is_over(self, source: Source) -> bool:
        if len(self._deadlines.members) * 4 < self.room * 3:
            return False
        if sum(one.count(source) for one in self._sources) * 4 <= self.room:
            return False
        self._over += 1
        return True

    def admit(self) -> bool:
        """Whether there is a place for one more connection."""
        if len(self._deadlines.members) < self.room:
            return True
        if self._make_room():
            self._evicted += 1
            return True
        self._full += 1
        return False

    def refused(self) -> dict[str, int]:
        """How many connections were refused for want of room, ended to make room, refused for their source."""
        return {"full": self._full, "evicted": self._evicted, "source": self._over}

    def _make_room(self) -> bool:
        if self._give_place():
            return True
        if self._looked == self._deadlines.now and not self._paid:
            return False
        self._looked = self._deadlines.now
        self._look()
        return self._give_place()

    def _give_place(self) -> bool:
        while self._places:
            deadline, one = self._places.popleft()
            # One that has been in use since has another deadline.
            if one.deadline == deadline and one.spare() is not None and one in self._deadlines.members:
                one.evict()
                # Its end comes with the loop's next turn; it is nobody's place any more.
                self._deadlines.members.discard(one)
                return True
        return False

    def _look(self) -> None:
        members = self._deadlines.members
        start = self._start if self._start < len(members) else 0
        self._start = start + LOOK
        found: list[tuple[int, float, int, Sparing]] = []
        for number, one in enumerate(islice(members, start, start + LOOK)):
            # `isinstance` of a protocol costs ten times as much.
            spare = getattr(one, "spare", None)
            if spare is not None and (rank := spare()) is not None:
                found.append((rank, one.deadline, number, cast("Sparing", one)))
        self._paid = len(found) * PAYS >= min(LOOK, len(members))
        self._places.extend((deadline, one) for _, deadline, _, one in nsmallest(TAKE, found))
