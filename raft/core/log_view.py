"""The part of the log that a member holds in memory, and where its durable, committed and applied ends are.

Pure: a list of entries behind `base`. `base` is the index of the last entry that a snapshot has replaced, `base_term`
its term. base <= applied <= committed <= last; durable <= last. Entries up to `committed` are never replaced.
"""

from .entries import Entry


class LogView:
    def __init__(self, base: int = 0, base_term: int = 0, entries: list[Entry] | None = None) -> None:
        self.base, self.base_term = base, base_term
        self._entries: list[Entry] = list(entries or [])
        self.committed = self.applied = base
        self.durable = self.last
        self.taken = self.last  # handed out to be written; what is behind it is still to be written

    @property
    def last(self) -> int:
        return self.base + len(self._entries)

    @property
    def last_term(self) -> int:
        return self._entries[-1].term if self._entries else self.base_term

    def term_at(self, index: int) -> int | None:
        """None if the entry is not in memory."""
        place = index - self.base - 1
        if 0 <= place < len(self._entries):
            return self._entries[place].term
        return self.base_term if place == -1 else None

    def matches(self, index: int, term: int) -> bool:
        return self.term_at(index) == term

    def is_up_to_date(self, last: int, last_term: int) -> bool:
        """Whether a log ending so is at least as new as this one (paper 5.4.1)."""
        return (last_term, last) >= (self.last_term, self.last)

    def slice(self, first: int, last: int, max_bytes: int | None = None) -> list[Entry]:
        """Entries `first..last`, at least one if there is one, at most about `max_bytes` of data."""
        start = first - self.base - 1
        if start < 0:
            raise IndexError(f"entry {first} is not in memory; the log begins after {self.base}")
        found = self._entries[start : last - self.base]
        if max_bytes is not None:
            size = 0
            for count, entry in enumerate(found):
                size += len(entry.data) + 32
                if size > max_bytes and count:
                    return found[:count]
        return found

    def first_of(self, last: int, *, count: int, max_bytes: int) -> int:
        """Where the entries begin that end with `last`, are `count` at most and have at most about `max_bytes`;
        `last` + 1 when that is none."""
        first, size = last + 1, 0
        while first - 1 > max(self.base, last - count):
            size += len(self._entries[first - 2 - self.base].data) + 32
            if size > max_bytes:
                break
            first -= 1
        return first

    def append(self, entries: list[Entry]) -> None:
        """Add at the end (a leader's own)."""
        self._entries.extend(entries)

    def merge(self, entries: list[Entry]) -> int | None:
        """Take a leader's entries, whose predecessor matches; the index from which old ones were dropped, if any."""
        dropped = None
        for place, entry in enumerate(entries):
            if entry.index > self.last:
                self._entries.extend(entries[place:])
                break
            if not self.matches(entry.index, entry.term):
                self.truncate(entry.index)
                dropped = entry.index
                self._entries.extend(entries[place:])
                break
        return dropped

    def truncate(self, first: int) -> None:
        """Drop the entries from `first` on."""
        if first <= self.committed:
            raise AssertionError(f"entry {first} is committed (up to {self.committed}) and would be replaced")
        del self._entries[first - self.base - 1 :]
        self.durable = min(self.durable, first - 1)
        self.taken = min(self.taken, first - 1)

    def conflict_hint(self, index: int, term: int) -> tuple[int, int]:
        """The newest place at or before `index` where a log with `term` there may agree with this one.

        Entries with a higher term than `term` cannot be in that log, so they are all skipped at once.
        """
        index = min(index, self.last)
        while index > self.base and (self.term_at(index) or 0) > term:
            index -= 1
        return index, self.term_at(index) or 0

    def compact(self, index: int) -> None:
        """Forget the entries up to `index`, which are applied and in a durable snapshot."""
        if index <= self.base:
            return
        if index > self.applied:
            raise AssertionError(f"entry {index} is not applied yet (up to {self.applied})")
        term = self.term_at(index)
        assert term is not None
        del self._entries[: index - self.base]
        self.base, self.base_term = index, term

    def restore(self, index: int, term: int) -> None:
        """A snapshot replaces the whole log."""
        self._entries = []
        self.base, self.base_term = index, term
        self.committed = self.applied = self.durable = self.taken = index
