"""A replica that was asked and leaves the table without a word, as with a host that is lost."""

import asyncio
import socket

import pytest

from essaim.gateway.control.supervisor import Gateway
from essaim.gateway.runtime.keep_alive import IDLE, UNACKNOWLEDGED_MS
from essaim.gateway.upstream.connection import Upstream
from tests.ports import free_port

from .conftest import Backends, endpoint, service, table, until
from .plane import Plane


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


async def test_connection_to_a_replica_is_probed_and_acknowledgements_are_not_awaited_for_ever(
    backends: Backends,
) -> None:
    """In the kernel: by HTTP for a minute, in a tunnel as long as the replica may leave it unread."""

    async def respond(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: tcp\r\n\r\n")
        await reader.read()
        writer.close()

    plane = Plane(connections=0)
    port = await backends.serve(respond)
    transport, upstream = await asyncio.get_running_loop().create_connection(
        lambda: Upstream(plane.endpoint, plane.deadlines), "127.0.0.1", port
    )
    sock = transport.get_extra_info("socket")
    assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
    assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == IDLE
    assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == UNACKNOWLEDGED_MS
    upstream.state = 0
    plane.endpoint.idle.append(upstream)
    plane.connection.data_received(b"GET / HTTP/1.1\r\nHost: web\r\nConnection: upgrade\r\nUpgrade: tcp\r\n\r\n")
    await until(lambda: b" 101 " in plane.near.written)
    assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 0
    transport.abort()
