"""Three managers, each on a host of its own, under load while they die, freeze, are cut off or fill their disk.

After each fault every acknowledged write is there on every manager, none twice; reads never go back in time.
"""

import asyncio
import base64
import contextlib
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from essaim.api.client import ApiError, Client, Unreachable
from tests.lab.cluster import Cluster
from tests.lab.host import Host
from tests.lab.lab import Lab

from .managers import RECOVERY, Fault, cluster_of, find_leader, revive, start_daemon, stop_daemon, suffer, wait_whole
from .write_load import Load

pytestmark = [pytest.mark.lab, pytest.mark.timeout(240), pytest.mark.blocking_allowed]

DISK = "400m"
"""Room for the log and three snapshots of all ballast: it is the filler that is to fill it, and nothing else."""
NO_SPACE = "No space left on device"
WAITING_READS = 8
BALLAST = base64.b64encode(bytes(400_000)).decode()
BALLAST_PIECES = 100
"""More than the log has reserved: two segments of 16 MiB."""


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with Lab(hosts=3, engines=False) as lab:
        yield lab


@pytest.fixture(scope="module")
def shared_cluster(lab: Lab) -> Iterator[Cluster]:
    """The logs of all hosts but the first are on small disks of their own."""
    cluster = cluster_of(lab)
    for host in lab.hosts[1:]:
        log = raft_directory(cluster, host)
        log.mkdir(parents=True)
        host.run(["mount", "-t", "tmpfs", "-o", f"size={DISK}", "tmpfs", log])
    with cluster:
        yield cluster


@pytest.fixture
def cluster(shared_cluster: Cluster) -> Iterator[Cluster]:
    """All managers are up when the next test begins, also after one that failed half-way."""
    yield shared_cluster
    for host in shared_cluster.lab.hosts[1:]:
        filler(shared_cluster, host, remove=True)
    revive(shared_cluster)


def raft_directory(cluster: Cluster, host: Host) -> Path:
    return cluster.state_dir(host) / "raft"


def filler(cluster: Cluster, host: Host, *, remove: bool = False) -> None:
    """Take what is left of the disk that a host's log is on, or give it back. It is mounted inside the host only."""
    path = raft_directory(cluster, host) / "filler"
    command = ["rm", "-f", str(path)] if remove else ["sh", "-c", f"exec cat /dev/zero > {path}"]
    host.run(command, check=remove)


async def kill_leader(load: Load) -> None:
    leader = await find_leader(load.cluster)
    await stop_daemon(load, leader, signal.SIGKILL)
    await find_leader(load.cluster, leader)
    await load.wait_writes(100)
    await start_daemon(load, leader)


async def freeze_leader(load: Load) -> None:
    """Awake again, it believes for a moment that it leads; reads that wait for it must not be answered from that."""
    leader = await find_leader(load.cluster)
    daemon = load.cluster.daemons[leader.name]
    daemon.signal(signal.SIGSTOP)
    await find_leader(load.cluster, leader)
    await load.wait_writes(100)
    async with contextlib.AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(Client(load.cluster.url(leader))) for _ in range(WAITING_READS)]
        reads = [asyncio.create_task(load.read(client, leader)) for client in clients]
        await asyncio.to_thread(daemon.signal, signal.SIGCONT)
        await asyncio.gather(*reads)


async def isolate_leader(load: Load) -> None:
    leader = await find_leader(load.cluster)
    await asyncio.to_thread(load.cluster.lab.isolate, leader)
    await find_leader(load.cluster, leader)
    await load.wait_writes(100)
    await asyncio.to_thread(load.cluster.lab.heal)


async def deafen_leader(load: Load) -> None:
    """It is heard by all and hears nobody: it must notice by itself that it has lost its majority."""
    leader = await find_leader(load.cluster)
    for other in load.cluster.lab.hosts:
        if other is not leader:
            await asyncio.to_thread(load.cluster.lab.cut, other, leader)
    await find_leader(load.cluster, leader)
    await load.wait_writes(100)
    await asyncio.to_thread(load.cluster.lab.heal)


async def restart_all_in_turn(load: Load) -> None:
    for host in load.cluster.lab.hosts:
        assert await stop_daemon(load, host, signal.SIGTERM) == 0
        await start_daemon(load, host)
        await wait_whole(load.cluster)


async def fill_leaders_disk(load: Load) -> None:
    first = load.cluster.lab.hosts[0]
    if await find_leader(load.cluster) is first:  # that has the machine's own disk
        await stop_daemon(load, first, signal.SIGTERM)
        await find_leader(load.cluster, first)
        await start_daemon(load, first)
        await wait_whole(load.cluster)
    await fill_disk(load, await find_leader(load.cluster))


async def fill_followers_disk(load: Load) -> None:
    leader = await find_leader(load.cluster)
    await fill_disk(load, next(host for host in load.cluster.lab.hosts[1:] if host is not leader))


async def fill_disk(load: Load, full: Host) -> None:
    """The log goes on in the space it has reserved; ballast uses that up. The others go on meanwhile."""
    await asyncio.to_thread(filler, load.cluster, full)
    async with Client(load.cluster.url(full)) as client, Client(load.cluster.url(load.cluster.first)) as writer:
        for number in range(BALLAST_PIECES):
            name = f"ballast-{full.name}-{number}"
            with contextlib.suppress(ApiError, Unreachable):
                await writer.post("/configs/create", {"Name": name, "Data": BALLAST}, timeout=10)
            if NO_SPACE in await refusal(client):
                break
        assert NO_SPACE in await refusal(client)
        await load.wait_writes(100)
        assert load.cluster.daemons[full.name].poll() is None
    await asyncio.to_thread(filler, load.cluster, full, remove=True)


async def refusal(client: Client) -> str:
    """What a manager answers that takes no writes; empty while it takes them."""
    try:
        await client.post("/configs/create", {"Name": f"probe-{time.monotonic_ns()}", "Data": "eA=="}, timeout=20)
    except ApiError as error:
        return str(error)
    return ""


async def kill_all(load: Load) -> None:
    for host in load.cluster.lab.hosts:
        await stop_daemon(load, host, signal.SIGKILL)
    for host in load.cluster.lab.hosts:
        await start_daemon(load, host)


FAULTS = [
    kill_leader,
    freeze_leader,
    isolate_leader,
    deafen_leader,
    restart_all_in_turn,
    fill_leaders_disk,
    fill_followers_disk,
]


@pytest.mark.parametrize("fault", FAULTS)
async def test_three_managers_keep_every_acknowledged_write_through(
    fault: Fault, cluster: Cluster, record_property: Callable[[str, object], None]
) -> None:
    await suffer(cluster, fault, record_property)


async def test_three_managers_keep_every_acknowledged_write_when_all_are_killed(
    cluster: Cluster, record_property: Callable[[str, object], None]
) -> None:
    await suffer(cluster, kill_all, record_property, limit=RECOVERY)
