"""Reads the log files that shim.py writes: `log/current` and the older `log/1`, `log/2` ..., a line each
`TIME STREAM TEXT`, with `STREAM+` for a part that is followed by more of its line.

Reading blocks and is done in a thread, a piece at a time.
"""

import asyncio
import contextlib
import os
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

from essaim.agent.runtime.interface import LogLine
from essaim.cluster.wire import LogRequest

LOOK_EVERY = 0.1
"""Seconds between looks for more while following."""
PIECE = 500
"""Lines read in one turn in the thread."""
LINE_MOST = 1 << 20
"""Bytes of a line that are joined; what is longer is handed on in parts."""


def parse(record: bytes) -> tuple[LogLine, bool] | None:
    """The line, or a part of it, and whether more of it follows. None for what is no whole record."""
    stamp, _, rest = record.partition(b" ")
    stream, separator, text = rest.partition(b" ")
    if not separator or stream.removesuffix(b"+") not in (b"1", b"2"):
        return None
    goes_on = stream.endswith(b"+")
    return LogLine(int(stream.removesuffix(b"+")), stamp.decode("ascii", "replace"), text), goes_on


class Joining:
    """Parts of lines, by stream, until their end comes. A line has the time of its first part."""

    def __init__(self) -> None:
        self._begun: dict[int, LogLine] = {}

    def take(self, record: bytes) -> LogLine | None:
        """A line that is whole with this record."""
        parsed = parse(record)
        if parsed is None:
            return None
        line, goes_on = parsed
        begun = self._begun.pop(line.stream, None)
        if begun is not None:
            line = LogLine(line.stream, begun.timestamp, begun.line + line.line)
        if goes_on and len(line.line) < LINE_MOST:
            self._begun[line.stream] = line
            return None
        return line


def seconds(stamp: str) -> float:
    """Seconds since 1970 of an RFC 3339 time with nanoseconds."""
    whole, _, fraction = stamp.rstrip("Z").partition(".")
    return datetime.fromisoformat(whole).replace(tzinfo=UTC).timestamp() + float(f"0.{fraction or 0}")


class LogReader:
    """All lines from the oldest file on; goes on where it was when called again, across rotations."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._file: IO[bytes] | None = None
        self._rest = b""
        self._joining = Joining()

    def read(self) -> list[LogLine]:
        """Up to PIECE more lines; empty when there are none at present."""
        found: list[LogLine] = []
        while len(found) < PIECE:
            if self._file is None and not self._open_first():
                break
            assert self._file is not None
            data = self._file.readline()
            if not data.endswith(b"\n"):
                self._rest += data
                if not self._open_next():
                    break
                continue
            line = self._joining.take((self._rest + data)[:-1])
            self._rest = b""
            if line is not None:
                found.append(line)
        return found

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def _paths(self) -> Iterator[Path]:
        """Oldest first."""
        numbers = sorted((int(p.name) for p in self._directory.glob("[0-9]*") if p.name.isdecimal()), reverse=True)
        yield from (self._directory / str(number) for number in numbers)
        yield self._directory / "current"

    def _open_first(self) -> bool:
        for path in self._paths():
            with contextlib.suppress(FileNotFoundError):
                self._file = path.open("rb")
                return True
        return False

    def _open_next(self) -> bool:
        """Go on with the file that followed this one when it was current; False: it still is the newest."""
        assert self._file is not None
        mine = os.fstat(self._file.fileno()).st_ino
        paths = list(self._paths())
        nodes = [_node(path) for path in paths]
        if nodes[-1] == mine:
            return False
        # A file that fell off the end while it was read: go on with the oldest that is left.
        following = paths[nodes.index(mine) + 1] if mine in nodes else paths[0]
        with contextlib.suppress(FileNotFoundError):
            newer = following.open("rb")
            self.close()
            self._file, self._rest = newer, b""
            return True
        return False


def _node(path: Path) -> int:
    """The file's inode; 0 when there is none."""
    try:
        return path.stat().st_ino
    except FileNotFoundError:
        return 0


def _wanted(request: LogRequest, line: LogLine) -> bool:
    """`tail` counts before this, as with an Engine: it is applied before the choice of streams."""
    if not (request.stdout if line.stream == 1 else request.stderr):
        return False
    at = seconds(line.timestamp) if request.since or request.until else 0.0
    return not (request.since and at < request.since) and not (request.until and at > request.until)


def _last(reader: LogReader, tail: int) -> list[LogLine]:
    """The last `tail` of the lines there are."""
    kept: deque[LogLine] = deque(maxlen=tail)
    while piece := reader.read():
        kept.extend(piece)
    return list(kept)


async def read_logs(
    directory: Path, request: LogRequest, has_ended: Callable[[], bool], sleep: Callable[[float], Awaitable[None]]
) -> AsyncGenerator[LogLine, None]:
    """The lines that the request asks for; with `follow` until `has_ended` and everything was read."""
    reader = LogReader(directory)
    try:
        if request.tail >= 0:
            for line in await asyncio.to_thread(_last, reader, request.tail):
                if _wanted(request, line):
                    yield line
        while request.follow or request.tail < 0:
            ended = has_ended() or not request.follow
            lines = await asyncio.to_thread(reader.read)
            for line in lines:
                if _wanted(request, line):
                    yield line
            if not lines:
                if ended:
                    return
                await sleep(LOOK_EVERY)
    finally:
        reader.close()
