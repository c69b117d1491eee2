"""From one supervisor to the next: workers that go on serving while their daemon is restarted.

A supervisor gives each worker that is to outlive it a listening unix socket, which lies in the state directory; a
worker that loses its supervisor accepts there. The next supervisor connects to each socket it finds and is handed the
listening sockets, and the certificates (the cluster's leader may be away, and nothing of them is on disk); it starts
workers of its own on them, and when those serve, tells the old ones to finish. At no moment is a port without somebody
who accepts. A worker that does not answer the next supervisor hangs, and is ended: it would keep its share of
connections for as long as it lives.

The sockets' directory belongs to the daemon's user alone, as does the state directory: a worker, who is somebody else,
could not make a socket there, and nobody can put one there to be taken for a worker.
"""

import asyncio
import contextlib
import os
import signal
import socket
from collections.abc import Callable
from pathlib import Path

from essaim.cluster.certificates import CertificateBook
from essaim.gateway.protocol.messages import (
    Channel,
    FromWorker,
    Handed,
    HandedBook,
    Message,
    Open,
    Ready,
    Stop,
    ToWorker,
)

TAKE_SECONDS = 5.0
SUFFIX = ".sock"
MODULE = b"essaim.gateway.worker"


def reception(directory: Path, pid: int) -> socket.socket:
    """The listening socket for the worker with this process id. Raises OSError."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    folder = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        # By way of /proc, as the path of a unix socket must be short and a state directory's need not be.
        sock.bind(f"/proc/self/fd/{folder}/{reception_path(directory, pid).name}")
        sock.listen(4)
    except OSError:
        sock.close()
        raise
    finally:
        os.close(folder)
    return sock


def reception_path(directory: Path, pid: int) -> Path:
    return directory / f"worker-{pid}{SUFFIX}"


class Lingering:
    """The worker's side: awaits the next supervisor. `on_connection(socket)` for each."""

    def __init__(self, sock: socket.socket, on_connection: Callable[[socket.socket], None]) -> None:
        self._on_connection = on_connection
        self._socket = sock

    def start(self) -> None:
        asyncio.get_running_loop().add_reader(self._socket.fileno(), self._accept)

    def _accept(self) -> None:
        try:
            connection, _ = self._socket.accept()
        except OSError:
            return
        self._on_connection(connection)

    def stop(self) -> None:
        asyncio.get_running_loop().remove_reader(self._socket.fileno())
        self._socket.close()


class Predecessor:
    """The supervisor's side: one worker of the daemon that was here before."""

    def __init__(self, path: Path, on_open: Callable[[], None]) -> None:
        self.sockets: list[tuple[str, socket.socket]] = []
        self.open: dict[str, int] = {}
        # What it ends TLS with.
        self.book = CertificateBook()
        self.ended = False
        self.pid = int(path.name.removeprefix("worker-").removesuffix(SUFFIX) or 0)
        self._path = path
        self._on_open = on_open
        self._channel: Channel | None = None
        self._ready = asyncio.Event()

    async def take(self) -> bool:
        """Connect and receive its sockets; False when there is nobody any more."""
        loop = asyncio.get_running_loop()
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        directory = os.open(self._path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            await loop.sock_connect(sock, f"/proc/self/fd/{directory}/{self._path.name}")
        except OSError:
            sock.close()
            self._path.unlink(missing_ok=True)
            return False
        finally:
            os.close(directory)
        self._channel = Channel(sock, FromWorker, self._message, self._lost)
        self._channel.start()
        try:
            async with asyncio.timeout(TAKE_SECONDS):
                await self._ready.wait()
        except TimeoutError:
            self._channel.close()
            await asyncio.to_thread(end_worker, self.pid)
            self._path.unlink(missing_ok=True)
            return False
        return not self.ended

    def retire(self, grace: float) -> None:
        """New workers serve: it may finish."""
        if self._channel:
            self._channel.send(Stop(grace))

    def leave(self, *, for_good: bool) -> None:
        """Part from it; `for_good`: no other supervisor is to find it."""
        if self._channel:
            self._channel.close()
        if for_good:
            self._path.unlink(missing_ok=True)

    def _message(self, message: Message, take_fd: Callable[[], int]) -> None:
        match message:
            case Handed():
                self.sockets.append((message.key, socket.socket(fileno=take_fd())))
            case HandedBook():
                certificates = [*self.book.certificates, *message.certificates]
                authorities = [*self.book.authorities, *message.authorities]
                self.book = CertificateBook(certificates=certificates, authorities=authorities)
            case Ready():
                self._ready.set()
            case Open():
                self.open = message.counts
                self._on_open()

    def _lost(self) -> None:
        self.ended = True
        self._path.unlink(missing_ok=True)
        self.open = {}
        self._ready.set()
        self._on_open()


def end_worker(pid: int) -> None:
    """Kill the process if it is a gateway's worker."""
    with contextlib.suppress(OSError):
        process = os.pidfd_open(pid)
        try:
            if MODULE in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0"):
                signal.pidfd_send_signal(process, signal.SIGKILL)
        finally:
            os.close(process)


async def take_over(directory: Path, on_open: Callable[[], None]) -> list[Predecessor]:
    """All workers that linger in the directory, with the sockets that they handed over."""
    found = [Predecessor(path, on_open) for path in _lingering(directory)]
    taken = await asyncio.gather(*(one.take() for one in found))
    return [one for one, alive in zip(found, taken, strict=True) if alive]


def _lingering(directory: Path) -> list[Path]:
    return sorted(directory.glob(f"worker-*{SUFFIX}")) if directory.is_dir() else []


def control_channel(
    sock: socket.socket,
    on_message: Callable[[Message, Callable[[], int]], None],
    on_close: Callable[[], None],
    on_fault: Callable[[Message | None, Exception], None] | None = None,
) -> Channel:
    """A worker's end of the connection with its supervisor."""
    return Channel(sock, ToWorker, on_message, on_close, on_fault)
