"""Layer 4 with real workers: addresses, half-close, resets, idle times, bulk, UDP."""

import asyncio
import contextlib
import hashlib
import os
import socket
import struct
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from essaim.cluster.routes import RoutePort, RouteService
from essaim.gateway.control.supervisor import Gateway
from tests.ports import free_port

from .conftest import Backends, endpoint, http_get, service, table


@pytest.fixture
async def everywhere(tmp_path: Path) -> AsyncIterator[Gateway]:
    """A gateway on all addresses."""
    running = Gateway(mesh_addr="", state_dir=tmp_path, node_id="n1", workers=2)
    await running.start()
    yield running
    await running.stop(grace=0.2)


async def test_gateway_on_all_addresses_serves_ipv4_and_ipv6(everywhere: Gateway, backends: Backends) -> None:
    port = free_port()
    await everywhere.apply(table(1, service("web", port, [endpoint("t", await backends.web("t"))], "http")))
    for host in ("127.0.0.1", "127.0.0.9"):
        status, body = await http_get(port, host=host)
        assert status == 200
        assert "X-Forwarded-For: 127.0.0.1\r\n" in body
    with contextlib.suppress(OSError):
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
        reader, writer = await asyncio.open_connection("::1", port)
        writer.write(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        answer = await reader.read()
        assert b"X-Forwarded-For: ::1\r\n" in answer
        assert b'Forwarded: for="[::1]";proto=http' in answer
        writer.close()


async def test_gateway_on_all_addresses_answers_udp_from_the_address_that_was_asked(everywhere: Gateway) -> None:
    loop = asyncio.get_running_loop()

    class Echo(asyncio.DatagramProtocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            self.transport = transport

        def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
            self.transport.sendto(data, addr)  # type: ignore[attr-defined]

    replica, _ = await loop.create_datagram_endpoint(Echo, ("127.0.0.1", 0))
    target, port = replica.get_extra_info("sockname")[1], free_port()
    await everywhere.apply(table(1, service("dns", port, [endpoint("t", target)], "udp")))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.setblocking(False)
        # A connected socket hears only what comes from exactly this address.
        client.connect(("127.0.0.7", port))
        client.send(b"hello")
        async with asyncio.timeout(15):
            assert await loop.sock_recv(client, 100) == b"hello"
    replica.close()


async def test_gateway_port_of_one_address_is_bound_there_only(gateway: Gateway, backends: Backends) -> None:
    number, target = free_port("127.0.0.8"), await backends.echo("t")
    port = RoutePort(
        protocol="tcp", target_port=80, published_port=number, host_ip="127.0.0.8", endpoints=[endpoint("t", target)]
    )
    await gateway.apply(table(1, RouteService(id="s", name="s", ports=[port])))
    reader, writer = await asyncio.open_connection("127.0.0.8", number)
    assert await reader.readline() == b"t\n"
    writer.close()
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", number)


async def test_gateway_many_ports_are_bound_and_released(gateway: Gateway, backends: Backends) -> None:
    target = await backends.echo("t")
    numbers = {free_port() for _ in range(200)}
    services = [service(f"s{number}", number, [endpoint("t", target)]) for number in numbers]
    await gateway.apply(table(1, *services))
    listeners = (await gateway.status())["listeners"]
    assert len(listeners) == len(numbers)
    assert all(listener["bound"] for listener in listeners)
    await gateway.apply(table(2))
    # Workers close their copies before they report the version, so all are free again.
    for number in numbers:
        socket.create_server(("127.0.0.1", number)).close()


async def test_l4_half_close_lets_the_answer_through(gateway: Gateway, backends: Backends) -> None:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        data = await reader.read()
        writer.write(hashlib.sha256(data).hexdigest().encode())
        writer.close()

    port = free_port()
    await gateway.apply(table(1, service("sum", port, [endpoint("t", await backends.serve(handler))])))
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    data = os.urandom(3 << 20)
    writer.write(data)
    writer.write_eof()
    async with asyncio.timeout(20):
        assert (await reader.read()).decode() == hashlib.sha256(data).hexdigest()
    writer.close()


async def test_l4_slow_reader_gets_every_byte(gateway: Gateway, backends: Backends) -> None:
    data = os.urandom(4 << 20)

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(data)
        with contextlib.suppress(OSError):
            await writer.drain()
        writer.close()

    port = free_port()
    await gateway.apply(table(1, service("bulk", port, [endpoint("t", await backends.serve(handler))])))
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=4096)
    received = bytearray()
    async with asyncio.timeout(30):
        while piece := await reader.read(20_000):
            received += piece
            await asyncio.sleep(0)
    assert bytes(received) == data
    writer.close()


async def test_l4_reset_of_the_client_reaches_the_replica(gateway: Gateway, backends: Backends) -> None:
    heard = asyncio.Event()
    outcome: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not await reader.read(5):
            # The active check.
            writer.close()
            return
        heard.set()
        try:
            await reader.read()
            outcome.set_result("end")
        except ConnectionResetError:
            outcome.set_result("reset")
        writer.close()

    port = free_port()
    await gateway.apply(table(1, service("x", port, [endpoint("t", await backends.serve(handler))])))
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"hello")
    async with asyncio.timeout(15):
        await heard.wait()
        sock = writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()
        assert await outcome == "reset"


async def test_l4_idle_connection_is_closed_after_the_services_time(gateway: Gateway, backends: Backends) -> None:
    port = free_port()
    labels = {"essaim.timeout.idle": "400ms"}
    await gateway.apply(table(1, service("x", port, [endpoint("t", await backends.echo("t"))], labels=labels)))
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    assert await reader.readline() == b"t\n"
    async with asyncio.timeout(20):
        with contextlib.suppress(ConnectionResetError):
            assert await reader.read() == b""
    writer.close()


async def test_l4_connection_waits_for_a_replica_that_comes(gateway: Gateway, backends: Backends) -> None:
    port = free_port()
    await gateway.apply(table(1, service("x", port, [])))
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"early\n")
    await gateway.apply(table(2, service("x", port, [endpoint("t", await backends.echo("t"))])))
    async with asyncio.timeout(20):
        assert await reader.readline() == b"t\n"
        assert await reader.readline() == b"early\n"
    writer.close()


@pytest.mark.parametrize("protocol", ["tcp", "http"])
async def test_source_with_too_many_connections_is_refused_more(
    tmp_path: Path, backends: Backends, protocol: str
) -> None:
    gateway = Gateway(mesh_addr="127.0.0.1", state_dir=tmp_path, node_id="n1", workers=1)
    await gateway.start()
    port, replica = free_port(), await (backends.web("t") if protocol == "http" else backends.echo("t"))
    labels = {"essaim.limit.source": "2"}
    await gateway.apply(table(1, service("x", port, [endpoint("t", replica)], protocol, labels)))

    async def works(stay: list[asyncio.StreamWriter]) -> bool:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        stay.append(writer)
        with contextlib.suppress(OSError):
            writer.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            return bool(await reader.readline())
        return False

    writers: list[asyncio.StreamWriter] = []
    async with asyncio.timeout(20):
        assert [await works(writers) for _ in range(3)] == [True, True, False]
        writers.pop(0).close()
        while not await works(writers):
            await asyncio.sleep(0.01)
    for writer in writers:
        writer.close()
    await gateway.stop(grace=0.2)
