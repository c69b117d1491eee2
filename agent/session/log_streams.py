"""Answers the manager's requests for task output, each as its own stream of `LogChunk`s.

- A stream sends as much as its reader has given credit for, and then waits for more: the task's output stays where the
  runtime keeps it. A manager of an older release gives no credit (0) and is sent everything.
- One chunk at a time leaves, whatever the number of streams, so that a heartbeat waits behind one line and not many.
- Nothing here is waited for by the session: `close` lets go of streams that do not end at once.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

from essaim.agent.runtime.interface import Runtime, RuntimeProblem
from essaim.cluster.wire import FromAgent, LogChunk, LogCredit, LogRequest

from .session import SessionEnded

CLOSE_SECONDS = 1.0
"""How long `close` waits for streams to end: what they read from may not answer."""


class _Stream:
    def __init__(self, request: LogRequest) -> None:
        self.request = request
        self._limited = request.credit > 0
        self._credit = request.credit
        self._more = asyncio.Event()

    def add(self, credit: int) -> None:
        self._credit += credit
        self._more.set()

    async def allowance(self) -> None:
        """Wait until something may be sent."""
        while self._limited and self._credit <= 0:
            self._more.clear()
            await self._more.wait()

    def spend(self, chunk: LogChunk) -> None:
        self._credit -= chunk.cost


class LogStreams:
    """Every request gets a last chunk with `end`, with `error` when the output could not be had."""

    def __init__(self, runtime: Runtime, send: Callable[[FromAgent], Awaitable[None]]) -> None:
        self._runtime = runtime
        self._send = send
        self._turn = asyncio.Lock()
        self._streams: dict[int, _Stream] = {}
        self._tasks: dict[asyncio.Task[None], int] = {}

    def open(self, request: LogRequest) -> None:
        stream = self._streams[request.request] = _Stream(request)
        task = asyncio.create_task(self._run(stream), name=f"logs {request.task_id}")
        self._tasks[task] = request.request
        task.add_done_callback(lambda done: self._ended(done, stream))

    def credit(self, message: LogCredit) -> None:
        stream = self._streams.get(message.request)
        if stream is not None:
            stream.add(message.bytes)

    def cancel(self, request: int) -> None:
        for task, number in self._tasks.items():
            if number == request:
                task.cancel()

    def end(self) -> None:
        """The session that they belonged to is over."""
        self._streams.clear()
        for task in self._tasks:
            task.cancel()

    async def close(self) -> None:
        self.end()
        if self._tasks:
            await asyncio.wait(list(self._tasks), timeout=CLOSE_SECONDS)

    def _ended(self, task: asyncio.Task[None], stream: _Stream) -> None:
        number = self._tasks.pop(task)
        if self._streams.get(number) is stream:
            del self._streams[number]

    async def _run(self, stream: _Stream) -> None:
        request = stream.request
        error = ""
        with contextlib.suppress(SessionEnded):
            try:
                async with contextlib.aclosing(self._runtime.logs(request)) as lines:
                    async for line in lines:
                        chunk = LogChunk(request.request, request.task_id, line.stream, line.timestamp, line.line)
                        await stream.allowance()
                        await self._send_in_turn(chunk)
                        stream.spend(chunk)
            except RuntimeProblem as problem:
                error = str(problem)
            except (OSError, ValueError) as problem:
                error = f"the output could not be read: {problem}"
            await self._send_in_turn(LogChunk(request.request, request.task_id, end=True, error=error))

    async def _send_in_turn(self, chunk: LogChunk) -> None:
        async with self._turn:
            await self._send(chunk)
