"""Five managers, each on a host of its own, under a constant load while two of them are lost at once.

After each fault every acknowledged write is there on every manager, none twice; reads never go back in time.
"""

import asyncio
import signal
from collections.abc import Callable, Iterator

import pytest

from tests.lab.cluster import Cluster
from tests.lab.host import Host
from tests.lab.lab import Lab

from .managers import Fault, cluster_of, find_leader, revive, start_daemon, stop_daemon, suffer
from .write_load import Load

pytestmark = [pytest.mark.lab, pytest.mark.timeout(240), pytest.mark.blocking_allowed]


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with Lab(hosts=5, engines=False) as lab:
        yield lab


@pytest.fixture(scope="module")
def shared_cluster(lab: Lab) -> Iterator[Cluster]:
    with cluster_of(lab) as cluster:
        yield cluster


@pytest.fixture
def cluster(shared_cluster: Cluster) -> Iterator[Cluster]:
    """All managers are up when the next test begins, also after one that failed half-way."""
    yield shared_cluster
    revive(shared_cluster)


async def leader_and_another(cluster: Cluster) -> tuple[Host, Host]:
    leader = await find_leader(cluster)
    return leader, next(host for host in cluster.lab.hosts if host is not leader)


async def kill_two(load: Load) -> None:
    lost = await leader_and_another(load.cluster)
    await asyncio.gather(*(stop_daemon(load, host, signal.SIGKILL) for host in lost))
    await find_leader(load.cluster, *lost)
    await load.wait_writes(100)
    for host in lost:
        await start_daemon(load, host)


async def part_two(load: Load) -> None:
    """The leader and another are cut off together: they see each other, and must not go on as two of five."""
    lost = await leader_and_another(load.cluster)
    rest = [host for host in load.cluster.lab.hosts if host not in lost]
    await asyncio.to_thread(load.cluster.lab.partition, lost, rest)
    await find_leader(load.cluster, *lost)
    await load.wait_writes(100)
    await asyncio.to_thread(load.cluster.lab.heal)


@pytest.mark.parametrize("fault", [kill_two, part_two])
async def test_five_managers_keep_every_acknowledged_write_through(
    fault: Fault, cluster: Cluster, record_property: Callable[[str, object], None]
) -> None:
    await suffer(cluster, fault, record_property)
