"""Active checks of all endpoints from one task: who is due, at most so many at once, and what came of it.

Rules:
- A new endpoint is checked at once. One that traffic found in trouble, too.
- A doubtful outcome is looked at again soon, without waiting for the interval.
- With very many endpoints the interval grows, so that a gateway never does more than MAX_RATE checks a second.
"""

import asyncio
import heapq
from collections.abc import Awaitable, Callable

import structlog

from essaim.gateway.protocol.options import HealthOptions

from .check import check
from .verdict import Verdict

MAX_RATE = 200
MAX_RUNNING = 128
DOUBT_SECONDS = 0.25

Checker = Callable[[HealthOptions, str, int], Awaitable[str | None]]


class Target:
    """One endpoint to check."""

    __slots__ = ("address", "due", "key", "options", "port", "removed", "running", "verdict")

    def __init__(self, key: str, address: str, port: int, options: HealthOptions) -> None:
        self.key = key
        self.address = address
        self.port = port
        self.options = options
        self.verdict = Verdict()
        self.due = 0.0
        self.running = False
        self.removed = False


class Monitor:
    """Checks the targets that it is told of; `on_turn(key, up, reason)` when a verdict turns, or is settled first.

    `checks`: how many were made.
    """

    def __init__(
        self,
        on_turn: Callable[[str, bool, str], None],
        checker: Checker = check,
        log: structlog.BoundLogger | None = None,
    ) -> None:
        self.checks = 0
        self._on_turn = on_turn
        self._checker = checker
        self._log = log or structlog.get_logger()
        self._targets: dict[str, Target] = {}
        self._queue: list[tuple[float, int, Target]] = []
        self._count = 0
        self._running: set[asyncio.Task[None]] = set()
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._loop())

    async def stop(self) -> None:
        tasks = [*self._running, *([self._task] if self._task else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._task = None

    def put(self, key: str, address: str, port: int, options: HealthOptions) -> None:
        """Check it from now on, or otherwise than before; the verdict on one that is known is kept."""
        target = self._targets.get(key)
        if target is None:
            target = self._targets[key] = Target(key, address, port, options)
        elif target.options == options:
            return
        target.options = options
        self._schedule(target, 0.0)

    def drop(self, key: str) -> None:
        """Check it no more."""
        target = self._targets.pop(key, None)
        if target is not None:
            target.removed = True

    def verdict(self, key: str) -> Verdict | None:
        """None for what is not checked here."""
        target = self._targets.get(key)
        return target.verdict if target else None

    def doubt(self, key: str) -> None:
        """Traffic failed there: check now."""
        target = self._targets.get(key)
        if target and not target.running:
            self._schedule(target, 0.0)

    def _schedule(self, target: Target, delay: float) -> None:
        target.due = asyncio.get_running_loop().time() + delay
        self._count += 1
        heapq.heappush(self._queue, (target.due, self._count, target))
        self._wake.set()

    async def _loop(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            self._wake.clear()
            while self._queue and self._queue[0][0] <= loop.time() and len(self._running) < MAX_RUNNING:
                due, _, target = heapq.heappop(self._queue)
                # An entry that a later decision has replaced is skipped.
                if not target.removed and not target.running and due == target.due:
                    target.running = True
                    task = loop.create_task(self._check(target))
                    self._running.add(task)
                    task.add_done_callback(self._finished)
            delay = None
            if self._queue and len(self._running) < MAX_RUNNING:
                delay = max(0.0, self._queue[0][0] - loop.time())
            try:
                async with asyncio.timeout(delay):
                    await self._wake.wait()
            except TimeoutError:
                continue

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        self._wake.set()
        if not task.cancelled() and (error := task.exception()):
            self._log.error("a health check broke", error=repr(error))

    async def _check(self, target: Target) -> None:
        self.checks += 1
        try:
            failure = await self._checker(target.options, target.address, target.port)
        finally:
            target.running = False
        if target.removed:
            return
        was_settled = target.verdict.settled
        turned = target.verdict.observe(failure, target.options)
        interval = max(target.options.interval, len(self._targets) / MAX_RATE)
        self._schedule(target, min(interval, DOUBT_SECONDS) if target.verdict.doubted else interval)
        if turned or target.verdict.settled != was_settled:
            self._on_turn(target.key, target.verdict.up, target.verdict.reason)
