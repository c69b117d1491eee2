"""Watches the workers' beats and names those that hang (`heartbeat.py` decides)."""

import asyncio
import contextlib
import os
from collections.abc import Callable

from essaim.gateway.runtime.heartbeat import PERIOD, HangDetector, Reading

from .process import WorkerProcess

NANOSECONDS = 1e-9


class Watch:
    """`on_hung(worker)` is called once for each that does not answer."""

    def __init__(self, on_hung: Callable[[WorkerProcess], None]) -> None:
        self._on_hung = on_hung
        self._pulse = HangDetector[WorkerProcess]()
        self._beats = memoryview(bytearray())
        self._watched: set[WorkerProcess] = set()
        self._task: asyncio.Task[None] | None = None

    def start(self, beats: memoryview) -> None:
        """`beats`: the workers' counters, by their index."""
        self._beats = beats
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def stop(self) -> None:
        if self._task:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        self._beats = memoryview(bytearray())

    def add(self, worker: WorkerProcess) -> None:
        """From now on: it has been told where to count."""
        self._watched.add(worker)

    def discard(self, worker: WorkerProcess) -> None:
        self._watched.discard(worker)

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        last = loop.time()
        while True:
            await asyncio.sleep(PERIOD)
            now = loop.time()
            readings = {
                worker: Reading(self._beats[worker.index], delayed(worker.pid))
                for worker in self._watched
                if not worker.ended
            }
            for worker in self._pulse.tick(now - last, readings):
                self._watched.discard(worker)
                self._on_hung(worker)
            last = now


def delayed(pid: int) -> float:
    """Seconds for which the process's first thread wanted a processor and had none, since it began; 0 where the kernel
    does not count that."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        fd = os.open(f"/proc/{pid}/schedstat", os.O_RDONLY | os.O_CLOEXEC)
        try:
            return int(os.pread(fd, 100, 0).split()[1]) * NANOSECONDS
        finally:
            os.close(fd)
    return 0.0
