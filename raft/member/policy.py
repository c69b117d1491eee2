"""When to take a snapshot.

Pure: counts, no clock. Replaying what follows a snapshot costs time at each start, and writing one costs disk in
proportion to the state: the log may grow to a share of the last snapshot's size before the next is taken. What follows
a snapshot is also held in memory, so many bytes count as much as many entries: 50,000 entries of busy services are
100 MB (2 KB each), and a manager of a small cluster grew by that much before its first snapshot.
"""

from dataclasses import dataclass


@dataclass
class SnapshotPolicy:
    """Tell `applied` of every batch; `due` says when the next snapshot is worth its cost."""

    entries: int = 50_000  # fewer are not worth one,
    size: int = 16 << 20  # unless they have so many bytes
    share: float = 1.0  # of the last snapshot's size, which the log must have reached as well
    most: int = 200_000  # entries after which one is taken in any case: bounds the time of a start
    _count: int = 0
    _bytes: int = 0
    _last_size: int = 0
    _before: tuple[int, int] = (0, 0)

    def stagger(self, chance: float) -> None:
        """Shift by up to a third, `chance` being in 0..1: members that apply alike must not all be busy at once."""
        factor = 1 - chance / 3
        self.entries, self.most = int(self.entries * factor), int(self.most * factor)
        self.size = int(self.size * factor)
        self.share *= factor

    def applied(self, entries: int, size: int) -> None:
        self._count += entries
        self._bytes += size

    @property
    def due(self) -> bool:
        if self._count >= self.most:
            return True
        worth = self._count >= self.entries or self._bytes >= self.size
        return worth and self._bytes >= self.share * self._last_size

    def begun(self) -> None:
        """A snapshot was taken: count from here."""
        self._before = (self._count, self._bytes)
        self._count = self._bytes = 0

    def failed(self) -> None:
        """It could not be written: what it would have covered counts again."""
        entries, size = self._before
        self._before = (0, 0)
        self.applied(entries, size)

    def written(self, size: int) -> None:
        self._last_size = size
