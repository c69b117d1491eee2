"""Access logs: one line a request, for the services that ask for them (label `essaim.accesslog`).

All workers append to one file; lines are written together, at most half a second late, each write whole lines, so that
workers do not cut each other's. The supervisor opens the file (`log_file.py`), which is out of a worker's reach, and
hands it over. When it cannot be written, lines are dropped and counted; requests never wait for the log.
"""

import os
import re
from collections.abc import Callable
from datetime import UTC, datetime
from random import random

import msgspec

FLUSH_BYTES = 32 << 10


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
    """Collects lines; `flush` is called by the sweeper and when there are many."""

    def __init__(self, chance: Callable[[], float] = random) -> None:
        self.dropped = 0
        self._chance = chance
        self._fd = -1
        self._lines: list[bytes] = []
        self._size = 0

    def hand(self, fd: int) -> None:
        """Write to this file, which is this object's now, from now on."""
        self.flush()
        if self._fd >= 0:
            os.close(self._fd)
        self._fd = fd

    def wants(self, status: int, share: float) -> bool:
        """Whether a request falls into the sample; a server error always does."""
        return status >= 500 or share >= 1 or self._chance() < share

    def add(self, style: str, entry: Entry) -> None:
        line = FORMATS[style](entry)
        self._lines.append(line)
        self._size += len(line)
        if self._size >= FLUSH_BYTES:
            self.flush()

    def flush(self) -> None:
        if not self._lines:
            return
        data, count = b"".join(self._lines), len(self._lines)
        self._lines, self._size = [], 0
        try:
            os.write(self._fd, data)
        except OSError:
            self.dropped += count


def now() -> datetime:
    return datetime.now(UTC)
