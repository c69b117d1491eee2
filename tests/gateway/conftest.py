"""A gateway on loopback with backends of the test's own, each on a port of the kernel's choice."""

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from essaim.cluster.routes import RouteEndpoint, RouteGateway, RoutePort, RouteService, RouteTable
from essaim.gateway.control.supervisor import Gateway
from essaim.gateway.protocol.entry_points import EntryPoint
from tests.ports import free_port

from .authority import TestAuthority

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def endpoint(name: str, port: int, **more: object) -> RouteEndpoint:
    fields: dict[str, object] = {"node_id": "n1", "address": "127.0.0.1", "port": port, "task_name": name} | more
    return RouteEndpoint(task_id=name, **fields)  # type: ignore[arg-type]


def service(
    name: str,
    published: int,
    endpoints: list[RouteEndpoint],
    protocol: str = "tcp",
    labels: dict[str, str] | None = None,
) -> RouteService:
    port = RoutePort(
        protocol="udp" if protocol == "udp" else "tcp",
        target_port=80,
        published_port=published,
        app_protocol="http" if protocol == "http" else "tcp",
        endpoints=endpoints,
    )
    return RouteService(id=f"id-{name}", name=name, labels=labels or {}, ports=[port])


def table(version: int, *services: RouteService) -> RouteTable:
    gateways = [RouteGateway(node_id="n1", hostname="one", address="127.0.0.1")]
    return RouteTable(version=version, services=list(services), gateways=gateways)


async def until(condition: Callable[[], bool], seconds: float = 45.0) -> None:
    """Poll until true; processes of their own are involved, so time passes for real, and slowly on a busy machine."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.01)


@pytest.fixture
async def gateway(tmp_path: Path) -> AsyncIterator[Gateway]:
    running = Gateway(mesh_addr="127.0.0.1", state_dir=tmp_path, node_id="n1", workers=2)
    await running.start()
    yield running
    await running.stop(grace=0.5)


@pytest.fixture(scope="module")
def authority() -> TestAuthority:
    return TestAuthority()


@pytest.fixture
def ports() -> dict[str, int]:
    """Of Traefik's entry points."""
    return {"web": free_port(), "websecure": free_port()}


@pytest.fixture
async def secure(tmp_path: Path, ports: dict[str, int]) -> AsyncIterator[Gateway]:
    """One worker with both entry points."""
    async with gateway_with(tmp_path, entry_points(ports)) as running:
        yield running


def entry_points(ports: dict[str, int]) -> dict[str, EntryPoint]:
    """Plain ones."""
    return {name: EntryPoint(port) for name, port in ports.items()}


@contextlib.asynccontextmanager
async def gateway_with(folder: Path, points: dict[str, EntryPoint]) -> AsyncIterator[Gateway]:
    """One worker with these entry points."""
    running = Gateway(mesh_addr="127.0.0.1", state_dir=folder, node_id="n1", workers=1, entry_points=points)
    await running.start()
    try:
        yield running
    finally:
        await running.stop(grace=0.5)


@contextlib.asynccontextmanager
async def narrow_gateway(
    folder: Path, monkeypatch: pytest.MonkeyPatch, descriptors: int, **more: Any
) -> AsyncIterator[Gateway]:
    """One worker that may have so many descriptors."""
    python = folder / "python"
    python.write_text(f'#!/bin/sh\nulimit -n {descriptors}\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    running = Gateway(mesh_addr="127.0.0.1", state_dir=folder, node_id="n1", workers=1, **more)
    with monkeypatch.context() as patch:
        patch.setattr(sys, "executable", str(python))
        await running.start()
    try:
        yield running
    finally:
        await running.stop(grace=0.5)


class Backends:
    """Servers that end with the test."""

    def __init__(self) -> None:
        self._servers: list[asyncio.Server] = []
        self._writers: set[asyncio.StreamWriter] = set()
        self.hits: dict[str, int] = {}

    async def serve(self, handler: Handler, port: int = 0) -> int:
        async def tracked(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            self._writers.add(writer)
            try:
                await handler(reader, writer)
            except (asyncio.IncompleteReadError, ConnectionError):
                # The gateway left, as it may: a health check says nothing at all.
                writer.close()
            finally:
                self._writers.discard(writer)

        server = await asyncio.start_server(tracked, "127.0.0.1", port)
        self._servers.append(server)
        return int(server.sockets[0].getsockname()[1])

    async def echo(self, name: str, port: int = 0) -> int:
        """Says its name, then what it hears."""

        async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            self.hits[name] = self.hits.get(name, 0) + 1
            writer.write(name.encode() + b"\n")
            with contextlib.suppress(ConnectionError):
                while data := await reader.read(65536):
                    writer.write(data)
                    await writer.drain()
            writer.close()

        return await self.serve(handler, port)

    async def web(self, name: str, port: int = 0) -> int:
        """HTTP/1.1 with keep-alive: answers with its name, and the head it saw."""

        async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            while True:
                try:
                    head = await reader.readuntil(b"\r\n\r\n")
                except (asyncio.IncompleteReadError, ConnectionError):
                    break
                self.hits[name] = self.hits.get(name, 0) + 1
                body = name.encode() + b"\n" + head
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nServer: test\r\n\r\n%b" % (len(body), body))
            writer.close()

        return await self.serve(handler, port)

    async def close(self) -> None:
        for server in self._servers:
            server.close()
        self._servers.clear()
        for writer in list(self._writers):
            writer.transport.abort()
        async with asyncio.timeout(10):
            while self._writers:
                await asyncio.sleep(0.01)


@pytest.fixture
async def backends() -> AsyncIterator[Backends]:
    running = Backends()
    yield running
    await running.close()


async def http_get(port: int, path: str = "/", host: str = "127.0.0.1") -> tuple[int, str]:
    """One request on a connection of its own: status and body."""
    reader, writer = await asyncio.open_connection(host, port)
    try:
        writer.write(f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
        answer = await reader.read()
    finally:
        writer.close()
    head, _, body = answer.partition(b"\r\n\r\n")
    return int(head.split()[1]), body.decode()


async def tcp_line(port: int) -> str:
    """The first line that a connection says."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    line = await reader.readline()
    writer.close()
    return line.decode().strip()


async def exchange(port: int, request: bytes) -> bytes:
    """Everything that one connection answers to `request`, up to its end."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(request)
        async with asyncio.timeout(20):
            return await reader.read()
    finally:
        writer.close()
