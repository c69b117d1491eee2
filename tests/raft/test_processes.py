"""Members as real processes on loopback, under a constant load of writes and reads, while they are killed and stopped.

Every acknowledged write has to be on every member in the end, none twice, and reads never go back in time.
"""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "bench"))
from failover import settled
from raft_cluster import Client, Cluster, LogRefused

pytestmark = [pytest.mark.timeout(600), pytest.mark.blocking_allowed]

DEADLINE = 120.0  # seconds; far beyond what a busy machine needs


class Load:
    """Writers and readers, each on one member; they reconnect, and never repeat a write whose outcome is unknown."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.acknowledged: set[bytes] = set()
        self.longest_seen = 0
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        for number in range(8):
            member = self.cluster.ids[number % len(self.cluster.ids)]
            self._tasks.append(asyncio.create_task(self._write(number, member)))
        for member in self.cluster.ids:
            self._tasks.append(asyncio.create_task(self._read(member)))

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        results = await asyncio.gather(*self._tasks, return_exceptions=True)
        for result in results:
            if isinstance(result, Exception):
                raise result

    async def more(self, count: int) -> None:
        """Wait until so many more writes are acknowledged."""
        goal = len(self.acknowledged) + count
        async with asyncio.timeout(DEADLINE):
            while len(self.acknowledged) < goal:
                await asyncio.sleep(0.01)

    @asynccontextmanager
    async def _client(self, member: int) -> AsyncIterator[Client]:
        while True:
            try:
                client = await Client.open(self.cluster.client_ports[member])
                break
            except OSError:
                await asyncio.sleep(0.05)
        try:
            yield client
        finally:
            client.close()

    async def _write(self, number: int, member: int) -> None:
        count = 0
        while True:
            async with self._client(member) as client:
                with contextlib.suppress(ConnectionError):
                    while True:
                        count += 1
                        command = b"%d-%d" % (number, count)
                        try:
                            await client.call("write", command)
                        except LogRefused:
                            await asyncio.sleep(0.02)
                            continue
                        self.acknowledged.add(command)

    async def _read(self, member: int) -> None:
        """The journal only grows: a read that begins after another has ended must not see a shorter one."""
        while True:
            async with self._client(member) as client:
                with contextlib.suppress(ConnectionError):
                    while True:
                        before = self.longest_seen
                        try:
                            length = await client.call("read")
                        except LogRefused:
                            await asyncio.sleep(0.02)
                            continue
                        assert length >= before, f"member {member} read {length} after {before} was seen"
                        self.longest_seen = max(self.longest_seen, length)
                        await asyncio.sleep(0.005)

    async def check(self) -> None:
        """All members equal, every acknowledged write there once."""
        await settled(self.cluster, DEADLINE)
        async with asyncio.timeout(DEADLINE):
            while True:
                journals = [await self._journal(member) for member in self.cluster.ids]
                longest = max(journals, key=len)
                for member, journal in zip(self.cluster.ids, journals, strict=True):
                    assert journal == longest[: len(journal)], f"the journal of member {member} is another one"
                if all(len(journal) == len(longest) for journal in journals):
                    break  # else a write of a client that has gone was still on its way
        assert len(set(longest)) == len(longest), "a write was applied twice"
        assert self.acknowledged <= set(longest)

    async def _journal(self, member: int) -> list[bytes]:
        async with self._client(member) as client:
            return list(await client.call("dump", 0))


@asynccontextmanager
async def under_load(directory: Path, count: int, **options: int) -> AsyncIterator[tuple[Cluster, Load]]:
    cluster = Cluster(directory, count, **options)
    load = Load(cluster)
    cluster.start_all()
    try:
        await settled(cluster, DEADLINE)
        load.start()
        await load.more(50)
        yield cluster, load
        await load.stop()
        await load.check()
    finally:
        cluster.stop_all()
        for _ in range(5):  # connections that were aborted are closed in the loop's next turns
            await asyncio.sleep(0)


@pytest.mark.parametrize("count", [3, 5])
async def test_processes_leader_killed_again_and_again_loses_nothing(tmp_path: Path, count: int) -> None:
    async with under_load(tmp_path, count, snapshot_entries=500) as (cluster, load):
        for _ in range(3):
            leader = await cluster.leader()
            cluster.signal(leader, signal.SIGKILL)
            await load.more(100)
            cluster.start(leader)
            await load.more(100)


async def test_processes_leader_stopped_and_continued_steps_down(tmp_path: Path) -> None:
    async with under_load(tmp_path, 3) as (cluster, load):
        leader, term = await cluster.leading()  # of one moment: whoever else leads later does so in a later term
        cluster.signal(leader, signal.SIGSTOP)
        others = [i for i in cluster.ids if i != leader]
        async with asyncio.timeout(DEADLINE):
            while True:
                status = await cluster.status(others[0])
                if status is not None and status[0] > term and status[1] in others:
                    break
                await asyncio.sleep(0.05)
        cluster.signal(leader, signal.SIGCONT)
        await load.more(100)


async def test_processes_rolling_restart_of_all_loses_nothing(tmp_path: Path) -> None:
    async with under_load(tmp_path, 3) as (cluster, load):
        for member in cluster.ids:
            cluster.signal(member, signal.SIGTERM)
            await load.more(30)
            cluster.start(member)
            await caught_up(cluster, member)


async def test_processes_all_killed_at_once_lose_nothing(tmp_path: Path) -> None:
    async with under_load(tmp_path, 3, snapshot_entries=300) as (cluster, load):
        await load.more(500)
        for member in cluster.ids:
            cluster.signal(member, signal.SIGKILL)
        cluster.start_all()
        await load.more(100)


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="mounts a small file system")
async def test_processes_full_disk_stops_one_member_until_there_is_space(tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=80m", "essaim-raft-test", str(small)], check=True)
    try:
        cluster = Cluster(tmp_path, 3)
        cluster.directories[2] = small / "member"
        load = Load(cluster)
        cluster.start_all()
        try:
            await settled(cluster, DEADLINE)
            load.start()
            await load.more(50)
            filler = small / "filler"
            with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
                while True:
                    file.write(bytes(1 << 20))
            big = [asyncio.create_task(write_much(cluster, n)) for n in range(4)]
            await asyncio.gather(*big)  # more than a segment: the full member needs a new one
            async with asyncio.timeout(DEADLINE):
                while (status := await cluster.status(2)) is None or status[1]:
                    await asyncio.sleep(0.05)
            await load.more(50)
            filler.unlink()
            await load.more(50)
            await load.stop()
            await load.check()
        finally:
            cluster.stop_all()
    finally:
        subprocess.run(["umount", "-l", str(small)], check=True)


async def write_much(cluster: Cluster, number: int) -> None:
    client = await Client.open(cluster.client_ports[1])
    try:
        for i in range(12):
            await client.call("write", b"%d/%d " % (number, i) + bytes(500_000))
    finally:
        client.close()


async def caught_up(cluster: Cluster, member: int) -> None:
    """The restarted member has what any other had by now: only then the next one is stopped.

    Writes go on meanwhile, so lengths seen one after the other say nothing about who lags.
    """
    async with asyncio.timeout(DEADLINE):
        goal = None
        while goal is None:
            others = [await cluster.status(other) for other in cluster.ids if other != member]
            goal = max((status[3] for status in others if status is not None), default=None)
        while True:
            status = await cluster.status(member)
            if status is not None and status[1] and status[3] >= goal:
                return
            await asyncio.sleep(0.05)
