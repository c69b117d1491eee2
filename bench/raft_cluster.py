"""Clusters of processes for benches and tests: ours and etcd's. Everything started here is ended here, by id."""

import asyncio
import contextlib
import itertools
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, cast

from raft_member import Frames, frame
from raft_secure import make_authority

HERE = Path(__file__).parent


class HeldPorts:
    """Ports of this machine that stay ours while their servers are not up yet, or restart.

    Each is bound, not listened on, with SO_REUSEADDR: a server may still listen there, and the kernel gives the port to
    nobody else. Without, a connection's own port or another program's took it now and then on a busy machine, and the
    member could not start.
    """

    def __init__(self, count: int) -> None:
        self._sockets = [_bound(0) for _ in range(count)]
        self.numbers: list[int] = [each.getsockname()[1] for each in self._sockets]

    def hold(self) -> None:
        """Again, after `release`."""
        if not self._sockets:
            self._sockets = [_bound(number) for number in self.numbers]

    def release(self) -> None:
        while self._sockets:
            self._sockets.pop().close()


def _bound(port: int) -> socket.socket:
    held = socket.socket()
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        held.bind(("127.0.0.1", port))
    except OSError:
        held.close()
        raise
    return held


class Client(asyncio.Protocol):
    """A connection to one member. `call` raises `ConnectionError` when it breaks, `LogRefused` on an error."""

    def __init__(self) -> None:
        self._frames, self._numbers = Frames(), itertools.count(1)
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self.transport: asyncio.Transport | None = None

    @classmethod
    async def open(cls, port: int) -> "Client":
        _, client = await asyncio.get_running_loop().create_connection(cls, "127.0.0.1", port)
        return client

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop's are none by class

    def data_received(self, data: bytes) -> None:
        for number, ok, value in self._frames.feed(data):
            future = self._waiting.pop(number, None)
            if future is not None and not future.done():
                if ok:
                    future.set_result(value)
                else:
                    future.set_exception(LogRefused(value))

    def connection_lost(self, error: Exception | None) -> None:
        self.transport = None
        for future in self._waiting.values():
            if not future.done():
                future.set_exception(ConnectionResetError("the member is gone"))

    async def call(self, operation: str, payload: Any = None) -> Any:
        if self.transport is None:
            raise ConnectionResetError("the member is gone")
        number = next(self._numbers)
        future = self._waiting[number] = asyncio.get_running_loop().create_future()
        self.transport.write(frame([number, operation, payload]))
        return await future

    def close(self) -> None:
        if self.transport is not None:
            self.transport.abort()


class LogRefused(Exception):
    """The member answered with an error."""


class Cluster:
    """`count` members of ours as processes, by id from 1; `values` and `secure`: see `raft_member`."""

    def __init__(
        self, directory: Path, count: int, *, snapshot_entries: int = 50_000, values: bool = False, secure: bool = False
    ) -> None:
        self._held = HeldPorts(2 * count)
        ports = self._held.numbers
        self.directory, self.snapshot_entries, self.values = directory, snapshot_entries, values
        self.authority = directory / "authority.json" if secure else None
        if self.authority is not None:
            make_authority(self.authority)
        self.ids = list(range(1, count + 1))
        self.addresses = {i: f"127.0.0.1:{ports[i - 1]}" for i in self.ids}
        self.client_ports = {i: ports[count + i - 1] for i in self.ids}
        self.directories = {i: directory / str(i) for i in self.ids}
        self.processes: dict[int, subprocess.Popen[bytes]] = {}

    def start(self, member: int) -> None:
        log = (self.directory / f"{member}.log").open("ab")
        with log:
            self.processes[member] = subprocess.Popen(
                [
                    sys.executable, str(HERE / "raft_member.py"), "--dir", str(self.directories[member]),
                    "--id", str(member), "--client-port", str(self.client_ports[member]), "--found",
                    "--members", ",".join(f"{i}={a}" for i, a in self.addresses.items()),
                    "--snapshot-entries", str(self.snapshot_entries), *(["--values"] if self.values else []),
                    *(["--secure", str(self.authority)] if self.authority else []),
                ],
                stdout=log, stderr=log, env={**os.environ, "PYTHONPATH": str(HERE)},
            )  # fmt: skip

    def start_all(self) -> None:
        self._held.hold()
        for member in self.ids:
            self.start(member)

    def signal(self, member: int, number: signal.Signals) -> None:
        self.processes[member].send_signal(number)
        if number in (signal.SIGKILL, signal.SIGTERM, signal.SIGINT):
            self.processes.pop(member).wait()

    def stop_all(self) -> None:
        for process in self.processes.values():
            process.kill()
        for process in self.processes.values():
            process.wait()
        self.processes.clear()
        self._held.release()

    async def status(self, member: int) -> list[Any] | None:
        """Term, leader, whether that is the member itself, length of its journal; None if it does not answer."""
        try:
            client = await Client.open(self.client_ports[member])
        except OSError:
            return None
        try:
            async with asyncio.timeout(1):
                return list(await client.call("status"))
        except (ConnectionError, TimeoutError):
            return None
        finally:
            client.close()

    async def leader(self, within: float = 60) -> int:
        """The member that leads and says so itself."""
        return (await self.leading(within))[0]

    async def leading(self, within: float = 60) -> tuple[int, int]:
        """The member that leads and says so itself, and in which term."""
        end = time.monotonic() + within
        while time.monotonic() < end:
            for member in list(self.processes):
                status = await self.status(member)
                if status is not None and status[2]:
                    return member, status[0]
            await asyncio.sleep(0.01)
        raise TimeoutError(f"no leader within {within} s; see {self.directory}/*.log")


class Etcd:
    """A cluster of three real etcd members."""

    def __init__(self, directory: Path) -> None:
        self._held = HeldPorts(6)
        ports = self._held.numbers
        self.directory = directory
        self.peers = {f"e{i}": f"http://127.0.0.1:{ports[i]}" for i in range(3)}
        self.clients = {f"e{i}": f"127.0.0.1:{ports[3 + i]}" for i in range(3)}
        self._processes: list[subprocess.Popen[bytes]] = []

    def start_all(self) -> None:
        self._held.hold()
        cluster = ",".join(f"{name}={url}" for name, url in self.peers.items())
        for name, peer in self.peers.items():
            client = f"http://{self.clients[name]}"
            with (self.directory / f"{name}.log").open("wb") as log:
                self._processes.append(
                    subprocess.Popen(
                        [
                            "etcd", "--name", name, "--data-dir", str(self.directory / name),
                            "--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer,
                            "--listen-client-urls", client, "--advertise-client-urls", client,
                            "--initial-cluster", cluster, "--initial-cluster-state", "new",
                        ],
                        stdout=log, stderr=log, env={**os.environ, "ETCD_UNSUPPORTED_ARCH": ""},
                    )
                )  # fmt: skip

    def leader(self, within: float = 60) -> str:
        """The client address of the leader."""
        end = time.monotonic() + within
        while time.monotonic() < end:
            for address in self.clients.values():
                with contextlib.suppress(subprocess.SubprocessError):
                    line = subprocess.run(
                        ["etcdctl", "--endpoints", address, "endpoint", "status", "-w", "fields"],
                        capture_output=True, text=True, check=True, timeout=5, env={**os.environ, "ETCDCTL_API": "3"},
                    ).stdout  # fmt: skip
                    fields = dict(each.split(" : ") for each in line.splitlines() if " : " in each)
                    if fields['"Leader"'] == fields['"MemberID"'] != "0":
                        return address
            time.sleep(0.1)
        raise TimeoutError(f"etcd has no leader within {within} s; see {self.directory}/*.log")

    def stop_all(self) -> None:
        for process in self._processes:
            process.kill()
        for process in self._processes:
            process.wait()
        self._processes.clear()
        self._held.release()
