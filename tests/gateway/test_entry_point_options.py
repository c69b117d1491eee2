"""What a service's options decide about a request holds at an entry point as at a published port."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from essaim.gateway.control.supervisor import Gateway
from tests.ports import free_port

from .conftest import Backends, endpoint, entry_points, exchange, gateway_with, service, table

RULE = {"traefik.http.routers.w.rule": "Host(`a`)", "traefik.http.services.w.loadbalancer.server.port": "80"}
REPLICAS = ("one", "two", "three")


class At:
    """One service at a published port and at an entry point."""

    def __init__(self, gateway: Gateway, backends: Backends, published: int, routed: int) -> None:
        self.gateway, self.backends = gateway, backends
        self.places = {"published port": published, "entry point": routed}

    async def serve(self, labels: dict[str, str]) -> None:
        replicas = [endpoint(name, await self.backends.web(name)) for name in REPLICAS]
        made = service("web", self.places["published port"], replicas, "http", labels=RULE | labels)
        await self.gateway.apply(table(1, made))

    async def ask(self, place: str, path: str = "/", fields: str = "") -> bytes:
        request = f"GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{fields}\r\n"
        return await exchange(self.places[place], request.encode())


@pytest.fixture
async def at(tmp_path: Path, backends: Backends) -> AsyncIterator[At]:
    published, routed = free_port(), free_port()
    async with gateway_with(tmp_path, entry_points({"web": routed})) as gateway:
        yield At(gateway, backends, published, routed)


def replica(answer: bytes) -> str:
    found = [name for name in REPLICAS if answer.partition(b"\r\n\r\n")[2].startswith(name.encode())]
    return found[0]


def cookie(answer: bytes) -> str:
    lines = [line for line in answer.decode("latin-1").split("\r\n") if line.lower().startswith("set-cookie: ")]
    return lines[0].partition(": ")[2].partition(";")[0] if lines else ""


PLACES = ["published port", "entry point"]


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize(
    "labels",
    [{"essaim.sticky.cookie": "where"}, {"traefik.http.services.w.loadbalancer.sticky.cookie.name": "where"}],
)
async def test_sticky_cookie_is_set_once_and_followed(at: At, place: str, labels: dict[str, str]) -> None:
    await at.serve(labels)
    first = await at.ask(place)
    told = cookie(first)
    assert told.startswith("where=")
    again = [await at.ask(place, fields=f"Cookie: {told}\r\n") for _ in range(6)]
    assert {replica(one) for one in again} == {replica(first)}
    assert {cookie(one) for one in again} == {""}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("key", ["cookie:user", "header:X-User", "path"])
async def test_hash_spreads_keys_and_keeps_each_at_its_replica(at: At, place: str, key: str) -> None:
    await at.serve({"essaim.balance": "hash", "essaim.balance.key": key})

    async def served(user: int) -> str:
        return replica(await at.ask(place, f"/{user}", f"Cookie: user=u{user}\r\nX-User: {user}\r\n"))

    owners = [await served(user) for user in range(24)]
    assert set(owners) == set(REPLICAS)
    assert [await served(user) for user in range(24)] == owners


async def test_limit_by_source_counts_requests_of_the_service_at_an_entry_point(at: At) -> None:
    release = asyncio.Event()

    async def held(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        await release.wait()
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")
        writer.close()

    port = await at.backends.serve(held)
    labels = RULE | {"essaim.limit.source": "2"}
    await at.gateway.apply(table(1, service("web", 0, [endpoint("one", port)], "http", labels=labels)))
    asked = [asyncio.create_task(at.ask("entry point")) for _ in range(3)]
    done, waiting = await asyncio.wait(asked, timeout=20, return_when=asyncio.FIRST_COMPLETED)
    assert [one.result()[:12] for one in done] == [b"HTTP/1.1 429"]
    release.set()
    assert [(await one)[:12] for one in waiting] == [b"HTTP/1.1 200"] * 2
    assert (await at.ask("entry point"))[:12] == b"HTTP/1.1 200"
