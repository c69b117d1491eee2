"""Real `essaimd` processes on loopback addresses, with the process runtime: no root and no Engine."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

from essaim.api.client import ApiError, Client, Unreachable
from tests.lab.wait import eventually_async
from tests.ports import free_port

BIN = Path(sys.executable).parent
UP = 30.0


class Daemon:
    """One essaimd. `kill` is -9; state and socket stay for the next `start`."""

    def __init__(self, folder: Path, number: int = 1, flags: tuple[str, ...] = ("--runtime", "process")) -> None:
        self.flags = flags
        self.prefix: tuple[str, ...] = ()
        """A command that starts essaimd in its own place (prlimit, setpriv)."""
        self.name = f"node{number}"
        self.address = f"127.0.0.{number}"
        self.cluster_address = f"{self.address}:{free_port(self.address)}"
        self.state = folder / self.name
        self.socket = folder / f"{self.name}.sock"
        self.log = folder / f"{self.name}.log"
        self.host = f"unix://{self.socket}"
        self._process: subprocess.Popen[bytes] | None = None

    async def start(self) -> None:
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(self._command(), stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        await eventually_async(self._answers, UP, f"{self.name} answers; it said:\n{self.log.read_text()}")

    def refuse(self) -> str:
        """Start it expecting that it ends with code 1; what it said."""
        done = subprocess.run(self._command(), stdin=subprocess.DEVNULL, capture_output=True, timeout=UP, check=False)
        assert done.returncode == 1, done.stderr.decode()
        return done.stderr.decode()

    def essaim(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run the command against this daemon."""
        command = [BIN / "essaim", "--host", self.host, *arguments]
        return subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=UP, check=False
        )

    def _command(self) -> list[str | Path]:
        return [
            *self.prefix, BIN / "essaimd", "--state-dir", self.state, "--socket", self.socket, *self.flags,
            "--listen-addr", self.cluster_address, "--advertise-addr", self.cluster_address,
            "--mesh-addr", self.address, "--hostname", self.name, "--gateway-workers", "1",
        ]  # fmt: skip

    async def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, f"{self.name} ended:\n{self.log.read_text()}"
        with contextlib.suppress(Unreachable, ApiError):
            async with Client(self.host) as client:
                await client.get("/_ping")
                return True
        return False

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def kill(self, number: int = signal.SIGKILL) -> None:
        if self._process is not None and self._process.poll() is None:
            os.kill(self._process.pid, number)
        if self._process is not None and number in (signal.SIGKILL, signal.SIGTERM):
            self._process.wait(30)
            self._process = None

    async def ended(self, within: float) -> int:
        """Wait until it has ended by itself; its exit code."""
        process = self._process
        assert process is not None

        async def gone() -> bool:
            return process.poll() is not None

        await eventually_async(gone, within, f"{self.name} ends; it said:\n{self.log.read_text()}")
        self._process = None
        return int(process.returncode)

    @property
    def is_started(self) -> bool:
        return self._process is not None

    def end(self) -> list[int]:
        """kill -9 it and all that came of it; the processes of tasks among these, of which there should be none."""
        if self._process is not None:
            family = [self._process.pid, *descendants(self._process.pid)]
            for pid in family:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            self._process.wait(30)
            self._process = None
        return self.end_tasks()

    def end_tasks(self) -> list[int]:
        """Stop the supervisors of its tasks, which take the tasks along; which there were."""
        mark = str(self.state / "process" / "tasks").encode()
        found = [int(path.parent.name) for path in Path("/proc").glob("[0-9]*/cmdline") if mark in read(path)]
        for pid in found:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)
        return found

    async def remove(self) -> None:
        """End it and everything that it runs."""
        if self._process is None:
            with contextlib.suppress(AssertionError):
                await self.start()
        self.kill(signal.SIGCONT)
        with contextlib.suppress(ApiError, Unreachable, TimeoutError):
            async with asyncio.timeout(20), Client(self.host) as client:
                await client.post("/swarm/leave", query={"force": "1"})
        self.kill(signal.SIGTERM)


def read(path: Path) -> bytes:
    """What a file of /proc holds; nothing once its process has gone."""
    try:
        return path.read_bytes()
    except OSError:
        return b""


def lives(pid: int) -> bool:
    """It exists and is no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[0] != b"Z"
    except OSError:
        return False


def descendants(pid: int) -> list[int]:
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except FileNotFoundError:
        return []
    return [found for child in children for found in (int(child), *descendants(int(child)))]


@contextlib.asynccontextmanager
async def daemons(folder: Path, count: int = 1, *, tasks: bool = True) -> AsyncIterator[list[Daemon]]:
    """Running daemons, outside any swarm. Without `tasks` they run none, and may be ended the quick way."""
    made = [Daemon(folder, number) for number in range(1, count + 1)]
    try:
        for daemon in made:
            await daemon.start()
        yield made
    finally:
        started: list[int] = []
        for daemon in reversed(made):
            if tasks:
                await daemon.remove()
            else:
                started += daemon.end()
        assert not started, "tasks ran: they outlive their daemons, and daemons() must be told to remove them"


async def init(daemon: Daemon) -> None:
    async with Client(daemon.host) as client:
        await client.post(
            "/swarm/init", {"ListenAddr": daemon.cluster_address, "AdvertiseAddr": daemon.cluster_address}
        )


async def join(daemon: Daemon, manager: Daemon, role: str = "Worker") -> None:
    async with Client(manager.host) as client:
        token = (await client.get("/swarm"))["JoinTokens"][role]
    async with Client(daemon.host) as client:
        await client.post("/swarm/join", {"RemoteAddrs": [manager.cluster_address], "JoinToken": token})
