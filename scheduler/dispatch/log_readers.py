"""Readers of tasks' output on the leading manager: where a session puts what arrives, and at what pace more comes.

A session's reading never waits for a reader: `deliver` puts a chunk into the reader's own store and returns. What may
be in that store is bounded by credit: a node sends no more than WINDOW bytes that were not taken yet, and each half
window that the reader has taken is granted anew. So a reader that pauses (a terminal on hold) pauses its own stream on
the node, and nothing else.

A node of an older release knows no credit: a reader that falls more than UNASKED bytes behind is cut off with a reason.

Rejected: a bounded queue that the session's reading waits at, which holds up heartbeats; dropping lines, which nobody
would see.
"""

import asyncio
from collections import deque
from collections.abc import Callable

import msgspec

from essaim.cluster.wire import SESSION, LogCancel, LogChunk, LogCredit, LogRequest, ToAgent

WINDOW = 64 << 10
"""Bytes on their way to one reader: at 20 ms to the node and back still 3 MB/s, and 6 MB for a service of 100 tasks."""
UNASKED = 1 << 20
"""Bytes beyond the window that a reader may be behind before it is cut off."""

LOST = "the connection to the node was lost"
BEHIND = "reading was too slow: the output beyond this line was not kept; read on with --since"


class LogReader:
    """One request's output. `grant(bytes)` allows the node that much more; `cut()` tells it to stop."""

    def __init__(self, task_id: str, grant: Callable[[int], None], cut: Callable[[], None]) -> None:
        self._task_id = task_id
        self._grant = grant
        self._cut = cut
        self._chunks: deque[LogChunk] = deque()
        self._waiting = 0
        self._taken = 0
        self._ended = False
        self._arrived = asyncio.Event()

    def deliver(self, chunk: LogChunk) -> None:
        """Never waits. What comes after the end is dropped."""
        if self._ended:
            return
        if self._waiting > WINDOW + UNASKED:
            self._cut()
            chunk = LogChunk(chunk.request, chunk.task_id, end=True, error=BEHIND)
        self._ended = chunk.end
        self._chunks.append(chunk)
        self._waiting += chunk.cost
        self._arrived.set()

    def lose(self) -> None:
        """The session has ended: nothing more comes of it."""
        if not self._ended:
            self.deliver(LogChunk(0, self._task_id, end=True, error=LOST, lost=True))

    async def next(self) -> LogChunk:
        """The next chunk; the last one has `end`."""
        while not self._chunks:
            self._arrived.clear()
            await self._arrived.wait()
        chunk = self._chunks.popleft()
        self._waiting -= chunk.cost
        self._taken += chunk.cost
        if self._taken >= WINDOW // 2 and not self._ended:
            self._grant(self._taken)
            self._taken = 0
        return chunk


class LogReaders:
    """Those of one session. `send` takes messages for the agent, whose `version` says what it understands."""

    def __init__(self, send: Callable[[ToAgent], None], version: int) -> None:
        self._send = send
        self._credits = version >= SESSION
        self._numbers = 0
        self._readers: dict[int, LogReader] = {}
        self._is_closed = False

    def open(self, request: LogRequest) -> tuple[int, LogReader]:
        """Ask the node, and where its answer arrives; `close_one` with the number is to follow."""
        self._numbers += 1
        number = self._numbers

        def grant(taken: int) -> None:
            if self._credits:
                self._send(LogCredit(number, taken))

        reader = LogReader(request.task_id, grant, lambda: self._send(LogCancel(number)))
        if self._is_closed:
            reader.lose()
            return number, reader
        self._readers[number] = reader
        self._send(msgspec.structs.replace(request, request=number, credit=WINDOW))
        return number, reader

    def deliver(self, chunk: LogChunk) -> None:
        reader = self._readers.get(chunk.request)
        if reader is not None:
            reader.deliver(chunk)
            if chunk.end:
                del self._readers[chunk.request]

    def close_one(self, number: int) -> None:
        """Nobody reads it any more."""
        if self._readers.pop(number, None) is not None:
            self._send(LogCancel(number))

    def close(self) -> None:
        """The session has ended."""
        self._is_closed = True
        readers, self._readers = self._readers, {}
        for reader in readers.values():
            reader.lose()
