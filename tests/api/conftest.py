"""Served applications for tests: in-process requests, and a unix socket for the real clients."""

import asyncio
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import structlog
from aiohttp import ClientSession, UnixConnector, web

from essaim.api.app import create_app
from essaim.api.server import ApiServer
from essaim.api.streams.tunnel import Tunnels, serve_engine
from essaim.cluster.errors import Unavailable
from tests.api.fakes import FakeNode, InstantScheduler, QueueChannel, channel_pair, utc_now
from tests.lab.fixtures import lab, pytest_runtest_makereport, shared_lab

__all__ = ["lab", "outside", "pytest_runtest_makereport", "scheduled", "served", "shared_lab"]


class Daemons:
    """The other nodes' daemons, in so far as they serve tunnels. `engines`: node ID -> URL of its Engine."""

    def __init__(self) -> None:
        self.engines: dict[str, str] = {}
        self._serving: set[asyncio.Task[None]] = set()

    async def open_channel(self, node_id: str) -> QueueChannel:
        if node_id not in self.engines:
            raise Unavailable(f"node {node_id} is down")
        near, far = channel_pair()
        self._serving.add(asyncio.create_task(serve_engine(far, self.engines[node_id])))
        return near

    async def stop(self) -> None:
        await asyncio.gather(*self._serving, return_exceptions=True)


@dataclass
class Served:
    """A node's API on a socket, with a client."""

    node: FakeNode
    socket: Path
    client: ClientSession
    app: web.Application
    tunnels: dict[str, str]

    async def call(self, method: str, path: str, body: Any = None, status: int = 200) -> Any:
        """The decoded answer; fails on another status."""
        async with self.client.request(method, "http://essaim" + path, json=body) as reply:
            text = await reply.text()
            assert reply.status == status, (reply.status, text)
            return await reply.json() if text and reply.content_type == "application/json" else text

    async def error(self, method: str, path: str, body: Any = None) -> tuple[int, str]:
        async with self.client.request(method, "http://essaim" + path, json=body) as reply:
            return reply.status, (await reply.json())["message"]

    async def call_raw(self, method: str, path: str, body: Any) -> int:
        """The status for a body that is sent as it is."""
        json = {"Content-Type": "application/json"}
        async with self.client.request(method, "http://essaim" + path, data=body, headers=json) as reply:
            await reply.read()
            return reply.status

    async def create(self, name: str, **spec: Any) -> str:
        """A service with little in it; its id."""
        template = {"ContainerSpec": {"Image": "essaim/whoami"}, **spec.pop("template", {})}
        made = await self.call("POST", "/services/create", {"Name": name, "TaskTemplate": template, **spec}, 201)
        return str(made["ID"])


@pytest.fixture
async def outside() -> AsyncIterator[Served]:
    """A node that is in no swarm."""
    node = FakeNode()
    with tempfile.TemporaryDirectory(prefix="api-") as folder:
        socket = Path(folder) / "api.sock"
        async with ClientSession(connector=UnixConnector(str(socket))) as client:
            daemons = Daemons()
            tunnels = Tunnels(daemons.open_channel)
            app = create_app(
                node,
                chance=node.chance,
                now=utc_now,
                log=structlog.get_logger(),
                renderers={"haproxy": lambda table, bind: f"global {bind}\n"},
                dial_engine=tunnels.dial,
            )
            async with ApiServer(app) as server:
                await server.listen_unix(socket)
                yield Served(node, socket, client, app, daemons.engines)
            await tunnels.stop()
            await daemons.stop()


@pytest.fixture
async def served(outside: Served) -> Served:
    """A manager of a new swarm."""
    await outside.call("POST", "/swarm/init", {"AdvertiseAddr": "127.0.0.1"})
    return outside


@pytest.fixture
async def scheduled(served: Served) -> AsyncIterator[Served]:
    """A manager whose services get running tasks at once."""
    task = asyncio.create_task(InstantScheduler(served.node).run())
    yield served
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
