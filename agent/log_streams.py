"""Answers the manager's requests for task output, each as its own stream of `LogChunk`s."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

from essaim.cluster.wire import FromAgent, LogChunk, LogRequest

from .runtime import Runtime, RuntimeProblem
from .session import SessionEnded


class LogStreams:
    """Every request gets a last chunk with `end`, with `error` when the output could not be had."""

    def __init__(self, runtime: Runtime, send: Callable[[FromAgent], Awaitable[None]]) -> None:
        self._runtime = runtime
        self._send = send
        self._streams: dict[int, asyncio.Task[None]] = {}

    def open(self, request: LogRequest) -> None:
        stream = asyncio.create_task(self._stream(request), name=f"logs {request.task_id}")
        self._streams[request.request] = stream
        stream.add_done_callback(lambda done: self._streams.pop(request.request, None))

    def cancel(self, request: int) -> None:
        stream = self._streams.get(request)
        if stream is not None:
            stream.cancel()

    async def close(self) -> None:
        """End all streams; the session they belonged to is over."""
        streams = list(self._streams.values())
        for stream in streams:
            stream.cancel()
        await asyncio.gather(*streams, return_exceptions=True)

    async def _stream(self, request: LogRequest) -> None:
        error = ""
        with contextlib.suppress(SessionEnded):
            try:
                async with contextlib.aclosing(self._runtime.logs(request)) as lines:
                    async for line in lines:
                        chunk = LogChunk(request.request, request.task_id, line.stream, line.timestamp, line.line)
                        await self._send(chunk)
            except RuntimeProblem as problem:
                error = str(problem)
            await self._send(LogChunk(request.request, request.task_id, end=True, error=error))
