"""Refused changes: a loop's decision that the store did not take is made anew.

A change is refused because its object has changed since it was read, and the event of that change may have come before
and mean nothing to the loop. So every refused change is shown to the loop as an event of its object as it is now; where
there is no such object, as the end of the one that was to be.

A change that is refused again and again waits, up to MOST seconds: it must not turn a loop into a storm.

Pure: the store in, events out.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import msgspec

from essaim.cluster.changes import Change, Delete, Put
from essaim.cluster.store import Rejected, Store
from essaim.cluster.watch import Event

FREE = 3
"""How often a change may be refused before it waits."""
SHORTEST, MOST = 0.02, 1.0


class Refusals:
    """What one loop has yet to look at again."""

    def __init__(self) -> None:
        self._waiting: dict[tuple[str, str], Any] = {}
        # How often in a row, by service (of tasks) or object: a task that is made anew has another id.
        self._counts: Counter[str] = Counter()

    def take(self, store: Store, proposed: Sequence[Change], rejected: Sequence[Rejected]) -> None:
        """The outcome of one write."""
        refused = {(one.table, one.id) for one in rejected}
        taken: set[str] = set()
        failed: set[str] = set()
        for change in proposed:
            if not isinstance(change, Put | Delete) or change.table not in store.tables:
                continue
            object_id, value = _object_of(change, store)
            whose = getattr(value, "service_id", None) or object_id
            if refused.intersection(((change.table, object_id), ("", ""))) or not object_id:
                self._waiting[change.table, object_id] = value
                failed.add(whose)
            else:
                taken.add(whose)
        for whose in taken:
            self._counts.pop(whose, None)
        self._counts.update(failed)

    def events(self, store: Store) -> list[Event]:
        """To be observed after all events that have come."""
        found: list[Event] = []
        for (table, object_id), value in self._waiting.items():
            current = store.tables[table].get(object_id)
            if current is not None:
                found.append(Event("update", table, current, None))
            elif value is not None:
                found.append(Event("delete", table, value, value))
        self._waiting.clear()
        return found

    @property
    def pause(self) -> float:
        """Seconds to wait before the next decision."""
        if not self._waiting:
            return 0.0
        most = max(self._counts.values(), default=0)
        return 0.0 if most <= FREE else min(SHORTEST * 2 ** min(most - FREE, 10), MOST)

    @property
    def has_counts(self) -> bool:
        """Whether a change that takes effect now is to be told too."""
        return bool(self._counts)

    def clear(self) -> None:
        """The loop takes the store anew."""
        self._waiting.clear()


def _object_of(change: Put | Delete, store: Store) -> tuple[str, Any]:
    """Its id, and the object that was to be, or (to be deleted) is; an empty id for what nobody can read."""
    table = store.tables[change.table]
    if isinstance(change, Delete):
        return change.id, table.get(change.id)
    try:
        value = table.decode(change.object)
    except msgspec.DecodeError:
        return "", None
    return value.id, value
