"""A daemon with a model of an Engine behind the fault-injection proxy: it comes late, goes away, and refuses."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from essaim.api.client import Client
from tests.agent.engine_server import serving
from tests.agent.model_engine import ModelEngine
from tests.lab.wait import eventually_async
from tools.engine_faults import Rule
from tools.engine_proxy import EngineProxy

from .processes import Daemon, init

pytestmark = pytest.mark.blocking_allowed


@dataclass
class Node:
    daemon: Daemon
    engine: ModelEngine
    proxy: EngineProxy

    async def tasks(self, service: str = "") -> list[dict[str, Any]]:
        async with Client(self.daemon.host) as client:
            found: list[dict[str, Any]] = await client.get("/tasks")
        return [task for task in found if not service or task["Spec"]["ContainerSpec"]["Image"] == service]

    async def states(self, image: str = "") -> list[tuple[str, str]]:
        return sorted((t["Status"]["State"], t["DesiredState"]) for t in await self.tasks(image))

    async def create(self, image: str) -> str:
        async with Client(self.daemon.host) as client:
            spec = {"Name": image, "TaskTemplate": {"ContainerSpec": {"Image": image}}}
            created: dict[str, str] = await client.post("/services/create", spec)
            return created["ID"]

    async def force(self, service: str) -> None:
        async with Client(self.daemon.host) as client:
            found = await client.get(f"/services/{service}")
            spec = found["Spec"]
            spec["TaskTemplate"]["ForceUpdate"] = 1
            await client.post(f"/services/{service}/update", spec, query={"version": str(found["Version"]["Index"])})

    async def status(self) -> dict[str, Any]:
        async with Client(self.daemon.host) as client:
            (found,) = await client.get("/nodes")
        return {**found["Status"], "Engine": found["Description"]["Engine"].get("EngineVersion")}

    async def until_running(self, image: str) -> None:
        async def running() -> bool:
            return ("running", "running") in await self.states(image)

        await eventually_async(running, 30, f"{image} runs")


@pytest.fixture
async def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Node]:
    engine = ModelEngine()
    real, faulty = tmp_path / "engine.sock", tmp_path / "faulty.sock"
    async with serving(engine, real), EngineProxy(real, faulty) as proxy:
        monkeypatch.setenv("DOCKER_HOST", proxy.url)
        daemon = Daemon(tmp_path, 1, ("--runtime", "auto"))
        try:
            await daemon.start()
            await init(daemon)
            yield Node(daemon, engine, proxy)
        finally:
            await asyncio.to_thread(daemon.end)


async def test_engine_that_starts_after_the_daemon_is_waited_for_and_nothing_is_rejected(node: Node) -> None:
    await node.create("box")
    await node.until_running("box")
    await asyncio.to_thread(node.daemon.kill, 15)
    await node.proxy.set_gate("closed")
    for container in node.engine.running:
        container.status = "exited"  # the host boots
    await node.daemon.start()

    async def waits() -> bool:
        status = await node.status()
        return status["State"] == "ready" and "does not answer" in status.get("Message", "")

    await eventually_async(waits, 20, "the node is up and says what it waits for")
    assert (await node.status())["Engine"] == "28.0.0"
    await node.create("late")

    async def is_placed_nowhere() -> bool:
        errors = [task["Status"].get("Err", "") for task in await node.tasks("late")]
        return errors == ["no suitable node (1 node whose Docker Engine does not answer)"]

    await eventually_async(is_placed_nowhere, 20, "the new task says why it waits")
    await node.proxy.set_gate("open")
    await node.until_running("late")
    await node.until_running("box")
    states = [state for state, _ in await node.states()]
    assert "rejected" not in states
    assert "Message" not in await node.status()
    assert len(node.engine.running) == 2


async def test_stop_that_is_refused_holds_its_replacement_back_and_is_shown(node: Node) -> None:
    service = await node.create("box")
    await node.until_running("box")
    node.proxy.rules(
        Rule("refuse", method="POST", path="/containers/.*/(stop|kill)", message="permission denied"),
        Rule("refuse", method="DELETE", path="/containers/.*", message="permission denied"),
    )
    await node.force(service)

    async def insisted() -> bool:
        return node.proxy.plan.count("POST", "/containers/.*/stop") >= 3

    await eventually_async(insisted, 30, "the stop is asked for again")
    assert await node.states() == [("ready", "ready"), ("running", "shutdown")]
    (old,) = [task for task in await node.tasks() if task["DesiredState"] == "shutdown"]
    assert old["Status"]["Err"] == "the container cannot be stopped: permission denied"
    node.proxy.rules(Rule("drop-after", method="POST", path="/containers/.*/(stop|start)", times=2))
    await node.until_running("box")
    assert len(node.engine.running) == 1
    assert node.engine.wrongs == []
