"""The supervisor's view of one worker process: started, fed, watched, ended."""

import asyncio
import contextlib
import signal
import socket
import sys
from collections.abc import Callable

from .wire import Applied, Channel, FromWorker, Message, Open, Ready, Stop, Trouble

READY_SECONDS = 20.0


class WorkerProcess:
    """One worker. `on_trouble(endpoint key, reason)`, `on_open()`: what it reports; `on_exit(self)` when it is gone."""

    def __init__(
        self,
        index: int,
        on_trouble: Callable[[str, str], None],
        on_open: Callable[[], None],
        on_exit: Callable[["WorkerProcess"], None],
    ) -> None:
        self.index = index
        self.applied = -1
        self.open: dict[str, int] = {}
        self.progress = asyncio.Event()
        self._on_trouble = on_trouble
        self._on_open = on_open
        self._on_exit = on_exit
        self._process: asyncio.subprocess.Process | None = None
        self._channel: Channel | None = None
        self._ready = asyncio.Event()
        self._watch: asyncio.Task[None] | None = None
        self.ended = False

    @property
    def pid(self) -> int:
        return self._process.pid if self._process else 0

    async def start(self) -> None:
        """Start the process and wait until it listens to us. Raises OSError or TimeoutError."""
        ours, theirs = socket.socketpair()
        try:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "essaim.gateway.worker", str(theirs.fileno()),
                pass_fds=(theirs.fileno(),), stdin=asyncio.subprocess.DEVNULL, start_new_session=True,
            )  # fmt: skip
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        self._channel = Channel(ours, FromWorker, self._message, self._lost)
        self._channel.start()
        self._watch = asyncio.get_running_loop().create_task(self._wait())
        async with asyncio.timeout(READY_SECONDS):
            await self._ready.wait()
        if self.ended:
            raise OSError("the worker process ended as it started")

    def send(self, message: Message, fd: int | None = None) -> None:
        if self._channel and not self.ended:
            self._channel.send(message, fd)

    async def stop(self, grace: float) -> None:
        """Let it finish what is open for `grace` seconds; then it is killed."""
        self.send(Stop(grace))
        if self._watch and not self.ended:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(grace + 1.0):
                    await asyncio.shield(self._watch)
        self.kill()
        if self._watch:
            await self._watch

    def leave(self) -> None:
        """Part from the process without ending it."""
        if self._channel:
            self._channel.close()
        if self._watch:
            self._watch.cancel()

    def kill(self) -> None:
        if self._process and self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(signal.SIGKILL)

    def _message(self, message: Message, take_fd: object) -> None:
        match message:
            case Ready():
                self._ready.set()
            case Applied():
                self.applied = message.version
                self.progress.set()
            case Open():
                self.open = message.counts
                self._on_open()
            case Trouble():
                self._on_trouble(message.endpoint, message.reason)

    def _lost(self) -> None:
        """A worker that cannot be fed is of no use: end it, and another one starts."""
        self.kill()

    async def _wait(self) -> None:
        assert self._process is not None
        await self._process.wait()
        self.ended = True
        if self._channel:
            self._channel.close()
        self._ready.set()
        self.progress.set()
        self._on_exit(self)
