"""Real daemons under constant load through the mesh: updates in both orders, a scale and a drain fail no request.

Half of the clients keep their connections, half make a new one for each request.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from essaim.api.client import ApiError, Client
from tests.daemon.processes import daemons, init, join
from tests.lab.wait import eventually_async
from tests.ports import free_port

pytestmark = [pytest.mark.timeout(180), pytest.mark.blocking_allowed]

SECOND = 1_000_000_000
WITHIN = 60


class Load:
    """Requests without pause, and what became of them."""

    def __init__(self, urls: list[str]) -> None:
        self.urls = urls
        self.answered = 0
        self.failures: list[str] = []

    async def client(self, url: str, *, keep: bool) -> None:
        connector = aiohttp.TCPConnector(force_close=not keep)
        async with aiohttp.ClientSession(connector=connector) as session:
            while True:
                try:
                    async with session.get(url, timeout=aiohttp.ClientTimeout(10)) as reply:
                        await reply.read()
                        if reply.status == 200:
                            self.answered += 1
                        else:
                            self.failures.append(f"{url} status {reply.status}")
                except (aiohttp.ClientError, TimeoutError) as error:
                    self.failures.append(f"{url} keep={keep} {error!r}")
                await asyncio.sleep(0.01)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        clients = [asyncio.create_task(self.client(url, keep=keep)) for url in self.urls for keep in (True, False)]
        try:
            yield
        finally:
            for client in clients:
                client.cancel()
            await asyncio.gather(*clients, return_exceptions=True)

    async def some_more(self) -> None:
        """Wait until the present state has been seen by some hundred requests."""
        wanted = self.answered + 100

        async def enough() -> bool:
            return self.answered >= wanted

        await eventually_async(enough, WITHIN, "further requests are answered")


class Web:
    """The service under load."""

    def __init__(self, client: Client, port: int) -> None:
        self.client = client
        self.port = port

    async def create(self, replicas: int) -> None:
        await self.client.post("/services/create", self.spec(replicas))
        await self.settled(replicas, "")

    def spec(self, replicas: int, *, color: str = "", order: str = "stop-first") -> dict[str, Any]:
        port = {"TargetPort": 80, "PublishedPort": self.port, "AppProtocol": "http"}
        return {
            "Name": "web",
            "TaskTemplate": {"ContainerSpec": {"Image": "essaim/whoami", "Env": [f"COLOR={color}"]}},
            "Mode": {"Replicated": {"Replicas": replicas}},
            "UpdateConfig": {"Parallelism": 2, "Order": order, "Monitor": SECOND},
            "EndpointSpec": {"Ports": [port]},
        }

    async def update(self, spec: dict[str, Any]) -> None:
        service = await self.client.get("/services/web")
        query = {"version": str(service["Version"]["Index"])}
        await self.client.post("/services/web/update", spec, query=query)

    async def settled(self, replicas: int, color: str, *, without: str = "") -> None:
        async def done() -> bool:
            service = await self.client.get("/services/web")
            tasks = await self.client.get("/tasks", {"filters": '{"service":["web"]}'})
            live = [t for t in tasks if t["Status"]["State"] == "running"]
            right = [t for t in live if t["Spec"]["ContainerSpec"]["Env"] == [f"COLOR={color}"]]
            calm = (service.get("UpdateStatus") or {}).get("State") in (None, "completed")
            return calm and len(right) == len(live) == replicas and all(t["NodeID"] != without for t in live)

        await eventually_async(done, WITHIN, f"{replicas} replicas of color {color!r} run", retry_on=(ApiError,))


async def test_updates_scale_and_drain_under_load_fail_no_request(tmp_path: Path) -> None:
    async with daemons(tmp_path, 2) as (manager, worker):
        await init(manager)
        await join(worker, manager)
        port = free_port("127.0.0.1")
        async with Client(manager.host) as client:
            web = Web(client, port)
            await web.create(4)
            load = Load([f"http://{daemon.address}:{port}/" for daemon in (manager, worker)])

            async def served() -> bool:
                async with aiohttp.ClientSession() as session:
                    for url in load.urls:
                        async with session.get(url) as reply:
                            assert reply.status == 200
                return True

            await eventually_async(served, WITHIN, "both nodes serve", retry_on=(aiohttp.ClientError, AssertionError))
            async with load.running():
                await load.some_more()
                for color, order in (("red", "stop-first"), ("blue", "start-first")):
                    await web.update(web.spec(4, color=color, order=order))
                    await web.settled(4, color)
                    assert load.failures == [], f"{order} update"
                await web.update(web.spec(2, color="blue", order="start-first"))
                await web.settled(2, "blue")
                node = next(n for n in await client.get("/nodes") if n["Description"]["Hostname"] == worker.name)
                spec = {**node["Spec"], "Availability": "drain"}
                query = {"version": str(node["Version"]["Index"])}
                await client.post(f"/nodes/{node['ID']}/update", spec, query=query)
                await web.settled(2, "blue", without=node["ID"])
                await load.some_more()
            assert load.failures == []
            assert load.answered > 300
