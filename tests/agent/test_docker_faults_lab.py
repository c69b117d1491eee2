"""A slice of the faults with a real Engine behind the fault-injection proxy; all of them: test_docker_never_two.py."""

import asyncio
import json
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from essaim.agent.runtime.docker.runtime import DockerRuntime
from essaim.cluster.overlay import OverlayNetwork
from essaim.cluster.task import NetworkAttachment, Task
from tests.lab.host import Host
from tests.lab.images import busybox_image
from tests.lab.lab import Lab
from tools.engine_faults import Rule
from tools.engine_proxy import EngineProxy

from .conftest import MakeAgent
from .doubles import LOG, MEMORY, FakeManager, make_task, until, with_desired

pytestmark = [pytest.mark.lab, pytest.mark.timeout(120), pytest.mark.blocking_allowed]
LAB_HOSTS = 1
NETWORKS = {"faults1": "10.191.1", "faults2": "10.191.2"}


@pytest.fixture
def host(lab: Lab) -> Host:
    lab.load_image(busybox_image("box:1"))
    return lab.hosts[0]


@pytest.fixture
async def proxy(host: Host, tmp_path: Path) -> AsyncIterator[EngineProxy]:
    async with EngineProxy(host.engine_url, tmp_path / "faulty.sock") as proxy:
        yield proxy


@pytest.fixture
async def runtime(host: Host, proxy: EngineProxy) -> AsyncIterator[DockerRuntime]:
    runtime = DockerRuntime(
        engine_url=proxy.url, data_addr=host.address, environment=dict(os.environ), memory_dirs=[MEMORY], log=LOG
    )
    yield runtime
    await runtime.close()


def containers(host: Host) -> list[dict[str, Any]]:
    names = host.docker("ps", "--all", "--quiet").split()
    return json.loads(host.docker("inspect", *names)) if names else []


async def test_stop_that_a_real_engine_is_kept_from_leaves_the_task_running_until_it_is_done(
    make_agent: MakeAgent, runtime: DockerRuntime, manager: FakeManager, host: Host, proxy: EngineProxy
) -> None:
    agent = make_agent(runtime)
    await agent.start()
    await until(lambda: manager.hellos)
    task = make_task(image="box:1", stop_signal="SIGKILL")
    await manager.assign(task)
    await until(lambda: manager.state("t1") == "running")
    proxy.rules(
        Rule("refuse", "POST", "/containers/.*/stop", message="permission denied", times=3),
        Rule("drop-after", "POST", "/containers/.*/stop", times=1),
    )
    await manager.assign(with_desired(task, "shutdown"))
    await until(lambda: "permission denied" in (manager.reports["t1"].status.err or ""))
    assert manager.state("t1") == "running"
    assert [one["State"]["Running"] for one in containers(host)] == [True]
    await until(lambda: manager.state("t1") == "shutdown")
    assert [one["State"]["Running"] for one in containers(host)] == [False]
    proxy.rules(Rule("refuse", "DELETE", "/containers/.*", status=409, message="in progress", times=2))
    await manager.assign(removed=["t1"])
    await until(lambda: not containers(host))


async def test_answers_that_are_lost_make_one_container_that_is_started_once(
    make_agent: MakeAgent, runtime: DockerRuntime, manager: FakeManager, host: Host, proxy: EngineProxy
) -> None:
    agent = make_agent(runtime)
    await agent.start()
    await until(lambda: manager.hellos)
    proxy.rules(
        Rule("drop-after", "POST", "/containers/create", times=1),
        Rule("drop-after", "POST", "/containers/.*/start", times=1),
        Rule("refuse", "GET", "/containers/.*/json", times=2),
        Rule("mute", "GET", "/events"),
    )
    await manager.assign(make_task(image="box:1", args=["sh", "-c", "echo begun"]))
    await until(lambda: manager.state("t1") == "complete")
    assert len(containers(host)) == 1
    assert host.docker("logs", "web.1.t1").splitlines() == ["begun"]
    await manager.assign(removed=["t1"])
    await until(lambda: not containers(host))


async def test_connect_that_fails_rejects_the_task_and_leaves_no_container(
    make_agent: MakeAgent,
    runtime: DockerRuntime,
    manager: FakeManager,
    host: Host,
    proxy: EngineProxy,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, subnet in NETWORKS.items():
        host.docker("network", "create", "--subnet", f"{subnet}.0/24", name)

    async def ready(task: Task) -> list[OverlayNetwork]:
        return [OverlayNetwork(name, name, f"{at}.0/24", f"{at}.1", 4097) for name, at in NETWORKS.items()]

    monkeypatch.setattr(runtime.overlays, "ready", ready)
    agent = make_agent(runtime)
    await agent.start()
    await until(lambda: manager.hellos)
    attached = [NetworkAttachment(network_id=n, addresses=[f"{at}.7/24"]) for n, at in NETWORKS.items()]
    proxy.rules(Rule("refuse", "POST", "/networks/.*/connect", message="no more room", times=1))
    await manager.assign(make_task(image="box:1", networks_attachments=attached))
    await until(lambda: manager.state("t1") == "rejected")
    assert "no more room" in (manager.reports["t1"].status.err or "")
    assert containers(host) == []
    proxy.rules(Rule("drop-after", "POST", "/networks/.*/connect", times=1))
    await manager.assign(make_task("t2", image="box:1", networks_attachments=attached))
    await until(lambda: manager.state("t2") == "running")
    (one,) = containers(host)
    assert set(one["NetworkSettings"]["Networks"]) == set(NETWORKS)


async def test_engine_that_goes_away_and_comes_back_finds_its_tasks_as_they_were(
    make_agent: MakeAgent, runtime: DockerRuntime, manager: FakeManager, host: Host, proxy: EngineProxy
) -> None:
    agent = make_agent(runtime)
    await agent.start()
    await until(lambda: manager.hellos)
    await manager.assign(make_task(image="box:1"))
    await until(lambda: manager.state("t1") == "running")
    await proxy.set_gate("closed")
    await asyncio.to_thread(host.docker, "kill", "web.1.t1")
    await manager.assign(make_task("t2", image="box:1"))
    await until(lambda: "does not answer" in ((manager.reports.get("t2") and manager.reports["t2"].status.err) or ""))
    assert manager.state("t1") == "running"
    await proxy.set_gate("open")
    await until(lambda: (manager.state("t1"), manager.state("t2")) == ("failed", "running"))
