"""The supervisor's view of one worker process: started, fed, watched, ended.

`posix_spawn` and a pidfd instead of asyncio's subprocesses: those kill their process when the object goes away, and a
worker is to outlive its daemon (see `handover.py`).
"""

import asyncio
import contextlib
import os
import signal
import socket
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from essaim.gateway.protocol.messages import (
    Applied,
    Booked,
    Channel,
    Counts,
    Faulty,
    FromWorker,
    Message,
    NextSupervisor,
    Open,
    PortCounts,
    Ready,
    Stop,
    Trouble,
)
from essaim.gateway.runtime.confinement import Identity
from essaim.gateway.runtime.handover import reception, reception_path

READY_SECONDS = 20.0
KEPT = (
    "PATH", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "LD_LIBRARY_PATH", "OPENSSL_CONF", "SSL_CERT_FILE", "SSL_CERT_DIR",
)  # fmt: skip
"""What a worker finds of the daemon's environment, beside what concerns the interpreter (`PYTHON...`)."""


class WorkerProcess:
    """One worker. `on_trouble(endpoint key, reason)`, `on_open()`: what it reports; `on_exit(self)` when it is gone.

    `identity`: who it becomes before it serves. `problems`: what it could not give up of the daemon's privileges.
    """

    def __init__(
        self,
        index: int,
        on_trouble: Callable[[str, str], None],
        on_open: Callable[[], None],
        on_exit: Callable[["WorkerProcess"], None],
        identity: Identity | None = None,
    ) -> None:
        self.index = index
        self.identity = identity
        self.problems: list[str] = []
        self.applied = -1
        self.open: dict[str, int] = {}
        self.counts: list[PortCounts] = []
        self.collected = 0
        self.refused_handshakes = 0
        self.refused_connections: dict[str, int] = {}
        self.booked = 0
        # What it cannot do of what it was told, by service ("": it cannot tell whose it is).
        self.faults: dict[str, str] = {}
        self.progress = asyncio.Event()
        self._on_trouble = on_trouble
        self._on_open = on_open
        self._on_exit = on_exit
        self.pid = 0
        self._pidfd = -1
        self._reception: Path | None = None
        self._channel: Channel | None = None
        self._ready = asyncio.Event()
        self._exited = asyncio.Event()

    @property
    def ended(self) -> bool:
        return self._exited.is_set()

    async def start(self) -> None:
        """Start the process and wait until it listens to us. Raises OSError or TimeoutError."""
        ours, theirs = socket.socketpair()
        try:
            self.pid = _spawn(theirs, self.identity)
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        self._pidfd = os.pidfd_open(self.pid)
        asyncio.get_running_loop().add_reader(self._pidfd, self._exit)
        self._channel = Channel(ours, FromWorker, self._message, self._lost)
        self._channel.start()
        async with asyncio.timeout(READY_SECONDS):
            await self._ready.wait()
        if self.ended:
            raise OSError("the worker process ended as it started")

    def send(self, message: Message, fd: int | None = None) -> None:
        if self._channel and not self.ended:
            self._channel.send(message, fd)

    def let_outlive(self, directory: Path) -> None:
        """Give it the socket on which it is to await the next supervisor. Raises OSError."""
        with reception(directory, self.pid) as listening:
            self._reception = reception_path(directory, self.pid)
            self.send(NextSupervisor(), listening.fileno())

    async def reached(self, condition: Callable[["WorkerProcess"], bool], seconds: float) -> None:
        """Wait until its reports satisfy the condition, or it has ended. Raises TimeoutError."""
        async with asyncio.timeout(seconds):
            while not condition(self) and not self.ended:
                self.progress.clear()
                await self.progress.wait()

    async def stop(self, grace: float) -> None:
        """Let it finish what is open for `grace` seconds; then it is killed."""
        self.send(Stop(grace))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(grace + 1.0):
                await self._exited.wait()
        self.kill()
        await self._exited.wait()

    def leave(self) -> None:
        """Part from the process without ending it."""
        if self._channel:
            self._channel.close()
        self._close_pidfd()

    def kill(self) -> None:
        if self._pidfd >= 0:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)

    def _message(self, message: Message, take_fd: object) -> None:
        match message:
            case Ready():
                self.problems = message.problems
                self._ready.set()
            case Applied():
                self.applied = message.version
                self.progress.set()
            case Booked():
                self.booked = message.number
                self.progress.set()
            case Counts():
                self.counts, self.collected = message.ports, message.number
                self.refused_handshakes = message.refused_handshakes
                self.refused_connections = message.refused_connections
                self.progress.set()
            case Open():
                self.open = message.counts
                self._on_open()
            case Faulty():
                self.faults.pop(message.service, None)
                if message.reason:
                    self.faults[message.service] = message.reason
            case Trouble():
                self._on_trouble(message.endpoint, message.reason)

    def _lost(self) -> None:
        """A worker that cannot be fed is of no use: end it, and another one starts."""
        self.kill()

    def _exit(self) -> None:
        self._close_pidfd()
        with contextlib.suppress(ChildProcessError):
            os.waitpid(self.pid, os.WNOHANG)
        self._exited.set()
        if self._reception is not None:
            asyncio.get_running_loop().run_in_executor(None, self._reception.unlink, True)
        if self._channel:
            self._channel.close()
        self._ready.set()
        self.progress.set()
        self._on_exit(self)

    def _close_pidfd(self) -> None:
        if self._pidfd >= 0:
            asyncio.get_running_loop().remove_reader(self._pidfd)
            os.close(self._pidfd)
            self._pidfd = -1


def _spawn(control: socket.socket, identity: Identity | None) -> int:
    """Start a worker with its end of the control connection; returns its process id."""
    control.set_inheritable(True)
    # -P: what lies in the daemon's working directory is not a module.
    command = [sys.executable, "-P", "-m", "essaim.gateway.worker", str(control.fileno()), str(identity or "")]
    no_input = (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0)
    # A session of its own: a terminal's Ctrl-C is the daemon's to handle.
    return os.posix_spawn(sys.executable, command, environment(os.environ), setsid=True, file_actions=[no_input])


def environment(daemons: Mapping[str, str]) -> dict[str, str]:
    """A worker's: the daemon's may hold what is nobody else's business."""
    return {name: value for name, value in daemons.items() if name in KEPT or name.startswith("PYTHON")}
