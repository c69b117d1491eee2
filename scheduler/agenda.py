"""What a loop has yet to look at: keys that changed, and keys to look at again at a given time.

Pure: the time comes in.
"""

import heapq
from datetime import datetime


class Agenda:
    """Each key is due at most once; a key that is added while it waits for its time is due at once."""

    def __init__(self) -> None:
        self._due: dict[str, None] = {}
        self._timers: list[tuple[datetime, str]] = []
        self._when: dict[str, datetime] = {}

    def clear(self) -> None:
        self._due.clear()
        self._timers.clear()
        self._when.clear()

    def add(self, key: str) -> None:
        self._due[key] = None

    def at(self, when: datetime, key: str) -> None:
        """Look at the key at `when`; the earliest of several times counts."""
        known = self._when.get(key)
        if known is None or when < known:
            self._when[key] = when
            heapq.heappush(self._timers, (when, key))

    def take(self, now: datetime, limit: int) -> list[str]:
        """Up to `limit` keys that are due, in the order in which they became so; their timers are forgotten."""
        while self._timers and self._timers[0][0] <= now:
            when, key = heapq.heappop(self._timers)
            if self._when.get(key) == when:
                self._due[key] = None
        keys = list(self._due)[:limit]
        for key in keys:
            del self._due[key]
            self._when.pop(key, None)
        return keys

    @property
    def has_due(self) -> bool:
        return bool(self._due)

    def next_time(self) -> datetime | None:
        """When the earliest timer is due."""
        while self._timers and self._when.get(self._timers[0][1]) != self._timers[0][0]:
            heapq.heappop(self._timers)
        return self._timers[0][0] if self._timers else None
