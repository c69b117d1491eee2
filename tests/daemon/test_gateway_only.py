"""A host that only serves the mesh: started in one line, and again after kill -9."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from essaim.api.client import ApiError, Client
from tests.daemon.processes import Daemon, daemons, init
from tests.lab.wait import eventually_async
from tests.ports import free_port

pytestmark = [pytest.mark.timeout(120), pytest.mark.blocking_allowed]


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[tuple[Daemon, Daemon]]:
    """A manager in its swarm, and a gateway-only daemon that has the flags to join it and is not started yet."""
    async with daemons(tmp_path) as (manager,):
        await init(manager)
        async with Client(manager.host) as client:
            token = (await client.get("/swarm"))["JoinTokens"]["Worker"]
        edge = Daemon(tmp_path, 2, ("--gateway-only", "--join", manager.cluster_address, "--token", token))
        try:
            yield manager, edge
        finally:
            edge.end()


async def fetch(url: str) -> str:
    """The answer's text, or nothing while none comes."""
    timeout = aiohttp.ClientTimeout(total=5)
    with contextlib.suppress(aiohttp.ClientError, TimeoutError):
        async with aiohttp.ClientSession(timeout=timeout) as session, session.get(url) as response:
            return await response.text() if response.status == 200 else ""
    return ""


async def nodes(manager: Daemon) -> dict[str, str]:
    """The state of each node, by host name."""
    async with Client(manager.host) as client:
        found = await client.get("/nodes")
    return {node["Description"]["Hostname"]: node["Status"]["State"] for node in found}


async def test_gateway_only_host_serves_the_mesh_and_runs_no_task(cluster: tuple[Daemon, Daemon]) -> None:
    manager, edge = cluster
    port = free_port("127.0.0.1")
    published = f"published={port},target=80,app_protocol=http"
    await edge.start()

    async def is_up() -> bool:
        return await nodes(manager) == {"node1": "ready", "node2": "ready"}

    await eventually_async(is_up, 30, "both nodes are ready")
    for name, flags in (("web", ("--replicas", "3", "--publish", published)), ("each", ("--mode", "global"))):
        done = await asyncio.to_thread(
            manager.essaim, "service", "create", "--no-resolve-image", "--name", name, *flags, "essaim/whoami"
        )
        assert done.returncode == 0, done.stderr
    async with Client(manager.host) as client:
        tasks = await client.get("/tasks")
        own = (await client.get("/info"))["Swarm"]["NodeID"]
    assert len(tasks) == 4
    assert {task["NodeID"] for task in tasks} == {own}

    async def serves() -> bool:
        return "web" in await fetch(f"http://{edge.address}:{port}/")

    await eventually_async(serves, 30, "the gateway-only host serves the published port")
    rendered = await asyncio.to_thread(manager.essaim, "lb", "render", "haproxy")
    assert f"{edge.address}:{port}" in rendered.stdout

    edge.kill()
    await edge.start()
    await eventually_async(serves, 30, "it serves again after kill -9, with the same flags")
    assert sorted(await nodes(manager)) == ["node1", "node2"]

    async with Client(edge.host) as client:
        with pytest.raises(ApiError, match="needs a Docker Engine"):
            await client.get("/containers/json")


async def test_wrong_token_ends_the_daemon_with_a_reason(cluster: tuple[Daemon, Daemon]) -> None:
    _, edge = cluster
    edge.flags = (*edge.flags[:-1], "SWMTKN-1-wrong-wrong")
    said = await asyncio.to_thread(edge.refuse)
    assert "invalid join token" in said
    assert "Traceback" not in said


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (("--gateway-only", "--runtime", "process"), "--gateway-only runs no tasks"),
        (("--join", "127.0.0.1:2377"), "--join needs a token"),
    ],
)
async def test_flags_that_contradict_each_other_are_refused(tmp_path: Path, flags: tuple[str, ...], says: str) -> None:
    said = await asyncio.to_thread(Daemon(tmp_path, 3, flags).refuse)
    assert says in said
