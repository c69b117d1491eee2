"""Three managers that run replicas as processes, under constant load at layer 7 through the gateways: what fails when
the leader dies in the middle of an update, and when a host is lost.
"""

import asyncio
import contextlib
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator

import pytest

from essaim.api.client import ApiError, Client, Unreachable
from tests.lab.cluster import Cluster
from tests.lab.host import Host
from tests.lab.lab import Lab
from tests.lab.wait import eventually_async

from .http_load import HttpLoad
from .managers import cluster_of, find_leader, wait_whole

pytestmark = [pytest.mark.lab, pytest.mark.timeout(180), pytest.mark.blocking_allowed]

PORT = 4000
REPLICAS = 6
STACK = f"""
services:
  web:
    image: essaim/whoami
    deploy:
      replicas: {REPLICAS}
      update_config: {{parallelism: 2, delay: 0s, monitor: 1s, order: start-first}}
    ports:
      - target: 80
        published: {PORT}
        app_protocol: http
"""


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with Lab(hosts=3, engines=False) as lab, cluster_of(lab) as cluster:
        cluster.deploy("demo", STACK)
        cluster.wait_running("demo_web", REPLICAS)
        yield cluster


@contextlib.asynccontextmanager
async def load_on(cluster: Cluster, hosts: list[Host]) -> AsyncIterator[HttpLoad]:
    """Load through the gateways of these hosts; no request may have failed when it ends."""

    async def served() -> bool:
        return all([await asyncio.to_thread(cluster.fetch, host, PORT) for host in hosts])

    await eventually_async(served, 60, "every gateway serves", retry_on=(OSError,))
    async with HttpLoad({host.name: host.address for host in hosts}, PORT).running() as load:
        await load.wait_answers(20)
        yield load
        await load.wait_answers(20)
        await load.wait_turnover()
    print(f"answered {dict(load.answered)}, failed {len(load.failures)}, slowest {load.slowest:.1f} s")
    assert load.failures == []


async def test_leader_killed_during_an_update_fails_no_request(cluster: Cluster) -> None:
    """Through every host's gateway, the leader's too: its workers serve on without the daemon."""
    async with load_on(cluster, cluster.lab.hosts) as load:
        await kill_leader(cluster, load)


async def kill_leader(cluster: Cluster, load: HttpLoad) -> None:
    leader = await find_leader(cluster)
    other = next(host for host in cluster.lab.hosts if host is not leader)
    # A start on the leader's own host that the kill cuts off is a failed task, at which an update would pause.
    update = ["service", "update", "--detach", "--env-add", "V=2", "--update-failure-action", "continue", "demo_web"]
    await asyncio.to_thread(cluster.essaim, *update, host=other)
    cluster.daemons[leader.name].signal(signal.SIGKILL)
    await asyncio.to_thread(cluster.daemons[leader.name].wait, 30)
    await find_leader(cluster, leader)
    await load.wait_answers(20)
    await asyncio.to_thread(cluster.start_daemon, leader)

    async def updated() -> bool:
        async with Client(cluster.url(other)) as client:
            service = await client.get("/services/demo_web")
            return bool((service.get("UpdateStatus") or {}).get("State") == "completed")

    await eventually_async(updated, 60, "the update is completed", retry_on=(ApiError, Unreachable))


async def test_lost_host_fails_no_request_that_can_be_tried_again(cluster: Cluster) -> None:
    """Last in this module: the host stays lost. What its replicas were asked, others answer."""
    # One manager may be lost, not two: the one that was killed takes part again.
    await wait_whole(cluster)
    leader = await find_leader(cluster)
    placed = Counter(task["Node"] for task in await asyncio.to_thread(cluster.tasks, "demo_web", host=leader))
    lost = max((host for host in cluster.lab.hosts if host is not leader), key=lambda host: placed[host.name])
    assert placed[lost.name]
    async with load_on(cluster, [host for host in cluster.lab.hosts if host is not lost]) as load:
        began = time.monotonic()
        await asyncio.to_thread(lost.crash)

        async def replaced() -> bool:
            tasks = await asyncio.to_thread(cluster.tasks, "demo_web", host=leader)
            return [task["Node"] != lost.name for task in tasks] == [True] * REPLICAS

        await eventually_async(replaced, 60, "its replicas run elsewhere")
        print(f"replaced after {time.monotonic() - began:.1f} s")
        await load.wait_turnover()
