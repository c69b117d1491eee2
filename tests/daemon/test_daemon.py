"""Real daemons: what was acknowledged is kept, whatever is killed; mistakes are answered, not suffered."""

import asyncio
import base64
import contextlib
import random
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from essaim.api.client import ApiError, Client, Unreachable
from tests.daemon.processes import Daemon, daemons, init, join
from tests.lab.wait import eventually_async

pytestmark = [pytest.mark.timeout(120), pytest.mark.blocking_allowed]
SECRET = base64.b64encode(b"x").decode()
WHOAMI = {"ContainerSpec": {"Image": "essaim/whoami"}, "RestartPolicy": {"Delay": 100_000_000}}


@pytest.fixture
async def one(tmp_path: Path) -> AsyncIterator[Daemon]:
    async with daemons(tmp_path) as (daemon,):
        yield daemon


async def running(client: Client, service: str) -> list[dict[str, Any]]:
    tasks: list[dict[str, Any]] = await client.get(
        "/tasks", {"filters": f'{{"service":["{service}"],"desired-state":["running"]}}'}
    )
    return [task for task in tasks if task["Status"]["State"] == "running"]


async def wait_running(client: Client, service: str, count: int) -> list[dict[str, Any]]:
    async def settled() -> list[dict[str, Any]]:
        tasks = await running(client, service)
        return tasks if len(tasks) == count else []

    return await eventually_async(settled, 30, f"{count} tasks of {service} run", retry_on=(ApiError,))


async def write_until_killed(daemon: Daemon, acknowledged: list[str], prefix: str) -> None:
    """Eight clients at once, each creating secrets and noting what was acknowledged."""

    async def writer(number: int) -> None:
        with contextlib.suppress(Unreachable, ApiError, ConnectionError):
            async with Client(daemon.host) as client:
                for count in range(1_000_000):
                    name = f"{prefix}-{number}-{count}"
                    await client.post("/secrets/create", {"Name": name, "Data": SECRET})
                    acknowledged.append(name)

    await asyncio.gather(*(writer(number) for number in range(8)))


async def test_daemon_killed_at_any_moment_keeps_every_acknowledged_change(one: Daemon) -> None:
    await init(one)
    acknowledged: list[str] = []
    chance = random.Random(4)
    for life in range(4):
        writing = asyncio.create_task(write_until_killed(one, acknowledged, f"life{life}"))
        before, wanted = len(acknowledged), chance.randrange(20, 200)

        async def enough(target: int = before + wanted) -> bool:
            return len(acknowledged) >= target

        await eventually_async(enough, 30, "writes are acknowledged")
        one.kill()
        await writing
        await one.start()
        async with Client(one.host) as client:
            names = [secret["Spec"]["Name"] for secret in await client.get("/secrets")]
        assert set(acknowledged) <= set(names)
        assert len(names) == len(set(names))


async def test_tasks_outlive_their_daemon_and_are_not_started_twice(one: Daemon) -> None:
    await init(one)
    async with Client(one.host) as client:
        spec = {"Name": "web", "TaskTemplate": WHOAMI, "Mode": {"Replicated": {"Replicas": 2}}}
        await client.post("/services/create", spec)
        before = await wait_running(client, "web", 2)
    one.kill()
    await one.start()
    async with Client(one.host) as client:
        after = await wait_running(client, "web", 2)
        assert {t["ID"]: t["Status"]["ContainerStatus"]["PID"] for t in before} == {
            t["ID"]: t["Status"]["ContainerStatus"]["PID"] for t in after
        }


async def test_service_that_was_answered_for_has_what_it_asks_for_and_keeps_its_version(one: Daemon) -> None:
    """So that a client which reads it then can update it by that version."""
    await init(one)
    async with Client(one.host) as client:
        await client.post("/networks/create", {"Name": "net", "Driver": "overlay"})
        for number in range(10):
            task = {**WHOAMI, "Networks": [{"Target": "net"}]}
            mode, ports = {"Replicated": {"Replicas": 0}}, [{"TargetPort": 80, "Protocol": "tcp"}]
            spec = {"Name": f"s{number}", "TaskTemplate": task, "Mode": mode, "EndpointSpec": {"Ports": ports}}
            made = await client.post("/services/create", spec)
            found = await client.get(f"/services/{made['ID']}")
            assert found["Endpoint"]["Ports"][0]["PublishedPort"] >= 30_000
            assert len(found["Endpoint"]["VirtualIPs"]) == 2
            version = {"version": str(found["Version"]["Index"])}
            await client.post(f"/services/{made['ID']}/update", spec, version)


async def test_agent_registers_again_after_its_manager_was_away(tmp_path: Path) -> None:
    async with daemons(tmp_path, 2) as (manager, worker):
        await init(manager)
        await join(worker, manager)
        manager.kill()
        await manager.start()
        async with Client(manager.host) as client:

            async def both_ready() -> bool:
                return [n["Status"]["State"] for n in await client.get("/nodes")] == ["ready", "ready"]

            await eventually_async(both_ready, 30, "both nodes are ready", retry_on=(ApiError,))


async def test_node_that_falls_silent_is_down_and_its_tasks_move(tmp_path: Path) -> None:
    async with daemons(tmp_path, 2) as (manager, worker):
        await init(manager)
        await join(worker, manager)
        async with Client(manager.host) as client:
            spec = {"Name": "web", "TaskTemplate": WHOAMI, "Mode": {"Replicated": {"Replicas": 2}}}
            await client.post("/services/create", spec)
            await wait_running(client, "web", 2)
            nodes = {n["ID"]: n["Description"]["Hostname"] for n in await client.get("/nodes")}
            worker.kill()

            async def moved() -> bool:
                tasks = await running(client, "web")
                return len(tasks) == 2 and {nodes[t["NodeID"]] for t in tasks} == {manager.name}

            await eventually_async(moved, 30, "all replicas run on the node that is left")
            await worker.start()

            async def ready() -> bool:
                return all(n["Status"]["State"] == "ready" for n in await client.get("/nodes"))

            await eventually_async(ready, 30, "the node is ready again")
            assert len(await wait_running(client, "web", 2)) == 2


async def test_daemon_outside_a_swarm_says_so(one: Daemon) -> None:
    async with Client(one.host) as client:
        with pytest.raises(ApiError, match="This node is not a swarm manager"):
            await client.get("/services")
        with pytest.raises(ApiError, match="This node is not part of a swarm"):
            await client.post("/swarm/leave")


async def test_join_with_a_wrong_token_or_to_nobody_is_explained(tmp_path: Path) -> None:
    async with daemons(tmp_path, 2) as (manager, worker):
        await init(manager)
        async with Client(manager.host) as client:
            token = (await client.get("/swarm"))["JoinTokens"]["Worker"]
        async with Client(worker.host) as client:
            wrong = token[:-1] + ("a" if token[-1] != "a" else "b")
            with pytest.raises(ApiError, match="valid join token"):
                await client.post("/swarm/join", {"RemoteAddrs": [manager.cluster_address], "JoinToken": wrong})
            with pytest.raises(ApiError, match="invalid join token"):
                await client.post("/swarm/join", {"RemoteAddrs": [manager.cluster_address], "JoinToken": "bad"})
            unreached = r"could not reach the manager at 127\.0\.0\.9:1: connection refused\. Is essaimd running"
            with pytest.raises(ApiError, match=unreached):
                await client.post("/swarm/join", {"RemoteAddrs": ["127.0.0.9:1"], "JoinToken": token})
        await join(worker, manager)
        async with Client(worker.host) as client:
            with pytest.raises(ApiError, match="already part of a swarm"):
                await client.post("/swarm/join", {"RemoteAddrs": [manager.cluster_address], "JoinToken": token})
            with pytest.raises(ApiError, match="Worker nodes can't be used to view or modify cluster state"):
                await client.get("/nodes")


async def test_second_daemon_on_the_same_socket_refuses_to_start(one: Daemon) -> None:
    second = Daemon(one.state.parent, 1)
    second.state = one.state.parent / "other"
    assert "another daemon answers at" in second.refuse()


async def test_daemon_with_a_broken_identity_names_the_file(one: Daemon) -> None:
    await init(one)
    one.kill()
    (one.state / "node.json").write_text("{")
    said = one.refuse()
    assert "node.json: cannot read this node's identity" in said
    assert "Traceback" not in said
    (one.state / "node.json").unlink()
