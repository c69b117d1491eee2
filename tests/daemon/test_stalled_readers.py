"""Readers that stop reading at every manager: no session breaks, no node is called down, other services are looked
after, memory stays as it was; who goes on reading, or reads while daemons restart, misses no line and gets none twice.

Real daemons: two managers (the leader takes no tasks) and a worker, with a service that writes as fast as a shell can.
"""

import asyncio
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from essaim.api.client import Client
from tests.daemon.processes import Daemon, daemons, init, join
from tests.daemon.test_managers import wait_managers, wait_voters
from tests.lab.wait import eventually_async

pytestmark = [pytest.mark.timeout(180), pytest.mark.blocking_allowed]
WRITE = (
    "i=0; while :; do n=0; while [ $n -lt 20 ]; do i=$((i+1)); n=$((n+1)); "
    "echo $i aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa; done; sleep 0.01; done"
)
HOLD = 6.0
"""Seconds for which readers stand still: twice the silence after which a node is down."""
MOST_MEMORY = 30 << 20
"""Bytes by which a manager may grow meanwhile."""


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[list[Daemon]]:
    async with daemons(tmp_path, 3) as made:
        leader, second, worker = made
        await init(leader)
        await join(second, leader, "Manager")
        await join(worker, leader)
        await wait_managers(leader, {leader.name: True, second.name: True})
        await wait_voters(made[:2])
        for command in (
            ["node", "update", "--availability", "drain", leader.name],
            ["node", "update", "--availability", "drain", second.name],
            ["service", "create", "--detach", "--no-resolve-image", "--name", "chatty", "host", "/bin/sh", "-c", WRITE],
        ):
            done = await asyncio.to_thread(leader.essaim, *command)
            assert done.returncode == 0, done.stderr
        await runs(leader, "chatty")
        yield made


async def runs(manager: Daemon, name: str) -> None:
    async def running() -> bool:
        async with Client(manager.host) as client:
            tasks = await client.get("/tasks", query={"filters": f'{{"service":["{name}"]}}'})
        return [t["Status"]["State"] for t in tasks if t["DesiredState"] == "running"] == ["running"]

    await eventually_async(running, 30, f"{name} runs")


class Reader:
    """`docker service logs --follow` by hand, so that it can stop reading."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self.numbers: list[int] = []

    @classmethod
    async def open(cls, daemon: Daemon, path: str) -> "Reader":
        reader, writer = await asyncio.open_unix_connection(str(daemon.socket), limit=4096)
        writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        head = await reader.readuntil(b"\r\n\r\n")
        assert b" 200 " in head, head
        return cls(reader, writer)

    async def _chunk(self) -> bytes:
        size = int(await self._reader.readline(), 16)
        data = await self._reader.readexactly(size)
        await self._reader.readexactly(2)
        return data

    async def read(self, lines: int) -> None:
        """Take so many lines more, and keep the number that each begins with. A frame comes in a chunk of its own."""
        for _ in range(lines):
            data = await self._chunk()
            assert int.from_bytes(data[4:8], "big") == len(data) - 8
            assert not data[8:].startswith(b"essaim:"), data
            self.numbers.append(int(data[8:].split()[0]))

    def close(self) -> None:
        self._writer.transport.abort()


def memory(daemon: Daemon) -> int:
    """Bytes that the daemon holds."""
    status = Path(f"/proc/{daemon.pid}/status").read_text()
    return next(int(line.split()[1]) << 10 for line in status.splitlines() if line.startswith("VmRSS:"))


def sessions(daemon: Daemon) -> int:
    """How many it has opened with a manager."""
    return daemon.log.read_text().count("session with a manager open")


async def test_readers_that_stand_still_hold_up_nothing_and_miss_nothing(cluster: list[Daemon]) -> None:
    leader, second, _ = cluster
    path = "/services/chatty/logs?follow=1&stdout=1"
    readers = [await Reader.open(daemon, path) for daemon in (leader, second) for _ in range(3)]
    followers = [await Reader.open(daemon, "/events") for daemon in (leader, second)]
    for reader in readers:
        await reader.read(10)
    before = {daemon.name: memory(daemon) for daemon in cluster}
    opened = {daemon.name: sessions(daemon) for daemon in cluster}
    loop = asyncio.get_running_loop()
    until = loop.time() + HOLD
    created = await asyncio.to_thread(
        leader.essaim, "service", "create", "--detach", "--no-resolve-image", "--name", "web", "essaim/whoami"
    )
    assert created.returncode == 0, created.stderr
    await runs(leader, "web")

    async def over() -> bool:
        return loop.time() >= until

    await eventually_async(over, HOLD + 5, "the readers stand still")
    async with Client(leader.host) as client:
        assert {n["Status"]["State"] for n in await client.get("/nodes")} == {"ready"}
    for daemon in cluster:
        assert sessions(daemon) == opened[daemon.name], "a session broke"
        assert memory(daemon) - before[daemon.name] < MOST_MEMORY
    for reader in readers:
        async with asyncio.timeout(30):
            await reader.read(5000)
        assert reader.numbers == list(range(reader.numbers[0], reader.numbers[0] + len(reader.numbers)))
    for reader in (*readers, *followers):
        reader.close()


async def test_followed_output_goes_on_when_the_nodes_daemon_restarts(cluster: list[Daemon]) -> None:
    """In order, and after a crash."""
    leader, second, worker = cluster
    # On a busy machine a start takes longer than a node may be silent by default; nobody waits for a node that is
    # down.
    patient = await asyncio.to_thread(leader.essaim, "swarm", "update", "--dispatcher-heartbeat", "10s")
    assert patient.returncode == 0, patient.stderr
    async with Client(leader.host) as client:
        (task,) = await client.get("/tasks")
    readers = [await Reader.open(d, f"/tasks/{task['ID']}/logs?follow=1&stdout=1") for d in (leader, second)]
    for number in (signal.SIGTERM, signal.SIGKILL):
        for reader in readers:
            await reader.read(200)
        worker.kill(number)
        await worker.start()
        for reader in readers:
            async with asyncio.timeout(60):
                await reader.read(5000)
            assert reader.numbers == list(range(reader.numbers[0], reader.numbers[0] + len(reader.numbers)))
    for reader in readers:
        reader.close()
