"""How much all workers of a node have in progress at one port, for the limit of a service as a whole.

Every worker has a row of its own in shared memory, and only writes there: no lock is needed, and a worker that is
replaced finds its predecessor's row and clears it. A reader sums the rows. Two workers that look at the same moment may
let one more each through than the limit says: the limit protects what is behind, it is not a lock.

Rejected: one shared counter (an increment is not atomic across processes, and a killed worker's share would stay).

Pure: memory in, numbers out.
"""


class SharedLimit:
    """`cells` holds `rows` rows of `width` counters; this worker's is number `row`."""

    def __init__(self, cells: memoryview, width: int, row: int) -> None:
        self._cells = cells
        self._width = width
        self._row = row

    def clear(self) -> None:
        start = self._row * self._width
        self._cells[start : start + self._width] = memoryview(bytearray(4 * self._width)).cast("I")

    def publish(self, slot: int, count: int) -> None:
        """What this worker has in progress at the port with this slot."""
        self._cells[self._row * self._width + slot] = count

    def total(self, slot: int) -> int:
        """What all have."""
        return sum(self._cells[slot :: self._width])


ALONE = SharedLimit(memoryview(bytearray(4)).cast("I"), 1, 0)
"""For a backend that belongs to no worker."""
