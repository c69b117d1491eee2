"""A task's output that goes on where it was when the way to it broke: another session of its node, another leader.

Whoever reads does not notice, but for a pause: what came during it is asked for again, and what was given already is
left out. The place is kept for each stream (stdout, stderr) as the time stamp of the last line, and how many lines of
that stamp were given, since a clock may be coarser than a program is fast.

Given up, with the reason, once the task's node is down or gone, or after PATIENCE seconds.
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from dataclasses import dataclass

from msgspec.structs import replace

from essaim.agent.runtime.process.logs import seconds
from essaim.cluster.errors import Unavailable
from essaim.cluster.wire import LogChunk, LogRequest

PATIENCE = 45.0
"""Seconds without a way to the task's node before a reader is told."""
PAUSE_FIRST, PAUSE_MOST = 0.1, 1.0
OVERLAP = 2.0
"""Seconds before the last line from which on it is read again: the streams' stamps are not in one order."""

Open = Callable[[LogRequest], AsyncIterator[LogChunk]]


@dataclass(slots=True)
class _Place:
    """The last line given of one stream, and how many had its stamp."""

    stamp: str
    count: int


class Cursor:
    """What a reader has been given. `is_new` says of each chunk whether it is to be given too."""

    def __init__(self) -> None:
        self._places: dict[int, _Place] = {}
        self._again: dict[int, _Place] = {}
        self._latest = ""

    def resume(self, request: LogRequest) -> LogRequest:
        """The request for the rest; from now on what was given already is left out."""
        if not self._latest:
            return request
        self._again = {stream: _Place(place.stamp, place.count) for stream, place in self._places.items()}
        return replace(request, tail=-1, since=max(request.since, seconds(self._latest) - OVERLAP))

    def is_new(self, chunk: LogChunk) -> bool:
        stamp = comparable(chunk.timestamp)
        if not stamp:
            return True
        if self._is_known(chunk.stream, stamp):
            return False
        place = self._places.get(chunk.stream)
        if place is not None and place.stamp == stamp:
            place.count += 1
        else:
            self._places[chunk.stream] = _Place(stamp, 1)
        self._latest = chunk.timestamp
        return True

    def _is_known(self, stream: int, stamp: str) -> bool:
        again = self._again.get(stream)
        if again is None:
            return False
        if stamp == again.stamp and again.count:
            again.count -= 1
            if not again.count:
                del self._again[stream]  # everything after this line is new, whatever a clock that was set says
            return True
        if stamp < again.stamp:
            return True
        del self._again[stream]
        return False


def comparable(stamp: str) -> str:
    """An RFC 3339 time in UTC with nine digits of a fraction, so that text compares as time; "" for none."""
    whole, _, fraction = stamp.rstrip("Z").partition(".")
    return f"{whole}.{fraction:0<9}" if whole else ""


async def followed(
    open_: Open,
    request: LogRequest,
    is_there: Callable[[], bool],
    *,
    monotonic: Callable[[], float],
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> AsyncGenerator[LogChunk, None]:
    """The task's output to its end. `is_there`: its node may come back. Raises Unavailable when there is no leader for
    PATIENCE seconds."""
    cursor = Cursor()
    lost_at: float | None = None
    pause = PAUSE_FIRST
    while True:
        problem: LogChunk | Unavailable
        try:
            async with contextlib.aclosing(_closable(open_(cursor.resume(request)))) as chunks:
                async for chunk in chunks:
                    if chunk.end and not chunk.lost:
                        yield chunk
                        return
                    if chunk.lost:
                        problem = chunk
                        break
                    if cursor.is_new(chunk):
                        lost_at, pause = None, PAUSE_FIRST
                        yield chunk
                else:
                    problem = Unavailable("the task's output broke off")
        except Unavailable as error:
            problem = error
        now = monotonic()
        lost_at = now if lost_at is None else lost_at
        if not is_there():
            # The output of this task alone ends, although a leader was lost with its node: other tasks' goes on.
            yield problem if isinstance(problem, LogChunk) else _end_of(request, problem)
            return
        if now - lost_at >= PATIENCE:
            if isinstance(problem, Unavailable):
                raise problem
            yield problem
            return
        await sleep(pause)
        pause = min(pause * 2, PAUSE_MOST)


def _end_of(request: LogRequest, problem: Unavailable) -> LogChunk:
    why = f"the node of task {request.task_id} is down ({problem})"
    return LogChunk(request.request, request.task_id, end=True, error=why, lost=True)


async def _closable(chunks: AsyncIterator[LogChunk]) -> AsyncGenerator[LogChunk, None]:
    try:
        async for chunk in chunks:
            yield chunk
    finally:
        if isinstance(chunks, AsyncGenerator):
            await chunks.aclose()
