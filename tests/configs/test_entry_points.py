"""Entry points behind real balancers: requests arrive, in the clear and with TLS, and replicas see who called."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from essaim.gateway.control.supervisor import Gateway
from essaim.gateway.protocol.entry_points import EntryPoint
from essaim.gateway.protocol.routes import RouteEndpoint, RouteGateway, RoutePort, RouteService, RouteTable
from tests.ports import free_port

from .conftest import balancer

CLIENT = "127.0.0.21"
GATEWAY = "127.0.0.11"
BALANCER = ("127.0.0.1/32",)
"""Where any of them connects from, as the kernel chooses."""
CLAIMS = (
    "X-Forwarded-For: 6.6.6.6\r\nX-Real-IP: 6.6.6.7\r\nForwarded: for=6.6.6.8\r\nX-Forwarded-Host: evil\r\n"
    "X-Forwarded-Port: 666\r\nX-Forwarded-Proto: evil\r\nX-Forwarded-Uri: /evil\r\nX-Request-Id: evil\r\n"
    "X-Forwarded-Tls-Client-Cert: evil\r\nX-Forwarded-Tls-Client-Cert-Info: evil\r\n"
)
"""What a client invents."""
R = "traefik.http.routers."


@contextlib.asynccontextmanager
async def replica() -> AsyncIterator[int]:
    """A port at which each request's head is the answer's body."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            head = await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%b" % (len(head), head))
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


def routed(target: int) -> RouteTable:
    endpoint = RouteEndpoint(task_id="t", task_name="web.1", node_id="n1", address="127.0.0.1", port=target)
    port = RoutePort(protocol="tcp", target_port=80, published_port=0, app_protocol="http", endpoints=[endpoint])
    labels = {
        R + "plain.rule": "Host(`plain`)", R + "plain.entrypoints": "web",
        R + "safe.rule": "Host(`safe`)", R + "safe.entrypoints": "websecure", R + "safe.tls": "true",
    }  # fmt: skip
    return RouteTable(
        version=1,
        services=[RouteService(id="s", name="web", labels=labels, ports=[port])],
        gateways=[RouteGateway(node_id="n1", hostname="one", address=GATEWAY)],
    )


async def ask(address: str, port: int, host: str, context: ssl.SSLContext | None) -> str:
    """The answer to one request from `CLIENT`; "" while there is none."""
    name = host if context else None
    try:
        reader, writer = await asyncio.open_connection(
            address, port, ssl=context, server_hostname=name, local_addr=(CLIENT, 0)
        )
    except (ConnectionError, ssl.SSLError):
        return ""
    with contextlib.suppress(ConnectionError):
        writer.write(f"GET / HTTP/1.1\r\nHost: {host}\r\n{CLAIMS}Connection: close\r\n\r\n".encode())
        answer = (await reader.read()).decode()
        writer.close()
        return answer if answer.startswith("HTTP/1.1 200 ") else ""
    return ""


@pytest.mark.root
@pytest.mark.parametrize("proxied", [False, True], ids=["forwarded", "proxy-protocol"])
@pytest.mark.parametrize("kind", ["haproxy", "nginx", "traefik"])
async def test_clients_are_known_behind_a_balancer(kind: str, proxied: bool, tmp_path: Path) -> None:
    """`web` by what it says in the request, or by its PROXY header; `websecure` is passed on, header first."""
    points = {
        "web": EntryPoint(free_port(), BALANCER, proxied),
        "websecure": EntryPoint(free_port(), BALANCER, proxy_protocol=True),
    }
    unverified = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    unverified.check_hostname, unverified.verify_mode = False, ssl.CERT_NONE
    gateway = Gateway(mesh_addr=GATEWAY, state_dir=tmp_path / "g", node_id="n1", workers=1, entry_points=points)
    async with replica() as target, asyncio.timeout(60):
        table = routed(target)
        await gateway.start()
        try:
            await gateway.apply(table)
            assert [(one.name, one.mode) for one in sorted(gateway.points, key=lambda one: one.name)] == [
                ("web", "http"),
                ("websecure", "tcp"),
            ]
            async with balancer(kind, tmp_path, table, gateway.points) as address:
                for host, point, context in (("plain", "web", None), ("safe", "websecure", unverified)):
                    while not (answer := await ask(address, points[point].port, host, context)):
                        await asyncio.sleep(0.05)
                    assert f"\r\nX-Real-IP: {CLIENT}\r\n" in answer, (host, answer)
                    assert "evil" not in answer, (host, answer)
                    assert not any(one in answer for one in ("6.6.6.7", "6.6.6.8")), (host, answer)
                    assert "666\r\n" not in answer, (host, answer)
        finally:
            await gateway.stop(grace=0.5)
