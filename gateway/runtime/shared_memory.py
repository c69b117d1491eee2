"""What the workers of a gateway and its supervisor share in memory: one anonymous file, mapped by all of them.

Layout, in unsigned 32-bit cells: the round-robin counters (TURN_SLOTS); a row of TURN_SLOTS counts in progress for each
worker (`shared_limit.py`); one beat counter for each worker (`heartbeat.py`).
"""

import mmap
import os

CELL = 4

TURN_SLOTS = 65_536
"""How many ports have a round-robin counter of their own; beyond, ports share one, which only costs evenness."""


class SharedCells:
    """`turns`, `shared_limits` and `beats` of a gateway with `rows` workers, in the file that `fd` is open to."""

    def __init__(self, fd: int, rows: int) -> None:
        self._memory = mmap.mmap(fd, _size(rows))
        cells = memoryview(self._memory).cast("I")
        rest = cells[TURN_SLOTS:]
        self.turns = cells[:TURN_SLOTS]
        self.shared_limits = rest[: TURN_SLOTS * rows]
        self.beats = rest[TURN_SLOTS * rows :]


def make(rows: int) -> int:
    """A new file for `rows` workers; returns its descriptor. Raises OSError."""
    fd = os.memfd_create("essaim-turns", os.MFD_CLOEXEC)
    os.ftruncate(fd, _size(rows))
    return fd


def _size(rows: int) -> int:
    return CELL * (TURN_SLOTS * (1 + rows) + rows)
