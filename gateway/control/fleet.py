"""The worker processes of a gateway: so many are kept alive, and what they say is gathered.

A worker that dies is replaced at once, with a growing pause if it keeps dying. One that hangs (`hung_workers.py`) is
killed: its connections are reset, and what the kernel has queued at its sockets waits for the next one. What a worker
counted until it was last asked is kept.
"""

import asyncio
import contextlib
from collections import Counter
from collections.abc import Awaitable, Callable

import structlog

from essaim.gateway.protocol.messages import Collect, Message, PortCounts
from essaim.gateway.runtime.confinement import Identity
from essaim.gateway.runtime.counters import merge, settled

from .hung_workers import Watch
from .process import WorkerProcess

APPLY_SECONDS = 10.0
"""A worker that does not take a change in for so long is replaced."""
COLLECT_SECONDS = 2.0
PAUSES = (0.0, 0.1, 0.5, 1.0, 2.0, 5.0)
"""Seconds before a worker is started again, by how often it died lately."""
STEADY_SECONDS = 30.0


class Fleet:
    """`greet(worker, admit)` tells a new worker everything, and calls `admit()` at the point from which on it is to be
    told of changes; `on_trouble(endpoint key, reason)` and `on_open()` are what the workers report. `replaced` counts
    workers by why they were: `ended` or `hung`."""

    def __init__(
        self,
        count: int,
        greet: Callable[[WorkerProcess, Callable[[], None]], Awaitable[None]],
        on_trouble: Callable[[str, str], None],
        on_open: Callable[[], None],
        log: structlog.BoundLogger,
    ) -> None:
        self.count = count
        self._greet = greet
        self._on_trouble = on_trouble
        self._on_open = on_open
        self._log = log
        self._workers: dict[int, WorkerProcess] = {}
        self._starting: set[asyncio.Task[None]] = set()
        self._deaths: dict[int, list[float]] = {}
        # Counters of workers that have died.
        self._past: dict[str, PortCounts] = {}
        self._past_handshakes = 0
        self._past_refused = Counter[str]()
        self._collects = 0
        self._stopping = False
        self._identity: Identity | None = None
        self._watch = Watch(self._hung)
        self._problems: set[str] = set()
        self.replaced = Counter[str]()

    @property
    def workers(self) -> list[WorkerProcess]:
        """Those that live and have been told everything, by index."""
        return [worker for _, worker in sorted(self._workers.items())]

    async def start(self, beats: memoryview, identity: Identity | None) -> None:
        """`beats`: where the workers count, by their index; `identity`: who they are to be.

        Raises OSError or TimeoutError when a worker cannot be started.
        """
        self._identity = identity
        self._watch.start(beats)
        await asyncio.gather(*(self._start_worker(index) for index in range(self.count)))

    async def stop(self, grace: float, *, leave: bool) -> None:
        """End them within `grace` seconds, or part from them."""
        self._stopping = True
        await self._watch.stop()
        for task in self._starting:
            task.cancel()
        await asyncio.gather(*self._starting, return_exceptions=True)
        if leave:
            for worker in self.workers:
                worker.leave()
        else:
            await asyncio.gather(*(worker.stop(grace) for worker in self.workers))
        self._workers.clear()

    def broadcast(self, message: Message, fd: int | None = None) -> None:
        for worker in self._workers.values():
            worker.send(message, fd)

    async def applied(self, version: int) -> None:
        """Return when all that live serve by this version; who does not answer is ended, and replaced."""
        for worker in self.workers:
            try:
                await worker.reached(lambda one: one.applied >= version, APPLY_SECONDS)
            except TimeoutError:
                self._hung(worker)

    async def booked(self, number: int) -> None:
        """Return when all that live serve by the certificates sent up to this number; who does not answer is left to
        `applied`."""
        for worker in self.workers:
            with contextlib.suppress(TimeoutError):
                await worker.reached(lambda one: one.booked >= number, APPLY_SECONDS)

    async def counts(self) -> dict[str, PortCounts]:
        """Every port's counters by its key, summed over the workers, the dead ones included."""
        self._collects += 1
        number = self._collects
        self.broadcast(Collect(number))
        for worker in self.workers:
            with contextlib.suppress(TimeoutError):
                await worker.reached(lambda one: one.collected >= number, COLLECT_SECONDS)
        return merge([*self._past.values(), *(port for worker in self.workers for port in worker.counts)])

    @property
    def refused_handshakes(self) -> int:
        """As of the last `counts`."""
        return self._past_handshakes + sum(worker.refused_handshakes for worker in self._workers.values())

    @property
    def refused_connections(self) -> dict[str, int]:
        """By the reason; as of the last `counts`."""
        total = Counter(self._past_refused)
        for worker in self._workers.values():
            total.update(worker.refused_connections)
        return dict(total)

    async def _start_worker(self, index: int) -> None:
        worker = WorkerProcess(index, self._on_trouble, self._on_open, self._ended, self._identity)
        try:
            await worker.start()
            for problem in set(worker.problems) - self._problems:
                self._log.warning("a gateway worker keeps privileges of the daemon", reason=problem)
            self._problems.update(worker.problems)
            await self._greet(worker, lambda: self._admit(worker))
        except BaseException:
            worker.kill()
            raise
        if worker.ended:
            self._restart(index)

    def _admit(self, worker: WorkerProcess) -> None:
        if not worker.ended:
            self._workers[worker.index] = worker

    def watch(self, worker: WorkerProcess) -> None:
        """It has been told where to beat."""
        self._watch.add(worker)

    def _hung(self, worker: WorkerProcess) -> None:
        self._log.error("a gateway worker does not answer and is replaced", pid=worker.pid)
        worker.kill()
        # Not when it has gone: what waits in the kernel is killed when that lets go of it.
        self._replace(worker, "hung")

    def _ended(self, worker: WorkerProcess) -> None:
        self._watch.discard(worker)
        if self._workers.get(worker.index) is worker and not self._stopping:
            self._log.warning("a gateway worker ended and is replaced", pid=worker.pid)
        self._replace(worker, "ended")

    def _replace(self, worker: WorkerProcess, why: str) -> None:
        """One that has not been admitted yet is its starter's concern."""
        if self._stopping or self._workers.get(worker.index) is not worker:
            return
        del self._workers[worker.index]
        self.replaced[why] += 1
        self._past = merge([*self._past.values(), *(settled(port) for port in worker.counts)])
        self._past_handshakes += worker.refused_handshakes
        self._past_refused.update(worker.refused_connections)
        self._restart(worker.index)

    def _restart(self, index: int) -> None:
        if self._stopping:
            return
        task = asyncio.get_running_loop().create_task(self._start_again(index))
        self._starting.add(task)
        task.add_done_callback(self._starting.discard)

    async def _start_again(self, index: int) -> None:
        now = asyncio.get_running_loop().time()
        deaths = [at for at in self._deaths.get(index, []) if now - at < STEADY_SECONDS]
        self._deaths[index] = [*deaths, now]
        await asyncio.sleep(PAUSES[min(len(deaths), len(PAUSES) - 1)])
        try:
            await self._start_worker(index)
        except (OSError, TimeoutError) as error:
            self._log.error("a gateway worker could not be started", reason=str(error))
            self._restart(index)
