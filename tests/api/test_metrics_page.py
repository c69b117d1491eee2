"""The port for Prometheus: numbers for whoever reads, nothing else for anybody."""

import asyncio
from collections.abc import AsyncIterator

import aiohttp
import pytest
import structlog
from msgspec.structs import replace
from prometheus_client.parser import text_string_to_metric_families

from essaim.api import metrics
from essaim.api.listen.admission import Limits
from essaim.api.listen.doors import Doors, door_for
from essaim.api.metrics_page import MetricsPage, metrics_app
from essaim.cluster.changes import put
from tests.api.conftest import Served

CALLS = [
    ("GET", "/"),
    ("GET", "/services"),
    ("GET", "/v1.41/info"),
    ("GET", "/essaim/v1/metrics"),
    ("GET", "/metrics/"),
]


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def url(served: Served, clock: Clock) -> AsyncIterator[str]:
    async with Doors(metrics_app(MetricsPage(served.node, clock)), structlog.get_logger()) as doors:
        port = await doors.listen_tcp("127.0.0.1", 0, door_for("metrics", Limits(8, 8)))
        yield f"http://127.0.0.1:{port}"


@pytest.fixture
async def reader() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


async def test_page_is_what_prometheus_reads(served: Served, url: str, reader: aiohttp.ClientSession) -> None:
    await served.create("web")
    await served.call("POST", "/secrets/create", {"Name": "password", "Data": "aHVudGVyMg=="}, 201)
    async with reader.get(f"{url}/metrics", headers={"Host": "prometheus.example:9323"}) as reply:
        text = await reply.text()
        assert (reply.status, reply.content_type) == (200, "text/plain")
    families = {family.name: family for family in text_string_to_metric_families(text)}
    assert families["essaim_services"].samples[0].value == 1
    assert "essaim_gateway_fake" in families
    manager = served.node.manager
    assert manager is not None
    cluster = manager.store.cluster
    assert cluster is not None
    assert cluster.join_tokens is not None
    for secret in ("hunter2", "password", cluster.join_tokens.worker, "SWMTKN", "BEGIN"):
        assert secret not in text
    async with reader.head(f"{url}/metrics") as reply:
        assert (reply.status, await reply.read()) == (200, b"")


async def test_page_counts_faulty_services_and_names_some_of_them(
    served: Served, url: str, reader: aiohttp.ClientSession, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metrics, "MOST_FAULTY", 2)
    manager = served.node.manager
    assert manager is not None

    async def faulty() -> tuple[float, set[str]]:
        clock.now += 100
        async with reader.get(f"{url}/metrics") as reply:
            families = {family.name: family for family in text_string_to_metric_families(await reply.text())}
        named = {sample.labels["service"] for sample in families["essaim_service_faulty"].samples}
        return families["essaim_services_faulty"].samples[0].value, named

    for name in ("d", "c", "b", "a"):
        await served.create(name)
    assert await faulty() == (0, set())
    bad = [service for service in manager.store.services if service.spec.name != "a"]
    marked = [replace(service, fault="it cannot be placed: ZeroDivisionError") for service in bad]
    await manager.writer.commit([put("services", service) for service in marked])
    assert await faulty() == (3, {"b", "c"})
    await manager.writer.commit([put("services", service, force=True) for service in bad])
    assert await faulty() == (0, set())


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
async def test_other_methods_are_refused(url: str, reader: aiohttp.ClientSession, method: str) -> None:
    async with reader.request(method, f"{url}/metrics", data=b"x") as reply:
        assert reply.status in (400, 405)


@pytest.mark.parametrize(("method", "path"), [*CALLS, ("POST", "/swarm/leave?force=1"), ("POST", "/services/create")])
async def test_nothing_else_is_there(
    served: Served, url: str, reader: aiohttp.ClientSession, method: str, path: str
) -> None:
    async with reader.request(method, url + path) as reply:
        assert reply.status == 404
    assert served.node.swarm_state == "active"


async def test_crowd_of_readers_costs_one_page(
    served: Served, url: str, reader: aiohttp.ClientSession, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = 0

    async def slow() -> str:
        nonlocal made
        made += 1
        clock.now += 2.0
        return ""

    monkeypatch.setattr(served.node, "gateway_metrics", slow)

    async def read() -> int:
        async with reader.get(f"{url}/metrics") as reply:
            return reply.status

    assert await asyncio.gather(*(read() for _ in range(8))) == [200] * 8
    assert made == 1
    clock.now += 7.9  # it took 2 s: good for 8
    await read()
    assert made == 1
    clock.now += 0.2
    await read()
    assert made == 2
