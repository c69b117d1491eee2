"""Traefik's own provider for Swarm reads services, networks and tasks from our socket, and finds the replicas."""

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from essaim.cluster.changes import put
from essaim.cluster.ids import new_id
from essaim.cluster.service import TaskSpec
from essaim.cluster.task import NetworkAttachment, Task, TaskStatus
from tests.api.conftest import Served
from tests.lab.wait import eventually_async
from tests.ports import free_port

pytestmark = pytest.mark.blocking_allowed
TRAEFIK = Path(sys.executable).parent / "traefik"
LABELS = {
    "traefik.enable": "true",
    "traefik.http.routers.web.rule": "Host(`web.test`)",
    "traefik.http.services.web.loadbalancer.server.port": "80",
}


@contextlib.contextmanager
def traefik(socket: Path, folder: Path) -> Iterator[str]:
    """The URL of its API."""
    address = f"127.0.0.1:{free_port('127.0.0.1')}"
    words = [
        f"--providers.swarm.endpoint=unix://{socket}", "--providers.swarm.exposedbydefault=false",
        "--providers.swarm.network=inside", "--providers.swarm.refreshseconds=1", "--api.insecure=true",
        f"--entrypoints.traefik.address={address}", f"--entrypoints.front.address=127.0.0.1:{free_port('127.0.0.1')}",
        "--global.checknewversion=false", "--global.sendanonymoususage=false",
    ]  # fmt: skip
    with (folder / "traefik.log").open("wb") as log:
        process = subprocess.Popen([TRAEFIK, *words], stdout=log, stderr=log, cwd=folder)
        try:
            yield f"http://{address}/api"
        finally:
            process.kill()
            process.wait()


async def running(served: Served, service_id: str, network_id: str, address: str) -> None:
    manager = served.node.manager
    assert manager is not None
    task = Task(
        id=new_id(served.node.chance),
        spec=TaskSpec(),
        service_id=service_id,
        service_name="web",
        desired_state="running",
        status=TaskStatus(state="running"),
        networks_attachments=[NetworkAttachment(network_id=network_id, addresses=[address])],
    )
    await manager.writer.commit([put("tasks", task, new=True)])


async def test_traefik_finds_a_services_replicas_and_follows_them(served: Served, tmp_path: Path) -> None:
    network_id = (await served.call("POST", "/networks/create", {"Name": "inside", "Driver": "overlay"}, 201))["Id"]
    service_id = await served.create("web", Labels=LABELS, template={"Networks": [{"Target": network_id}]})
    await running(served, service_id, network_id, "10.0.9.5/24")
    await running(served, service_id, network_id, "10.0.9.6/24")
    with traefik(served.socket, tmp_path) as url:
        async with aiohttp.ClientSession() as client:

            async def servers() -> set[str]:
                async with client.get(f"{url}/http/services/web@swarm") as reply:
                    shown: Any = await reply.json()
                found = shown.get("loadBalancer", {}).get("servers", [])
                return {server["url"] for server in found}

            async def are(*wanted: str) -> bool:
                return await servers() == {f"http://{one}:80" for one in wanted}

            def said() -> str:
                return (tmp_path / "traefik.log").read_text()

            retry = (aiohttp.ClientError,)
            await eventually_async(lambda: are("10.0.9.5", "10.0.9.6"), 30, f"two replicas {said()}", retry_on=retry)
            await running(served, service_id, network_id, "10.0.9.7/24")
            await eventually_async(lambda: are("10.0.9.5", "10.0.9.6", "10.0.9.7"), 30, said(), retry_on=retry)
