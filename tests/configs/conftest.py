"""One table for the whole-file tests, and the real programs."""

import asyncio
import shutil
import sys
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from essaim.configs.haproxy import render_haproxy
from essaim.configs.nginx import render_nginx
from essaim.configs.traefik import render_traefik, render_traefik_static
from essaim.gateway.protocol.entry_points import EntryPoint, ServedPoint
from essaim.gateway.protocol.routes import RouteEndpoint, RouteGateway, RoutePort, RouteService, RouteTable


def port(published: int, protocol: str = "tcp", app_protocol: str = "tcp", host_ip: str | None = None) -> RoutePort:
    endpoint = RouteEndpoint(task_id="t1", task_name="web.1", node_id="n1", address="10.0.0.1", port=32768)
    return RoutePort(
        protocol=protocol, target_port=80, published_port=published, app_protocol=app_protocol, host_ip=host_ip,
        endpoints=[endpoint],
    )  # fmt: skip


@pytest.fixture
def table() -> RouteTable:
    """Three gateways (one IPv6, two of one hostname); an HTTP, two TCP, a UDP port and one that is on one address."""
    return RouteTable(
        version=7,
        services=[
            RouteService(id="s1", name="course_web", ports=[port(4000, app_protocol="http")]),
            RouteService(id="s2", name="db", ports=[port(5432), port(5433), port(5434, host_ip="10.0.0.5")]),
            RouteService(id="s3", name="dns", ports=[port(53, "udp"), port(9999, "sctp")]),
        ],
        gateways=[
            RouteGateway(node_id="abc123", hostname="one", address="10.0.0.1"),
            RouteGateway(node_id="def456", hostname="two", address="fd00::2"),
            RouteGateway(node_id="ghi789", hostname="two", address="10.0.0.3"),
        ],
    )


@pytest.fixture
def points() -> list[ServedPoint]:
    """One that is plain HTTP and trusts nobody, and one with TLS that takes PROXY headers."""
    return [
        ServedPoint("web", EntryPoint(80), "http"),
        ServedPoint("websecure", EntryPoint(443, ("10.0.0.9/32",), proxy_protocol=True), "tcp"),
    ]


@pytest.fixture
def golden() -> Path:
    return Path(__file__).parent / "golden"


def program(name: str) -> str:
    """The path of a real program; the test is skipped where Debian's package is not installed."""
    found = shutil.which(name, path=str(Path(sys.executable).parent)) or shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed (tools/debian.sh, requirements-dev.lock)")
    return found


BINDS = {"haproxy": "127.0.0.13", "nginx": "127.0.0.15", "traefik": "127.0.0.16"}
"""Where each listens in tests."""


@asynccontextmanager
async def balancer(
    kind: str, folder: Path, table: RouteTable, points: Sequence[ServedPoint] = ()
) -> AsyncIterator[str]:
    """A real balancer with its rendered configuration; the address that it will listen at."""
    address = BINDS[kind]
    if kind == "haproxy":
        path = folder / "haproxy.cfg"
        path.write_text(render_haproxy(table, points, bind=address))
        command = ["-db", "-f", str(path)]
    elif kind == "nginx":
        path = folder / "nginx.conf"
        path.write_text(render_nginx(table, points, bind=address))
        options = f"daemon off; master_process off; pid {folder}/pid; error_log {folder}/log;"
        command = ["-c", str(path), "-p", str(folder), "-g", options]
    else:
        dynamic, static = folder / "dynamic.yml", folder / "traefik.yml"
        dynamic.write_text(render_traefik(table, points))
        static.write_text(render_traefik_static(table, points, bind=address, dynamic=str(dynamic)))
        command = [f"--configFile={static}"]
    with (folder / f"{kind}.out").open("wb") as out:
        process = await asyncio.create_subprocess_exec(
            program(kind), *command, stdout=out, stderr=asyncio.subprocess.STDOUT, start_new_session=True
        )
    try:
        yield address
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


class Fleet:
    """Two gateways, of the test's own making, that serve one HTTP port on 127.0.0.11 and .12."""

    def __init__(self) -> None:
        self.hits: Counter[str] = Counter()
        self.port = 0
        self._servers: dict[str, asyncio.Server] = {}

    async def start(self) -> None:
        for name, address in (("one", "127.0.0.11"), ("two", "127.0.0.12")):
            self._servers[name] = await asyncio.start_server(
                lambda reader, writer, name=name: self._serve(name, reader, writer), address, self.port
            )
            self.port = self._servers[name].sockets[0].getsockname()[1]

    async def stop(self, name: str) -> None:
        server = self._servers.pop(name)
        server.close()
        await server.wait_closed()

    async def stop_all(self) -> None:
        for name in list(self._servers):
            await self.stop(name)

    @property
    def table(self) -> RouteTable:
        return RouteTable(
            services=[RouteService(id="s", name="web", ports=[port(self.port, app_protocol="http")])],
            gateways=[
                RouteGateway(node_id=name, hostname=name, address=address)
                for name, address in (("one", "127.0.0.11"), ("two", "127.0.0.12"))
            ],
        )

    async def _serve(self, name: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if await reader.read(4096):
            self.hits[name] += 1
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")
        writer.close()

    async def ask(self, host: str, times: int) -> list[str]:
        """The status lines of so many requests, one after the other; waits for the listener to be there."""
        return [await self._one(host) for _ in range(times)]

    async def _one(self, host: str) -> str:
        async with asyncio.timeout(25):
            while True:
                try:
                    reader, writer = await asyncio.open_connection(host, self.port)
                    break
                except ConnectionRefusedError:
                    await asyncio.sleep(0.02)
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        line = await reader.readline()
        await reader.read()
        writer.close()
        return line.decode().strip()


@pytest.fixture
async def fleet() -> AsyncIterator[Fleet]:
    running = Fleet()
    await running.start()
    yield running
    await running.stop_all()
