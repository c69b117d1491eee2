"""Every kind of listener under a flood of connections that say nothing, too little or half, while good clients are
served: the worker may have few descriptors, and neither they nor the supervisor's hold on it are used up."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from essaim.gateway.control.supervisor import Gateway
from essaim.gateway.protocol.entry_points import EntryPoint
from tests.ports import free_port

from .authority import TestAuthority, book
from .conftest import Backends, endpoint, http_get, narrow_gateway, service, table

DESCRIPTORS = 1536
ROOM = DESCRIPTORS - 1024
FLOOD = 2 * ROOM
PROXY = "127.0.0.9"


@pytest.fixture
async def narrow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ports: dict[str, int]) -> AsyncIterator[Gateway]:
    """Few descriptors, and an entry point that expects PROXY headers of some."""
    points = {
        "web": EntryPoint(ports["web"], trusted=[PROXY], proxy_protocol=True),
        "websecure": EntryPoint(ports["websecure"]),
    }
    async with narrow_gateway(tmp_path, monkeypatch, DESCRIPTORS, entry_points=points) as running:
        yield running


class Flood:
    """Connections that are opened as fast as they are taken, write their bytes, and rest."""

    def __init__(self, port: int, data: bytes, source: str) -> None:
        self._port, self._data, self._source = port, data, source
        self._writers: list[asyncio.StreamWriter] = []

    async def pour(self, count: int) -> None:
        for _ in range(count):
            with contextlib.suppress(OSError):
                _, writer = await asyncio.open_connection("127.0.0.1", self._port, local_addr=(self._source, 0))
                self._writers.append(writer)
                writer.write(self._data)

    def end(self) -> None:
        for writer in self._writers:
            writer.transport.abort()


async def survives(
    gateway: Gateway, flood: Flood, is_served: Callable[[], Awaitable[bool]], times: int = 8
) -> dict[str, float]:
    """Pour, and see after each part whether a good client is served, and the supervisor answered. Gives the counters of
    refused connections."""
    try:
        for _ in range(times):
            await flood.pour(FLOOD // times)
            assert await is_served()
        (worker,) = (await gateway.status())["workers"]
        used = len(list(Path(f"/proc/{worker['pid']}/fd").iterdir()))
        assert used < DESCRIPTORS - 256
        counts = {}
        for line in (await gateway.metrics()).splitlines():
            if line.startswith("essaim_gateway_refused_connections_total"):
                counts[line.partition('"')[2].partition('"')[0]] = float(line.split()[-1])
        assert (await gateway.status())["workers_replaced"] == {}
        return counts
    finally:
        flood.end()


WHOLE = b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"


@pytest.mark.parametrize(
    ("what", "data"),
    [("idle", b""), ("slow head", b"GET / HTTP/1.1\r\nHost: a"), ("kept alive", WHOLE)],
)
async def test_published_http_port_serves_through_a_flood(
    narrow: Gateway, backends: Backends, what: str, data: bytes
) -> None:
    port = free_port()
    await narrow.apply(table(1, service("web", port, [endpoint("t", await backends.web("t"))], "http")))

    async def is_served() -> bool:
        return (await http_get(port))[0] == 200

    counts = await survives(narrow, Flood(port, data, "127.0.0.2"), is_served)
    assert counts["full"] == 0
    assert counts["source"] > 0 or counts["evicted"] > 0


async def test_full_worker_ends_connections_that_say_nothing_for_those_that_do(
    narrow: Gateway, backends: Backends
) -> None:
    port = free_port()
    await narrow.apply(table(1, service("web", port, [endpoint("t", await backends.web("t"))], "http")))
    floods = [Flood(port, b"", f"127.0.0.{number}") for number in (2, 3, 4, 5)]

    async def is_served() -> bool:
        for flood in floods[1:]:
            await flood.pour(FLOOD // 16)
        return (await http_get(port))[0] == 200

    counts = await survives(narrow, floods[0], is_served)
    assert counts["evicted"] > 0
    for flood in floods:
        flood.end()


@pytest.mark.parametrize("what", ["idle", "half a hello", "hello and silence"])
async def test_tls_entry_point_serves_through_a_flood(
    narrow: Gateway, backends: Backends, authority: TestAuthority, ports: dict[str, int], what: str
) -> None:
    await narrow.set_certificates(book(1, authority.certificate("own", "a.example")))
    router = "traefik.http.routers.a"
    labels = {f"{router}.rule": "Host(`a.example`)", f"{router}.tls": "true", f"{router}.entrypoints": "websecure"}
    web = service("web", free_port(), [endpoint("t", await backends.web("t"))], "http", labels)
    await narrow.apply(table(1, web))
    context = ssl.create_default_context(cadata=authority.pem)

    async def is_served() -> bool:
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", ports["websecure"], ssl=context, server_hostname="a.example"
        )
        writer.write(b"GET / HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n")
        answer = await reader.read()
        writer.close()
        return answer.startswith(b"HTTP/1.1 200")

    hello = client_hello("a.example")
    data = {"idle": b"", "half a hello": hello[: len(hello) // 2], "hello and silence": hello}[what]
    assert (await survives(narrow, Flood(ports["websecure"], data, "127.0.0.2"), is_served))["full"] == 0


def client_hello(name: str) -> bytes:
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = ssl.create_default_context().wrap_bio(incoming, outgoing, server_hostname=name)
    with contextlib.suppress(ssl.SSLWantReadError):
        client.do_handshake()
    return outgoing.read()


@pytest.mark.parametrize("data", [b"", b"PROXY TCP4 192.0.2.1", b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\nGET / HT"])
async def test_entry_point_that_expects_proxy_headers_serves_through_a_flood(
    narrow: Gateway, backends: Backends, ports: dict[str, int], data: bytes
) -> None:
    router = "traefik.http.routers.a"
    labels = {f"{router}.rule": "Host(`127.0.0.1`)", f"{router}.entrypoints": "web"}
    web = service("web", free_port(), [endpoint("t", await backends.web("t"))], "http", labels)
    await narrow.apply(table(1, web))

    async def is_served() -> bool:
        reader, writer = await asyncio.open_connection("127.0.0.1", ports["web"], local_addr=(PROXY, 0))
        writer.write(
            b"PROXY TCP4 192.0.2.7 192.0.2.2 1 2\r\nGET / HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n"
        )
        answer = await reader.read()
        writer.close()
        return answer.startswith(b"HTTP/1.1 200")

    assert (await survives(narrow, Flood(ports["web"], data, PROXY), is_served))["full"] == 0


async def test_layer_4_port_serves_others_while_one_source_holds_all_that_it_may(
    narrow: Gateway, backends: Backends
) -> None:
    """A connection here has two descriptors, and cannot be told from one that is of use."""
    port = free_port()
    await narrow.apply(table(1, service("l4", port, [endpoint("t", await backends.echo("t"))])))

    async def is_served() -> bool:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=("127.0.0.3", 0))
        word = await reader.readline()
        writer.close()
        return word == b"t\n"

    counts = await survives(narrow, Flood(port, b"", "127.0.0.2"), is_served)
    assert counts["full"] == 0
    assert counts["source"] > 0
