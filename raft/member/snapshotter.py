"""Snapshots of the own state machine: written in the background when one is due, and tried again if that fails."""

import asyncio
import random
from collections.abc import Callable

import structlog

from essaim.raft.core.core import Core
from essaim.raft.core.entries import SnapshotMeta
from essaim.raft.disk.disk import DiskThread
from essaim.raft.disk.storage import Storage

from .options import Options
from .policy import SnapshotPolicy

_log = structlog.get_logger("raft")

LONGEST_PAUSE = 60.0
"""Seconds; a full disk may stay full for hours, and each attempt serialises the whole state."""


def pause_after(failures: int, first: float) -> float:
    """Seconds before the next attempt, when so many have failed in a row."""
    return min(first * 2.0 ** min(failures - 1, 20), max(first, LONGEST_PAUSE))


class Snapshotter:
    """`opened` whenever the log begins anew; tell the policy of what is applied, then ask whether one is `due`."""

    def __init__(self, storage: Storage, disk: DiskThread, options: Options) -> None:
        self._storage, self._disk, self._options = storage, disk, options
        self.policy = SnapshotPolicy()
        self._busy = False
        self._failures = 0  # in a row
        self._after = 0.0  # loop time: the last one could not be written

    def opened(self, size: int) -> None:
        """`size` is that of the newest snapshot on the disk, in bytes."""
        self.policy = self._options.policy()
        self.policy.stagger(random.random())  # noqa: S311 - not a secret
        self.policy.written(size)

    @property
    def due(self) -> bool:
        return self.policy.due and not self._busy and asyncio.get_running_loop().time() >= self._after

    def begin(self) -> None:
        """`take` follows: no other one meanwhile."""
        self._busy = True
        self.policy.begun()

    async def take(
        self, core: Core, meta: SnapshotMeta, serialise: Callable[[], bytes], is_current: Callable[[], bool]
    ) -> None:
        try:
            data = await asyncio.to_thread(serialise)
            await asyncio.to_thread(self._storage.snapshots.write, meta, data)
            await self._disk.run(self._storage.compact)
        except OSError as error:
            self._failures += 1
            pause = pause_after(self._failures, self._options.timing.disk_retry)
            directory = str(self._storage.directory)
            _log.error("cannot write a snapshot yet", directory=directory, error=str(error), again_in_seconds=pause)
            self.policy.failed()
            self._after = asyncio.get_running_loop().time() + pause
            return
        finally:
            self._busy = False
        self._failures = 0
        self.policy.written(len(data))
        if is_current():
            options = self._options
            core.snapshot_saved(meta, keep=options.keep_entries, keep_bytes=options.keep_bytes)
