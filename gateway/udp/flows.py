"""Which UDP flows a worker keeps when there are more than it has room for.

Anybody can write any source address on a datagram, and each new one is a flow with a socket and a port of its own. So
flows are bounded: in all, and by source (`source_of`).

Rules:
- A flow that a replica has answered goes before one that it has not. With the table full, a new flow takes the place of
  the oldest that was never answered, however often its client wrote; only if all were answered, of the one that rested
  longest. An honest client has its answer within a round trip, and a place that nobody who guesses addresses takes.
- A source with its full share takes from its own flows, in the same order.
- A service may limit its sources' flows (`limit`); beyond that a new flow is refused, and the others stay.

Pure: flows and sources in, verdicts out.
"""

from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)

SHARE = 4
"""A source may have so much of the table: one part of this many."""


@dataclass(slots=True)
class _Queue(Generic[K]):
    """Flows in the order in which they have to go: the dictionaries' order is that of insertion."""

    unanswered: dict[K, None] = field(default_factory=dict)
    answered: dict[K, None] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.unanswered) + len(self.answered)

    def first(self) -> K:
        return next(iter(self.unanswered or self.answered))

    def answer(self, key: K) -> None:
        """It was answered, or used since."""
        self.unanswered.pop(key, None)
        self.answered.pop(key, None)
        self.answered[key] = None

    def drop(self, key: K) -> None:
        self.unanswered.pop(key, None)
        self.answered.pop(key, None)


class FlowTable(Generic[K]):
    """`most` flows in all. `key` names a flow; `group` is whose limit counts (one port of a service)."""

    def __init__(self, most: int) -> None:
        self.most = most
        self._all = _Queue[K]()
        self._places: dict[K, tuple[Hashable, Hashable]] = {}
        self._sources: dict[Hashable, _Queue[K]] = {}
        self._counts: dict[tuple[Hashable, Hashable], int] = {}

    def __len__(self) -> int:
        return len(self._places)

    @property
    def of_one(self) -> int:
        """How many flows one source may have."""
        return max(1, self.most // SHARE)

    def admits(self, source: Hashable, group: Hashable, limit: int) -> bool:
        """Whether a new flow may enter; `limit` 0: none."""
        return self.most > 0 and not (limit and self._counts.get((source, group), 0) >= limit)

    def enter(self, key: K, source: Hashable, group: Hashable) -> K | None:
        """A new flow that may; returns the one that has to end for it, if any, which has left already."""
        place = (source, group)
        mine = self._sources.get(source)
        victim = None
        if mine is not None and len(mine) >= self.of_one:
            victim = mine.first()
        elif len(self._places) >= self.most:
            victim = self._all.first()
        if victim is not None:
            self.leave(victim)
        self._places[key] = place
        self._all.unanswered[key] = None
        self._sources.setdefault(source, _Queue[K]()).unanswered[key] = None
        self._counts[place] = self._counts.get(place, 0) + 1
        return victim

    def answered(self, key: K) -> None:
        """A replica has answered, or a datagram has passed since."""
        source, _ = self._places[key]
        self._all.answer(key)
        self._sources[source].answer(key)

    def leave(self, key: K) -> None:
        """Again has no effect."""
        place = self._places.pop(key, None)
        if place is None:
            return
        self._all.drop(key)
        mine = self._sources[place[0]]
        mine.drop(key)
        if not len(mine):
            del self._sources[place[0]]
        self._counts[place] -= 1
        if not self._counts[place]:
            del self._counts[place]
