"""Three and five managers, each on a host of its own, under a constant load while they die, freeze or are cut off.

After each fault every acknowledged write is there on every manager, none twice; reads never go back in time.
"""

import asyncio
import base64
import contextlib
import signal
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from essaim.api.client import ApiError, Client, Unreachable
from tests.lab.cluster import Cluster
from tests.lab.host import Host
from tests.lab.lab import Lab
from tests.lab.wait import eventually_async

from .write_load import Load, running

pytestmark = [pytest.mark.lab, pytest.mark.timeout(240), pytest.mark.blocking_allowed]

FLAGS = ("--runtime", "process", "--gateway-workers", "1")
FAULT_SECONDS = 3.0
"""How long a frozen or cut off leader stays so: another is elected well within."""
INTERRUPTION = 15.0
"""Seconds without an acknowledged write that a busy machine may need; an idle one needs about one."""
RECOVERY = 60.0
DISK = "80m"
BALLAST = base64.b64encode(bytes(400_000)).decode()

Fault = Callable[[Load], Awaitable[None]]


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with Lab(hosts=3, engines=False) as lab:
        yield lab


@pytest.fixture(scope="module")
def shared_cluster(lab: Lab) -> Iterator[Cluster]:
    """The last host's log is on a small disk of its own."""
    cluster = cluster_of(lab)
    log = raft_directory(cluster, lab.hosts[-1])
    log.mkdir(parents=True)
    lab.hosts[-1].run(["mount", "-t", "tmpfs", "-o", f"size={DISK}", "tmpfs", log])
    with cluster:
        yield cluster


@pytest.fixture
def cluster(shared_cluster: Cluster) -> Iterator[Cluster]:
    """All managers are up when it begins, also after a test that failed half-way."""
    yield shared_cluster
    shared_cluster.lab.heal()
    for host in shared_cluster.lab.hosts:
        filler(shared_cluster, host, remove=True)
        daemon = shared_cluster.daemons[host.name]
        daemon.signal(signal.SIGCONT)
        if daemon.poll() is not None:
            shared_cluster.start_daemon(host)


def cluster_of(lab: Lab) -> Cluster:
    return Cluster(lab, managers=len(lab.hosts), flags=FLAGS, shared_sockets=True)


def raft_directory(cluster: Cluster, host: Host) -> Path:
    return cluster.state_dir(host) / "raft"


def filler(cluster: Cluster, host: Host, *, remove: bool = False) -> None:
    """Take what is left of the disk that a host's log is on, or give it back. It is mounted inside the host only."""
    path = raft_directory(cluster, host) / "filler"
    command = ["rm", "-f", str(path)] if remove else ["sh", "-c", f"exec cat /dev/zero > {path}"]
    host.run(command, check=remove)


# -- what managers say --------------------------------------------------------------------------------------------


async def managers(cluster: Cluster, host: Host) -> dict[str, dict[str, Any]]:
    """Host name -> manager status, as one manager sees it now; nothing while it knows no leader."""
    async with Client(cluster.url(host)) as client:
        nodes = await client.get("/nodes", timeout=10)
        return {} if client.warning else {n["Description"]["Hostname"]: n["ManagerStatus"] for n in nodes}


async def find_leader(cluster: Cluster, without: Host | None = None) -> Host:
    """The leader as the managers see it, `without` the one that the test has just taken away."""
    asked = [host for host in cluster.lab.hosts if host is not without]

    async def found() -> Host | None:
        seen = await managers(cluster, asked[0])
        return next((host for host in asked if seen.get(host.name, {}).get("Leader")), None)

    leader = await eventually_async(found, 30, "a leader is known", retry_on=(ApiError, Unreachable))
    assert leader is not None
    return leader


async def wait_whole(cluster: Cluster) -> None:
    """Until each manager sees every one taking part."""

    async def whole() -> bool:
        for host in cluster.lab.hosts:
            seen = await managers(cluster, host)
            reachable = {name for name, status in seen.items() if status["Reachability"] == "reachable"}
            if reachable != {h.name for h in cluster.lab.hosts}:
                return False
        return True

    await eventually_async(whole, RECOVERY, "every manager takes part", retry_on=(ApiError, Unreachable))


async def check_all_kept(load: Load) -> None:
    """With the load over: every manager has every acknowledged write, and all have the same."""
    await wait_whole(load.cluster)
    states = []
    for host in load.cluster.lab.hosts:
        async with Client(load.cluster.url(host)) as client:
            states.append(await load.read(client, host))
            assert client.warning == ""
    assert all(state == states[0] for state in states[1:])
    assert set(load.history.promises) == states[0].keys()
    assert load.history.fresh_reads > 3 * len(states)


# -- faults -------------------------------------------------------------------------------------------------------


async def stop_daemon(load: Load, host: Host, number: int) -> int:
    daemon = load.cluster.daemons[host.name]
    daemon.signal(number)
    code = await asyncio.to_thread(daemon.wait, 30)
    load.history.restarted(host.name)
    return code


async def start_daemon(load: Load, host: Host) -> None:
    """Start it and wait until it has caught up with the others."""
    load.history.restarted(host.name)
    await asyncio.to_thread(load.cluster.start_daemon, host)
    await wait_whole(load.cluster)


async def kill_leader(load: Load) -> None:
    leader = await find_leader(load.cluster)
    await stop_daemon(load, leader, signal.SIGKILL)
    await find_leader(load.cluster, without=leader)
    await load.wait_writes(100)
    await start_daemon(load, leader)


async def freeze_leader(load: Load) -> None:
    leader = await find_leader(load.cluster)
    daemon = load.cluster.daemons[leader.name]
    daemon.signal(signal.SIGSTOP)
    try:
        await find_leader(load.cluster, without=leader)
        await load.wait_writes(100)
    finally:
        daemon.signal(signal.SIGCONT)


async def isolate_leader(load: Load) -> None:
    leader = await find_leader(load.cluster)
    await asyncio.to_thread(load.cluster.lab.isolate, leader)
    await find_leader(load.cluster, without=leader)
    await load.wait_writes(100)
    await asyncio.to_thread(load.cluster.lab.heal)


async def deafen_leader(load: Load) -> None:
    """It is heard by all and hears nobody: it must notice by itself that it has lost its majority."""
    leader = await find_leader(load.cluster)
    for other in load.cluster.lab.hosts:
        if other is not leader:
            await asyncio.to_thread(load.cluster.lab.cut, other, leader)
    await find_leader(load.cluster, without=leader)
    await load.wait_writes(100)
    await asyncio.to_thread(load.cluster.lab.heal)


async def restart_all_in_turn(load: Load) -> None:
    for host in load.cluster.lab.hosts:
        assert await stop_daemon(load, host, signal.SIGTERM) == 0
        await start_daemon(load, host)


async def fill_disk(load: Load) -> None:
    """The log goes on in the space it has reserved; ballast uses that up. The others go on meanwhile."""
    full = load.cluster.lab.hosts[-1]
    other = load.cluster.lab.hosts[0]
    await asyncio.to_thread(filler, load.cluster, full)
    async with Client(load.cluster.url(full)) as client, Client(load.cluster.url(other)) as writer:
        for number in range(100):
            with contextlib.suppress(ApiError, Unreachable):
                await writer.post("/configs/create", {"Name": f"b{number}", "Data": BALLAST}, timeout=10)
            if await refusal(client):
                break
        assert "No space left on device" in await refusal(client)
        await load.wait_writes(100)
        assert load.cluster.daemons[full.name].poll() is None
        await asyncio.to_thread(filler, load.cluster, full, remove=True)
        await wait_whole(load.cluster)


async def refusal(client: Client) -> str:
    """What a manager says that takes no part any more; empty while it does."""
    try:
        await client.post("/configs/create", {"Name": f"probe-{time.monotonic_ns()}", "Data": "eA=="}, timeout=20)
    except ApiError as error:
        return str(error)
    except Unreachable:
        return ""
    return ""


async def suffer(cluster: Cluster, name: str, fault: Fault, record: Callable[[str, object], None]) -> None:
    """Let a fault happen under load; then all must be there. `record` gets what it cost the clients."""
    async with running(cluster, name) as load:
        begin = asyncio.get_running_loop().time()
        await fault(load)
        await wait_whole(cluster)
        await load.wait_writes(100)
        end = asyncio.get_running_loop().time()
    await check_all_kept(load)
    history = load.history
    pause = history.longest_pause(begin, end)
    record("interruption_seconds", round(pause, 2))
    print(
        f"{name}: writes stood still for {pause:.2f} s at most; {len(history.acknowledgements)} acknowledged, "
        f"{len(history.refusals)} refused, {len(history.uncertain)} uncertain, "
        f"{history.fresh_reads} fresh and {history.stale_reads} stale reads; {dict(load.errors)}"
    )
    assert pause < INTERRUPTION


@pytest.mark.parametrize(
    "fault", [kill_leader, freeze_leader, isolate_leader, deafen_leader, restart_all_in_turn, fill_disk]
)
async def test_three_managers_keep_every_acknowledged_write_through(
    fault: Fault, cluster: Cluster, record_property: Callable[[str, object], None]
) -> None:
    await suffer(cluster, getattr(fault, "__name__", ""), fault, record_property)
