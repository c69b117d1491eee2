"""Access logs: one line a request, for the services that ask for them (label `essaim.accesslog`).

All workers append to one file; lines are written together, at most half a second late, each write whole lines, so that
workers do not cut each other's. The supervisor opens the file (`log_file.py`), which is out of a worker's reach, and
hands it over. When it cannot be written, lines are dropped and counted; requests never wait for the log: a thread
writes, one batch at a time, and a disk that stands still for a while holds up nothing but lines, at most MOST_BYTES.
"""

import asyncio
import contextlib
import os
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from random import random

import msgspec

FLUSH_BYTES = 32 << 10
MOST_BYTES = 4 << 20
"""Of lines that wait for the disk; more are dropped."""


class Entry(msgspec.Struct, frozen=True):
    """One request. `seconds`: from its head to the end of the response; `task`: empty if the gateway answered;
    `user`: who a middleware has found the client to be, if any has. Method, target, host and protocol are empty of one
    that was refused before it was understood."""

    time: datetime
    client: str
    method: str
    target: str
    host: str
    status: int
    seconds: float
    service: str
    task: str
    protocol: str
    user: str = ""


def json_line(entry: Entry) -> bytes:
    return msgspec.json.encode(entry) + b"\n"


def common_line(entry: Entry) -> bytes:
    """The Common Log Format; the number of bytes is not known and a dash."""
    time = entry.time.strftime("%d/%b/%Y:%H:%M:%S %z")
    target = entry.target.replace('"', "%22")
    user = re.sub(r'[\s"\x00-\x1f\x7f]', "_", entry.user) or "-"
    line = f"{entry.method} {target} {entry.protocol}" if entry.method else "-"
    return f'{entry.client} - {user} [{time}] "{line}" {entry.status} -\n'.encode()


FORMATS: dict[str, Callable[[Entry], bytes]] = {"json": json_line, "common": common_line}


class AccessLog:
    """Collects lines; `flush` is called by the deadlines and when there are many."""

    def __init__(self, chance: Callable[[], float] = random) -> None:
        self.dropped = 0
        self._chance = chance
        self._fd = -1
        self._lines: list[bytes] = []
        self._size = 0
        self._thread: ThreadPoolExecutor | None = None
        self._writing: asyncio.Future[int] | None = None

    def hand(self, fd: int) -> None:
        """Write to this file, which is this object's now, from now on."""
        self.flush()
        old, self._fd = self._fd, fd
        if old >= 0:
            # Behind what is being written to it.
            self._pool().submit(os.close, old)

    async def end(self, seconds: float) -> None:
        """Write what is left, if the disk takes it in that time."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while self._writing is not None or self._lines:
                    self.flush()
                    if self._writing is not None:
                        await asyncio.wait([self._writing])

    def wants(self, status: int, share: float) -> bool:
        """Whether a request falls into the sample; a server error always does."""
        return status >= 500 or share >= 1 or self._chance() < share

    def add(self, style: str, entry: Entry) -> None:
        line = FORMATS[style](entry)
        if self._size + len(line) > MOST_BYTES:
            self.dropped += 1
            return
        self._lines.append(line)
        self._size += len(line)
        if self._size >= FLUSH_BYTES:
            self.flush()

    def flush(self) -> None:
        """Begin to write what there is, unless something is being written."""
        if not self._lines or self._writing is not None:
            return
        data, count = b"".join(self._lines), len(self._lines)
        self._lines, self._size = [], 0
        if self._fd < 0:
            self.dropped += count
            return
        self._writing = asyncio.get_running_loop().run_in_executor(self._pool(), os.write, self._fd, data)
        self._writing.add_done_callback(lambda written: self._written(written, count))

    def _written(self, written: "asyncio.Future[int]", count: int) -> None:
        self._writing = None
        if written.cancelled() or written.exception() is not None:
            self.dropped += count
        if self._size >= FLUSH_BYTES:
            self.flush()

    def _pool(self) -> ThreadPoolExecutor:
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, "access log")
        return self._thread


def now() -> datetime:
    return datetime.now(UTC)
