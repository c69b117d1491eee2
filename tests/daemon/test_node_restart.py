"""A daemon that restarts, in order or after a crash, moves none of its node's tasks; those of a lost host move soon.

Real daemons with the process runtime: one manager whose node takes no tasks, two workers, and a load on the service
through the manager's gateway all the while.
"""

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from essaim.api.client import Client
from tests.daemon.processes import Daemon, daemons, init, join, lives
from tests.lab.wait import eventually_async
from tests.ports import free_port

pytestmark = [pytest.mark.timeout(180), pytest.mark.blocking_allowed]
REPLICAS = 4
PERIOD = 0.5
"""Seconds between heartbeats: a node is down after three."""
SILENCE = 3.0
"""Seconds that a daemon is away: twice what a node may be silent."""


@dataclass
class Load:
    """Requests one after another through a gateway; what did not succeed."""

    url: str
    done: int = 0
    failed: list[str] = field(default_factory=list)

    async def run(self) -> None:
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=5)) as session:
            while True:
                try:
                    async with session.get(self.url) as response:
                        await response.read()
                        if response.status != 200:
                            self.failed.append(f"status {response.status}")
                except (aiohttp.ClientError, TimeoutError) as error:
                    self.failed.append(repr(error))
                self.done += 1
                await asyncio.sleep(0.01)


async def tasks_of(manager: Daemon, service: str = "web") -> dict[str, dict[str, Any]]:
    async with Client(manager.host) as client:
        found = await client.get("/tasks", query={"filters": f'{{"service":["{service}"]}}'})
    return {task["ID"]: task for task in found}


async def state_of(manager: Daemon, daemon: Daemon) -> tuple[str, str]:
    """State and message of a node."""
    async with Client(manager.host) as client:
        nodes = await client.get("/nodes")
    node = next(n for n in nodes if n["Description"]["Hostname"] == daemon.name)
    return node["Status"]["State"], node["Status"].get("Message", "")


async def running(manager: Daemon, count: int = REPLICAS) -> dict[str, dict[str, Any]]:
    """The service's tasks once so many run, and nothing else is under way."""

    async def settled() -> dict[str, dict[str, Any]] | None:
        found = await tasks_of(manager)
        live = {i: t for i, t in found.items() if t["DesiredState"] == "running"}
        return live if len(live) == count and all(t["Status"]["State"] == "running" for t in live.values()) else None

    found = await eventually_async(settled, 60, "all replicas run")
    assert found is not None
    return found


async def set_up(manager: Daemon, port: int, *, drained: Daemon) -> None:
    """A service of REPLICAS that runs on all nodes but one."""
    commands = [
        ["swarm", "update", "--dispatcher-heartbeat", f"{PERIOD}s"],
        ["node", "update", "--availability", "drain", drained.name],
        ["service", "create", "--no-resolve-image", "--name", "web", "--replicas", str(REPLICAS), "--publish"],
    ]
    commands[-1] += [f"published={port},target=80,app_protocol=http", "essaim/whoami"]
    for command in commands:
        done = await asyncio.to_thread(manager.essaim, *command)
        assert done.returncode == 0, done.stderr


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[tuple[list[Daemon], Load]]:
    """Manager and workers, and the load that goes on."""
    async with daemons(tmp_path, 3) as made:
        await init(made[0])
        for other in made[1:]:
            await join(other, made[0])
        port = free_port("127.0.0.1")
        await set_up(made[0], port, drained=made[0])
        load = Load(f"http://{made[0].address}:{port}/")
        going = asyncio.create_task(load.run())
        try:
            yield made, load
        finally:
            going.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await going


async def silent_for(seconds: float, load: Load) -> None:
    """The load has gone on for that long."""
    loop = asyncio.get_running_loop()
    end, before = loop.time() + seconds, load.done

    async def over() -> bool:
        return loop.time() >= end and load.done > before

    await eventually_async(over, seconds + 10, "time passes")


async def back(manager: Daemon, daemon: Daemon) -> None:
    async def ready() -> bool:
        return await state_of(manager, daemon) == ("ready", "")

    await eventually_async(ready, 20, f"{daemon.name} is ready again")


async def test_restart_of_a_workers_daemon_moves_no_task_and_fails_no_request(
    cluster: tuple[list[Daemon], Load],
) -> None:
    (manager, worker, _), load = cluster
    before = await running(manager)
    load.failed.clear()
    for number, word in ((signal.SIGTERM, "was stopped to start again"), (signal.SIGKILL, "its replicas answer")):
        worker.kill(number)

        async def away() -> bool:
            return (await state_of(manager, worker))[0] == "unknown"

        await eventually_async(away, 10, "the node is shown as away")
        assert word in (await state_of(manager, worker))[1]
        await silent_for(SILENCE, load)
        await worker.start()
        await back(manager, worker)
        after = await tasks_of(manager)
        assert after.keys() == before.keys(), "tasks were replaced"
        assert {t["Status"]["State"] for t in after.values()} == {"running"}
        assert load.failed == []


async def test_update_while_a_workers_daemon_restarts_reaches_all_replicas_once(
    cluster: tuple[list[Daemon], Load],
) -> None:
    """What is on the node that is away is updated when it is back: nothing is moved, and no slot is held twice."""
    (manager, worker, _), load = cluster
    before = await running(manager)
    worker.kill(signal.SIGTERM)
    load.failed.clear()
    updated = await asyncio.to_thread(manager.essaim, "service", "update", "--detach", "--force", "web")
    assert updated.returncode == 0, updated.stderr
    await silent_for(SILENCE, load)
    await worker.start()
    await back(manager, worker)

    async def is_new() -> bool:
        live = [t for t in (await tasks_of(manager)).values() if t["DesiredState"] == "running"]
        fresh = [t for t in live if t["ID"] not in before and t["Status"]["State"] == "running"]
        return len(live) == len(fresh) == REPLICAS

    await eventually_async(is_new, 60, "every replica is new")
    assert len(await tasks_of(manager)) == 2 * REPLICAS, "a task was replaced twice"
    assert load.failed == []


async def test_host_that_is_lost_has_its_tasks_moved_soon(cluster: tuple[list[Daemon], Load]) -> None:
    (manager, worker, _), _ = cluster
    before = await running(manager)
    async with Client(manager.host) as client:
        nodes = await client.get("/nodes")
    lost = next(n["ID"] for n in nodes if n["Description"]["Hostname"] == worker.name)
    pids = [t["Status"]["ContainerStatus"]["PID"] for t in before.values() if t["NodeID"] == lost]
    assert pids
    began = asyncio.get_running_loop().time()
    worker.kill(signal.SIGKILL)
    for pid in pids:
        os.kill(pid, signal.SIGKILL)

    async def moved() -> bool:
        live = [t for t in (await tasks_of(manager)).values() if t["DesiredState"] == "running"]
        kept = [t for t in live if t.get("NodeID") != lost and t["Status"]["State"] == "running"]
        return len(kept) == REPLICAS

    await eventually_async(moved, 30, "all replicas run elsewhere")
    took = asyncio.get_running_loop().time() - began
    assert (await state_of(manager, worker))[0] == "down"
    assert took < 3 * PERIOD + 6, f"{took:.1f} s"


async def drain(manager: Daemon, daemon: Daemon) -> None:
    done = await asyncio.to_thread(manager.essaim, "node", "update", "--availability", "drain", daemon.name)
    assert done.returncode == 0, done.stderr


async def node_id_of(manager: Daemon, daemon: Daemon) -> str:
    async with Client(manager.host) as client:
        nodes = await client.get("/nodes")
    found: str = next(n["ID"] for n in nodes if n["Description"]["Hostname"] == daemon.name)
    return found


def pid_of(task: dict[str, Any]) -> int:
    return int((task["Status"].get("ContainerStatus") or {}).get("PID") or 0)


def alive(task: dict[str, Any]) -> bool:
    return lives(pid_of(task))


async def test_drain_while_a_workers_daemon_restarts_moves_its_tasks_before_it_is_back(
    cluster: tuple[list[Daemon], Load],
) -> None:
    """A replica without state comes up elsewhere first: the time that a daemon is granted does not hold that up."""
    (manager, worker, _), load = cluster
    before = await running(manager)
    drained = await node_id_of(manager, worker)
    old = [task for task in before.values() if task["NodeID"] == drained]
    assert old
    load.failed.clear()
    worker.kill(signal.SIGTERM)
    await drain(manager, worker)

    async def moved() -> bool:
        live = [t for t in (await tasks_of(manager)).values() if t["DesiredState"] == "running"]
        elsewhere = [t.get("NodeID") != drained and t["Status"]["State"] == "running" for t in live]
        return len(live) == REPLICAS and all(elsewhere)

    await eventually_async(moved, 15, "all replicas run elsewhere")
    assert (await state_of(manager, worker))[0] == "unknown", "its daemon is still granted its time"
    await worker.start()

    async def ended() -> bool:
        return not any(alive(task) for task in old)

    await eventually_async(ended, 20, "what it ran has ended")
    assert len(await tasks_of(manager)) == REPLICAS + len(old), "a task was replaced twice"
    assert load.failed == []


async def test_drain_while_a_workers_daemon_restarts_runs_no_replica_with_state_twice(
    cluster: tuple[list[Daemon], Load], tmp_path: Path
) -> None:
    """It moves once its daemon is back and has stopped it, and that is at once."""
    (manager, worker, _), _ = cluster
    await running(manager)
    command = ["service", "create", "--no-resolve-image", "--name", "store", "--replicas", "2"]
    command += ["--mount", f"type=bind,source={tmp_path},target=/data", "essaim/whoami"]
    done = await asyncio.to_thread(manager.essaim, *command)
    assert done.returncode == 0, done.stderr

    async def two() -> list[dict[str, Any]]:
        found = (await tasks_of(manager, "store")).values()
        live = [t for t in found if t["DesiredState"] == "running" and t["Status"]["State"] == "running"]
        return live if len(live) == 2 else []

    before = await eventually_async(two, 30, "both replicas run")
    drained = await node_id_of(manager, worker)
    old = [task for task in before or [] if task["NodeID"] == drained]
    assert len(old) == 1
    worker.kill(signal.SIGTERM)
    await drain(manager, worker)

    async def successors() -> list[dict[str, Any]]:
        found = (await tasks_of(manager, "store")).values()
        return [t for t in found if t["Slot"] == old[0]["Slot"] and t["ID"] != old[0]["ID"]]

    async def never_two() -> bool:
        """Asked again and again; whether the move is over."""
        assert not (alive(old[0]) and any(alive(task) for task in await successors())), "one slot runs twice"
        return any(t["Status"]["State"] == "running" for t in await successors())

    end = asyncio.get_running_loop().time() + SILENCE
    while asyncio.get_running_loop().time() < end:
        assert not await never_two(), "it cannot have been stopped yet"
        assert alive(old[0])
    await worker.start()
    await eventually_async(never_two, 15, "the replica runs elsewhere")
    assert not alive(old[0])
