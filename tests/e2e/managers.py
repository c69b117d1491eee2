"""A cluster of managers only, under load: what they say of each other, stopping and starting one, the final check."""

import asyncio
import signal
from collections.abc import Awaitable, Callable
from typing import Any

from essaim.api.client import ApiError, Client, Unreachable
from tests.lab.cluster import Cluster
from tests.lab.host import Host
from tests.lab.lab import Lab
from tests.lab.wait import eventually_async

from .write_load import Load, running

FLAGS = ("--runtime", "process", "--gateway-workers", "1")
INTERRUPTION = 15.0
"""Seconds without an acknowledged write that a busy machine may need; an idle one needs less than one."""
RECOVERY = 60.0

Fault = Callable[[Load], Awaitable[None]]


def cluster_of(lab: Lab) -> Cluster:
    """All hosts as managers, not started yet."""
    return Cluster(lab, managers=len(lab.hosts), flags=FLAGS, shared_sockets=True)


def revive(cluster: Cluster) -> None:
    """Undo what a test that failed half-way left: cuts, frozen and dead daemons."""
    cluster.lab.heal()
    for host in cluster.lab.hosts:
        daemon = cluster.daemons[host.name]
        daemon.signal(signal.SIGCONT)
        if daemon.poll() is not None:
            cluster.start_daemon(host)


async def managers(cluster: Cluster, host: Host) -> dict[str, dict[str, Any]]:
    """Host name -> manager status, as one manager sees it now; nothing while it knows no leader."""
    async with Client(cluster.url(host)) as client:
        nodes = await client.get("/nodes", timeout=10)
        return {} if client.warning else {n["Description"]["Hostname"]: n["ManagerStatus"] for n in nodes}


async def find_leader(cluster: Cluster, *without: Host) -> Host:
    """The leader as the managers see it, `without` those that the test has just taken away."""
    asked = [host for host in cluster.lab.hosts if host not in without]

    async def found() -> Host | None:
        seen = await managers(cluster, asked[0])
        return next((host for host in asked if seen.get(host.name, {}).get("Leader")), None)

    leader = await eventually_async(found, 30, "a leader is known", retry_on=(ApiError, Unreachable))
    assert leader is not None
    return leader


async def wait_whole(cluster: Cluster) -> None:
    """Until each manager sees every one taking part."""
    everyone = {host.name for host in cluster.lab.hosts}

    async def whole() -> bool:
        for host in cluster.lab.hosts:
            seen = await managers(cluster, host)
            if {name for name, status in seen.items() if status["Reachability"] == "reachable"} != everyone:
                return False
        return True

    await eventually_async(whole, RECOVERY, "every manager takes part", retry_on=(ApiError, Unreachable))


async def stop_daemon(load: Load, host: Host, number: int) -> int:
    """Signal it and wait for its end; the return code."""
    daemon = load.cluster.daemons[host.name]
    daemon.signal(number)
    code = await asyncio.to_thread(daemon.wait, 30)
    load.history.restarted(host.name)
    return code


async def start_daemon(load: Load, host: Host) -> None:
    load.history.restarted(host.name)
    await asyncio.to_thread(load.cluster.start_daemon, host)


async def suffer(
    cluster: Cluster, fault: Fault, record: Callable[[str, object], None], *, limit: float = INTERRUPTION
) -> None:
    """Let a fault happen under load; then all must be there. `record` gets what it cost the clients.

    `limit`: seconds without an acknowledged write.
    """
    name = getattr(fault, "__name__", "fault")
    async with running(cluster, name) as load:
        begin = asyncio.get_running_loop().time()
        await fault(load)
        await wait_whole(cluster)
        await load.wait_writes(100)
        end = asyncio.get_running_loop().time()
    await check_all_kept(load)
    history, pause = load.history, load.history.longest_pause(begin, end)
    record("interruption_seconds", round(pause, 2))
    print(
        f"\n{name}: no write acknowledged for {pause:.2f} s at most; {len(history.acknowledgements)} acknowledged, "
        f"{len(history.refusals)} refused, {len(history.uncertain)} uncertain, {history.fresh_reads} fresh and "
        f"{history.stale_reads} stale reads; {dict(load.errors)}"
    )
    assert pause < limit


async def check_all_kept(load: Load) -> None:
    """With the load over: every manager has every acknowledged write, each once, and all have the same objects."""
    await wait_whole(load.cluster)
    states = []
    for host in load.cluster.lab.hosts:
        async with Client(load.cluster.url(host)) as client:
            states.append(await load.read(client, host))
            assert client.warning == ""
    assert all(state == states[0] for state in states[1:])
    assert set(load.history.promises) == states[0].keys()
    assert load.history.fresh_reads > 3 * len(states)
