"""A replica that was asked and leaves the table without a word, as with a host that is lost."""

import asyncio

import pytest

from essaim.gateway.supervisor import Gateway

from .conftest import Backends, endpoint, free_port, service, table, until


@pytest.fixture
async def silent(backends: Backends) -> tuple[int, list[bytes]]:
    """A replica that reads and never answers: its port, and the heads that it was sent."""
    heads: list[bytes] = []

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                heads.append(await reader.readuntil(b"\r\n\r\n"))
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    return await backends.serve(handler), heads


async def begin(port: int, request: bytes) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    return reader, writer


async def test_request_that_a_vanished_replica_did_not_answer_is_answered_by_another(
    gateway: Gateway, backends: Backends, silent: tuple[int, list[bytes]]
) -> None:
    lost, heads = silent
    port, good = free_port(), await backends.web("good")
    labels = {"essaim.healthcheck.mode": "none"}
    await gateway.apply(table(1, service("web", port, [endpoint("lost", lost)], "http", labels)))
    reader, writer = await begin(port, b"GET / HTTP/1.1\r\nHost: web\r\nConnection: close\r\n\r\n")
    order, sender = await begin(port, b"POST / HTTP/1.1\r\nHost: web\r\nContent-Length: 1\r\n\r\nx")
    await until(lambda: len(heads) == 2)
    await gateway.apply(table(2, service("web", port, [endpoint("good", good)], "http", labels)))
    async with asyncio.timeout(30):
        answer = await reader.read()
    assert b"good\n" in answer
    # What must not be done twice is left to its replica: only that may still answer.
    assert backends.hits == {"good": 1}
    assert not order.at_eof()
    for one in (writer, sender):
        one.close()


async def test_replica_that_drains_is_waited_for(
    gateway: Gateway, backends: Backends, silent: tuple[int, list[bytes]]
) -> None:
    slow, heads = silent
    port, good = free_port(), await backends.web("good")
    labels = {"essaim.healthcheck.mode": "none"}
    await gateway.apply(table(1, service("web", port, [endpoint("slow", slow)], "http", labels)))
    _, writer = await begin(port, b"GET / HTTP/1.1\r\nHost: web\r\n\r\n")
    await until(lambda: len(heads) == 1)
    endpoints = [endpoint("slow", slow, state="draining"), endpoint("good", good)]
    await gateway.apply(table(2, service("web", port, endpoints, "http", labels)))
    assert gateway.open_requests() == {"slow": 1}
    assert backends.hits == {}
    writer.close()
