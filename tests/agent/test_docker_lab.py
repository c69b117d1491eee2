"""An agent with the Docker runtime on a lab host's real Engine."""

import asyncio
import json
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from essaim.agent.runtime import whoami_image
from essaim.agent.runtime.docker.engine import Engine
from essaim.agent.runtime.docker.runtime import DockerRuntime
from essaim.cluster import wire
from essaim.cluster.container import FileTarget, HealthConfig, SecretReference
from essaim.cluster.engine_options import EngineOptions
from essaim.cluster.objects import Secret, SecretSpec
from tests.lab.host import Host
from tests.lab.images import busybox_image
from tests.lab.lab import Lab

from .conftest import MakeAgent
from .doubles import LOG, MEMORY, FakeManager, ingress, make_task, until, with_desired
from .test_process_end_to_end import answers

pytestmark = [pytest.mark.lab, pytest.mark.timeout(120)]
LAB_HOSTS = 1
MakeDocker = Callable[[], DockerRuntime]


@pytest.fixture
def host(lab: Lab) -> Host:
    lab.load_image(busybox_image("box:1"))
    return lab.hosts[0]


@pytest.fixture
async def make_docker(host: Host, tmp_path: Path) -> AsyncIterator[MakeDocker]:
    made: list[DockerRuntime] = []

    def make() -> DockerRuntime:
        runtime = DockerRuntime(
            engine_url=host.engine_url,
            data_addr=host.address,
            environment=dict(os.environ),
            memory_dirs=[MEMORY],
            log=LOG,
        )
        made.append(runtime)
        return runtime

    yield make
    for runtime in made:
        await runtime.close()


async def inspect(host: Host, name: str) -> Any:
    return json.loads(await asyncio.to_thread(host.docker, "inspect", name))[0]


async def test_agent_given_whoami_runs_a_container_that_answers_at_its_endpoint(
    make_agent: MakeAgent, make_docker: MakeDocker, manager: FakeManager, host: Host
) -> None:
    async with Engine(host.engine_url) as engine:
        await whoami_image.build_image(engine)
    agent = make_agent(make_docker())
    await agent.start()
    await until(lambda: manager.hellos)
    task = make_task(image="essaim/whoami:latest", ports=[ingress(80)])
    await manager.assign(task)
    await until(lambda: manager.state("t1") == "running")
    report = manager.reports["t1"]
    assert report.endpoints is not None
    endpoint = report.endpoints[0]
    assert (endpoint.address, endpoint.target_port) == (host.address, 80)
    told = json.loads((await answers(host.address, endpoint.port, "/api")).partition("\r\n\r\n")[2])
    assert (told["Service"], told["Task"]) == ("web", "web.1.t1")
    await manager.assign(with_desired(task, "shutdown"))
    await until(lambda: manager.state("t1") == "shutdown")
    await manager.assign(removed=["t1"])
    await until(lambda: not host.docker("ps", "-aq"))


async def test_agent_given_a_secret_shows_it_in_memory_and_removes_it_with_the_task(
    make_agent: MakeAgent, make_docker: MakeDocker, manager: FakeManager, host: Host
) -> None:
    agent = make_agent(make_docker())
    await agent.start()
    await until(lambda: manager.hellos)
    references = [
        SecretReference(file=FileTarget(name=target, uid="5", gid="6", mode=0o400), secret_id="s1", secret_name="my")
        for target in ("my_secret_data", "/var/run/my_secret_data")
    ]
    secret = Secret(id="s1", spec=SecretSpec(name="my", data=b"This is a secret\n"))
    await manager.assign(make_task(image="box:1", stop_signal="SIGKILL", secrets=references), secrets=[secret])
    await until(lambda: manager.state("t1") == "running")
    for path in ("/run/secrets/my_secret_data", "/var/run/my_secret_data"):
        assert host.docker("exec", "web.1.t1", "cat", path) == "This is a secret"
        assert host.docker("exec", "web.1.t1", "stat", "-c", "%u:%g %a", path) == "5:6 400"
        mounted = host.docker("exec", "web.1.t1", "grep", path.removeprefix("/var"), "/proc/mounts")
        assert mounted.startswith("tmpfs ")
        assert " ro," in mounted
    files = MEMORY / f"essaim-0/{manager.node.id}/t1"
    assert files.is_dir()
    host.docker("kill", "web.1.t1")
    await until(lambda: not files.exists())
    await until(lambda: manager.state("t1") == "failed")


async def test_container_killed_fails_its_task_at_once_and_a_health_check_gates_running(
    make_agent: MakeAgent, make_docker: MakeDocker, manager: FakeManager, host: Host
) -> None:
    agent = make_agent(make_docker())
    await agent.start()
    await until(lambda: manager.hellos)
    check = HealthConfig(test=["CMD-SHELL", "test -e /tmp/ok"], interval=200_000_000, retries=3)
    await manager.assign(make_task(image="box:1", healthcheck=check))
    await until(lambda: manager.state("t1") == "starting")
    await until(lambda: host.docker("ps", "-q"))
    host.docker("exec", "web.1.t1", "touch", "/tmp/ok")
    await until(lambda: manager.state("t1") == "running")
    assert manager.reports["t1"].status.healthy is True
    host.docker("kill", "web.1.t1")
    await until(lambda: manager.state("t1") == "failed")
    assert manager.reports["t1"].status.err == "task: non-zero exit (137)"


async def test_agent_restarted_leaves_its_container_alone_and_stops_what_is_not_wanted(
    make_agent: MakeAgent, make_docker: MakeDocker, manager: FakeManager, host: Host
) -> None:
    first = make_agent(make_docker())
    await first.start()
    await until(lambda: manager.hellos == 1)
    kept, stray = make_task("t1", image="box:1"), make_task("t2", image="box:1", stop_signal="SIGKILL")
    await manager.assign(kept, stray)
    await until(lambda: manager.state("t1") == manager.state("t2") == "running")
    before = await inspect(host, "web.1.t1")
    await first.stop(keep_tasks=True)
    manager.full = wire.Assignments(full=True, tasks=[make_task("t1", image="box:1", state="running")])
    second = make_agent(make_docker())
    await second.start()
    await until(lambda: host.docker("ps", "-aq", "--no-trunc") == before["Id"])
    after = await inspect(host, "web.1.t1")
    assert after["State"]["StartedAt"] == before["State"]["StartedAt"]
    assert manager.state("t1") == "running"


async def test_task_whose_image_is_missing_is_rejected_with_the_reason(
    make_agent: MakeAgent, make_docker: MakeDocker, manager: FakeManager
) -> None:
    agent = make_agent(make_docker())
    await agent.start()
    await until(lambda: manager.hellos)
    await manager.assign(make_task(image="127.0.0.1:1/nothing:1"))
    await until(lambda: manager.state("t1") == "rejected")
    assert "No such image: 127.0.0.1:1/nothing:1" in str(manager.reports["t1"].status.err)


async def test_engine_killed_and_back_fails_what_it_ran_and_runs_what_waited(
    make_agent: MakeAgent, make_docker: MakeDocker, manager: FakeManager, host: Host
) -> None:
    agent = make_agent(make_docker())
    await agent.start()
    await until(lambda: manager.hellos)
    await manager.assign(make_task("t1", image="box:1"))
    await until(lambda: manager.state("t1") == "running")
    await asyncio.to_thread(host.kill_engine)
    await manager.assign(make_task("t2", image="box:1"))
    await until(lambda: manager.state("t2") == "preparing")
    assert manager.state("t1") == "running"
    await asyncio.to_thread(host.restart_engine)
    await until(lambda: manager.state("t1") == "failed" and manager.state("t2") == "running", seconds=60)


async def test_task_logs_come_with_stream_and_time_and_can_be_followed(
    make_agent: MakeAgent, make_docker: MakeDocker, manager: FakeManager
) -> None:
    agent = make_agent(make_docker())
    await agent.start()
    await until(lambda: manager.hellos)
    script = "echo out; echo err >&2; while [ ! -e /tmp/go ]; do sleep 0.05; done; echo last"
    await manager.assign(make_task(image="box:1", command=["sh", "-c", script]))
    await until(lambda: manager.state("t1") == "running")

    def lines(request: int) -> list[tuple[int, bytes]]:
        chunks = manager.of_type(wire.LogChunk)
        return sorted((c.stream, c.line) for c in chunks if c.request == request and not c.end)

    await manager.send(wire.LogRequest(request=1, task_id="t1", follow=True))
    await until(lambda: len(lines(1)) == 2)
    assert lines(1) == [(1, b"out"), (2, b"err")]
    await manager.send(wire.LogRequest(request=2, task_id="t1", tail=1, stderr=True))
    await until(lambda: any(c.request == 2 and c.end for c in manager.of_type(wire.LogChunk)))
    assert len(lines(2)) == 1
    stamp = manager.of_type(wire.LogChunk)[0].timestamp
    assert stamp.endswith("Z")
    await manager.send(wire.LogRequest(request=3, task_id="nothing"))
    await until(lambda: any(c.request == 3 and c.error for c in manager.of_type(wire.LogChunk)))


async def test_task_in_the_hosts_network_is_reached_at_its_target_port(
    make_agent: MakeAgent, make_docker: MakeDocker, manager: FakeManager, host: Host
) -> None:
    async with Engine(host.engine_url) as engine:
        await whoami_image.build_image(engine)
    agent = make_agent(make_docker())
    await agent.start()
    await until(lambda: manager.hellos)
    options = EngineOptions(network_mode="host")
    await manager.assign(make_task(image="essaim/whoami:latest", ports=[ingress(80)], engine_options=options))
    await until(lambda: manager.state("t1") == "running")
    endpoints = manager.reports["t1"].endpoints
    assert endpoints is not None
    assert [(e.address, e.port) for e in endpoints] == [(host.address, 80)]
    assert "web.1.t1" in await answers(host.address, 80, "/")
