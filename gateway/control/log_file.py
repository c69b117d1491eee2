"""The access log's file, in the hands of the supervisor: opened once a service asks for a log, and anew when it was
moved away (logrotate), whoever owns what lies there; workers are handed it.

A disk that blocks does not stop the daemon: the file is opened and looked at in a thread.
"""

import asyncio
import contextlib
import os
from collections.abc import Callable
from pathlib import Path

import structlog

NAME = "access.log"
LOOK_SECONDS = 0.5
FLAGS = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC


class LogFile:
    """`on_opened(fd)` is called with each file that is to be written to from then on; the descriptor stays this
    object's, as `fd` (-1: none)."""

    def __init__(self, directory: Path, on_opened: Callable[[int], None], log: structlog.BoundLogger) -> None:
        self.fd = -1
        self._path = directory / NAME
        self._on_opened = on_opened
        self._log = log
        self._failed = ""
        self._task: asyncio.Task[None] | None = None

    async def need(self) -> None:
        """A service asks for a log: from now on there is a file, if there can be one."""
        if self._task is None:
            await self.look()
            self._task = asyncio.get_running_loop().create_task(self._watch())

    async def stop(self) -> None:
        if self._task:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    async def look(self) -> None:
        """Open the file if there is none, or another one lies (or none lies any more) where it was."""
        try:
            found = await asyncio.to_thread(opened_anew, self._path, self.fd)
        except OSError as error:
            if str(error) != self._failed:
                self._log.warning("the access log cannot be written", reason=str(error))
            self._failed = str(error)
            return
        self._failed = ""
        if found != self.fd:
            if self.fd >= 0:
                os.close(self.fd)
            self.fd = found
            self._on_opened(found)

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            await self.look()


def opened_anew(path: Path, fd: int) -> int:
    """`fd` if that is the file at the path, else a descriptor of what lies there, made if need be. Raises OSError."""
    if fd >= 0:
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.stat(path), os.fstat(fd)):
                return fd
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    return os.open(path, FLAGS, 0o640)
