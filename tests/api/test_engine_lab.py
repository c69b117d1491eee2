"""The stock client through essaim's socket to a real Engine: what it prints is what it prints without essaim."""

import asyncio
import json
import os
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import structlog

from essaim.api.app import create_app
from essaim.api.listen.tls import server_context
from essaim.api.server import ApiServer
from essaim.cluster.changes import put
from essaim.cluster.ids import new_id
from essaim.cluster.service import TaskSpec
from essaim.cluster.task import ContainerStatus, Task, TaskStatus
from tests.api import docker_cli
from tests.api.certificates import Certificates
from tests.api.conftest import Served
from tests.api.fakes import utc_now
from tests.lab.images import busybox_image
from tests.lab.lab import Lab

pytestmark = [pytest.mark.timeout(180), pytest.mark.lab, pytest.mark.blocking_allowed]
LAB_HOSTS = 2
IMAGE = "page:1"


@pytest.fixture
async def behind(outside: Served, lab: Lab) -> AsyncIterator[Served]:
    """The API in front of the host's Engine, which has one image."""
    await asyncio.to_thread(lab.load_image, busybox_image(IMAGE, ["sh"]))
    outside.node.engine_url = lab.hosts[0].engine_url
    return outside


async def elsewhere(served: Served, lab: Lab) -> str:
    """A task's container on the second host, which is another node of the cluster; its name."""
    far = lab.hosts[1]
    await asyncio.to_thread(lab.load_image, busybox_image(IMAGE, ["sh"]))
    await served.call("POST", "/swarm/init", {})
    node_id = await served.node.add_worker("far")
    manager = served.node.manager
    assert manager is not None
    task_id = new_id(served.node.chance)
    name = f"web.1.{task_id}"
    words = ["run", "--detach", "--name", name, IMAGE, "sh", "-c", "echo started; exec sleep 1000"]
    container = await asyncio.to_thread(far.docker, *words)
    status = TaskStatus(state="running", container_status=ContainerStatus(container_id=container))
    task = Task(id=task_id, spec=TaskSpec(), service_name="web", slot=1, node_id=node_id, status=status)
    await manager.writer.commit([put("tasks", task, new=True)])
    served.tunnels[node_id] = far.engine_url
    return name


async def docker(served: Served, *words: str, text: bytes | None = None, code: int = 0) -> str:
    return await docker_cli.docker(
        f"unix://{served.socket}", served.socket.parent / "cli", *words, text=text, code=code
    )


async def test_exec_passes_input_until_its_end_and_the_exit_code(behind: Served) -> None:
    await docker(behind, "run", "--detach", "--name", "one", IMAGE, "sleep", "1000")
    assert await docker(behind, "exec", "one", "echo", "hi") == "hi\n"
    data = os.urandom(3 << 20).hex().encode()
    assert await docker(behind, "exec", "--interactive", "one", "cat", text=data) == data.decode()
    await docker(behind, "exec", "one", "sh", "-c", "exit 3", code=3)
    assert await docker(behind, "inspect", "-f", "{{.State.Status}}", "one") == "running\n"
    await docker(behind, "rm", "--force", "one")


async def test_run_attaches_and_removes(behind: Served) -> None:
    assert await docker(behind, "run", "--rm", IMAGE, "echo", "hello") == "hello\n"
    assert (
        await docker(behind, "run", "--rm", "--interactive", IMAGE, "sh", "-c", "cat; exit 7", text=b"in", code=7)
        == "in"
    )
    assert await docker(behind, "ps", "--all", "--quiet") == ""
    await docker(behind, "run", "--rm", "nosuch:image", code=125)


async def test_files_of_any_size_pass_both_ways(behind: Served, tmp_path: Path) -> None:
    source, back = tmp_path / "source", tmp_path / "back"
    source.write_bytes(os.urandom(24 << 20))
    await docker(behind, "create", "--name", "box", IMAGE, "true")
    await docker(behind, "cp", str(source), "box:/data")
    await docker(behind, "cp", "box:/data", str(back))
    assert back.read_bytes() == source.read_bytes()
    saved = tmp_path / "image.tar"
    await docker(behind, "save", "--output", str(saved), IMAGE)
    assert "Loaded image" in await docker(behind, "load", "--input", str(saved))


async def test_build_sends_its_context(behind: Served, tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text(f"FROM {IMAGE}\nCOPY note /note\n")
    (tmp_path / "note").write_text("built\n")
    await docker(behind, "build", "--tag", "built:1", str(tmp_path))
    assert await docker(behind, "run", "--rm", "built:1", "cat", "/note") == "built\n"


async def test_networks_events_and_info_are_merged(behind: Served) -> None:
    await behind.call("POST", "/swarm/init", {})
    await behind.call("POST", "/networks/create", {"Name": "ov", "Driver": "overlay"}, 201)
    await docker(behind, "network", "create", "local1")
    names = {n["Name"] for n in await behind.call("GET", "/networks")}
    assert {"ingress", "ov", "local1", "bridge", "host", "none"} <= names
    assert (await behind.call("GET", "/networks/local1"))["Driver"] == "bridge"
    info = await behind.call("GET", "/info")
    assert info["Swarm"]["LocalNodeState"] == "active"
    assert info["Driver"] == "overlay2"
    version = await behind.call("GET", "/version")
    assert {"essaim", "Engine"} <= {c["Name"] for c in version["Components"]}
    await docker(behind, "network", "rm", "local1")


async def test_events_of_engine_and_cluster_come_together(behind: Served) -> None:
    await behind.call("POST", "/swarm/init", {})
    begun = time.time()
    async with behind.client.get("http://essaim/events", params={"filters": '{"type":["container","secret"]}'}) as live:
        await behind.call("POST", "/secrets/create", {"Name": "first", "Data": "aGk="}, 201)
        await docker(behind, "run", "--rm", IMAGE, "true")
        await behind.call("POST", "/secrets/create", {"Name": "last", "Data": "aGk="}, 201)
        told = []
        async with asyncio.timeout(docker_cli.DEADLINE):
            while len([kind for kind, _ in told if kind == "secret"]) < 2 or ("container", "destroy") not in told:
                event = json.loads(await live.content.readline())
                told.append((event["Type"], event["Action"]))
    assert ("container", "start") in told
    words = ["events", "--since", f"{begun:.6f}", "--until", f"{time.time():.6f}", "--format", "{{.Type}} {{.Action}}"]
    past = (await docker(behind, *words, "--filter", "type=container", "--filter", "type=secret")).splitlines()
    assert past[0] == past[-1] == "secret create", "in the order of time"
    assert {"container create", "container start", "container die", "container destroy"} <= set(past)
    assert set((await docker(behind, *words, "--filter", "scope=swarm")).splitlines()) == {"secret create"}


async def test_logs_followed_stop_when_the_client_goes(behind: Served) -> None:
    await docker(behind, "run", "--detach", "--name", "loud", IMAGE, "sh", "-c", "while :; do echo x; sleep 0.05; done")
    async with behind.client.get("http://essaim/containers/loud/logs?stdout=1&follow=1") as reply:
        async with asyncio.timeout(docker_cli.DEADLINE):
            assert await reply.content.readexactly(20)
    await docker(behind, "rm", "--force", "loud")


async def test_container_on_another_node_is_reached_through_this_one(behind: Served, lab: Lab) -> None:
    name = await elsewhere(behind, lab)
    container = (await docker(behind, "inspect", "-f", "{{.Id}}", name)).strip()
    for reference in (name, container, container[:12]):
        assert await docker(behind, "exec", "--interactive", reference, "cat", text=b"over there") == "over there"
        assert await docker(behind, "logs", reference) == "started\n"
    await docker(behind, "exec", name, "sh", "-c", "exit 3", code=3)
    assert "No such container" in await docker(behind, "exec", "nosuch", "true", code=1)


async def test_container_on_a_lost_node_says_so(behind: Served, lab: Lab) -> None:
    name = await elsewhere(behind, lab)
    behind.tunnels.clear()
    assert "is down" in await docker(behind, "exec", name, "true", code=1)


async def test_exec_over_tls_passes_input_until_its_end(behind: Served, tmp_path: Path) -> None:
    certificates = Certificates(tmp_path)
    node = behind.node
    await docker(behind, "run", "--detach", "--name", "one", IMAGE, "sleep", "1000")
    app = create_app(node, chance=node.chance, now=utc_now, log=structlog.get_logger())
    async with ApiServer(app) as server:
        context = server_context(certificates.server, certificates.server_key, certificates.ca)
        host = f"tcp://127.0.0.1:{await server.listen_tls('127.0.0.1', 0, context)}"
        data = os.urandom(1 << 20).hex().encode()
        words = [*certificates.docker_flags(), "exec", "--interactive", "one", "cat"]
        assert await docker_cli.docker(host, tmp_path / "cli", *words, text=data) == data.decode()
        words = [*certificates.docker_flags(), "exec", "one", "sh", "-c", "exit 3"]
        await docker_cli.docker(host, tmp_path / "cli", *words, code=3)
