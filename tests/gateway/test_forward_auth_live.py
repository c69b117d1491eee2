"""forwardAuth through a real worker: auth servers that are services, or outside and over TLS; down, slow, left."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from essaim.cluster.routes import RouteEndpoint, RoutePort, RouteService
from essaim.gateway.control.supervisor import Gateway
from essaim.gateway.runtime.reset import reset
from tests.ports import free_port

from .authority import TestAuthority
from .conftest import Backends, endpoint, entry_points, exchange, table, until

M = "traefik.http.middlewares.m.forwardauth."
YES = b"HTTP/1.1 204 No Content\r\nX-User: ann\r\nConnection: close\r\n\r\n"


class Guarded:
    """A gateway with a service behind an auth server."""

    def __init__(self, gateway: Gateway, port: int) -> None:
        self.gateway, self.port = gateway, port
        self.version = 0

    async def serve(self, replica: int, address: str, auth: list[RouteEndpoint], **options: str) -> None:
        labels = {
            "traefik.http.routers.x.rule": "PathPrefix(`/`)",
            "traefik.http.routers.x.middlewares": "m",
            "com.docker.stack.namespace": "st",
            M + "address": address,
        } | {M + name.replace("_", "."): value for name, value in options.items()}
        self.version += 1
        app = RoutePort(protocol="tcp", target_port=80, published_port=0, endpoints=[endpoint("t", replica)])
        guard = RoutePort(protocol="tcp", target_port=9091, published_port=0, endpoints=auth)
        await self.gateway.apply(
            table(
                self.version,
                RouteService(id="app", name="st_app", labels=labels, ports=[app]),
                RouteService(id="auth", name="st_auth", labels={"essaim.healthcheck.mode": "none"}, ports=[guard]),
            )
        )

    async def get(self) -> bytes:
        return await exchange(self.port, b"GET /x HTTP/1.1\r\nHost: a\r\nX-User: eve\r\nConnection: close\r\n\r\n")


@pytest.fixture
async def guarded(tmp_path: Path) -> AsyncIterator[Guarded]:
    port = free_port()
    running = Gateway(
        mesh_addr="127.0.0.1", state_dir=tmp_path, node_id="n1", workers=1, entry_points=entry_points({"web": port})
    )
    await running.start()
    yield Guarded(running, port)
    await running.stop(grace=0.2)


class AuthServer:
    """Says yes, and knows who has asked; `hold` keeps its answers back."""

    def __init__(self) -> None:
        self.heads: list[bytes] = []
        self.left = 0
        self.hold = asyncio.Event()
        self.hold.set()

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            self.heads.append(await reader.readuntil(b"\r\n\r\n"))
            held, gone = asyncio.create_task(self.hold.wait()), asyncio.create_task(reader.read())
            await asyncio.wait((held, gone), return_when=asyncio.FIRST_COMPLETED)
            self.left += gone.done()
            held.cancel()
            gone.cancel()
            writer.write(YES)
        writer.close()


async def test_questions_go_to_ready_replicas_of_the_service_in_turn(guarded: Guarded, backends: Backends) -> None:
    one, two = AuthServer(), AuthServer()
    replicas = [
        endpoint("a1", await backends.serve(one)),
        endpoint("a2", await backends.serve(two)),
        endpoint("a3", free_port()),
        endpoint("a4", await backends.serve(one), state="draining"),
    ]
    await guarded.serve(await backends.web("t"), "http://auth:9091/v", replicas, authresponseheaders="X-User")
    for _ in range(6):
        answer = await guarded.get()
        assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
        assert b"\r\nX-User: ann\r\n" in answer
        assert b"eve" not in answer
    assert abs(len(one.heads) - len(two.heads)) <= 2
    assert len(one.heads) + len(two.heads) == 6
    assert all(head.startswith(b"GET /v HTTP/1.1\r\nHost: auth:9091\r\n") for head in one.heads)
    lines = [line for line in (await guarded.gateway.metrics()).splitlines() if 'requests_total{code="204"' in line]
    assert sum(float(line.split()[-1]) for line in lines if 'service="st_auth"' in line) == 6


async def test_question_waits_for_an_auth_server_that_is_starting(guarded: Guarded, backends: Backends) -> None:
    replica = await backends.web("t")
    await guarded.serve(replica, "http://st_auth:9091", [])
    asked = asyncio.create_task(guarded.get())
    await asyncio.sleep(0)
    await guarded.serve(replica, "http://st_auth:9091", [endpoint("a", await backends.serve(AuthServer()))])
    assert (await asked).startswith(b"HTTP/1.1 200 ")


async def test_auth_service_that_is_not_there_lets_nobody_pass(guarded: Guarded, backends: Backends) -> None:
    await guarded.serve(await backends.web("t"), "http://nobody.invalid:9091", [])
    assert (await guarded.get()).startswith(b"HTTP/1.1 500 ")
    assert backends.hits == {}


@pytest.mark.parametrize("inside", [True, False])
async def test_client_that_leaves_ends_its_question(guarded: Guarded, backends: Backends, inside: bool) -> None:
    auth = AuthServer()
    auth.hold.clear()
    port = await backends.serve(auth)
    address = "http://auth:9091" if inside else f"http://127.0.0.1:{port}"
    await guarded.serve(await backends.web("t"), address, [endpoint("a", port)])
    _, writer = await asyncio.open_connection("127.0.0.1", guarded.port)
    writer.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    await until(lambda: bool(auth.heads))
    reset(writer.transport)  # type: ignore[arg-type]
    await until(lambda: auth.left == 1)
    auth.hold.set()
    assert (await guarded.get()).startswith(b"HTTP/1.1 200 ")
    assert backends.hits == {"t": 1}


async def test_others_are_served_while_an_auth_server_is_slow(guarded: Guarded, backends: Backends) -> None:
    auth = AuthServer()
    auth.hold.clear()
    await guarded.serve(await backends.web("t"), "http://auth:9091", [endpoint("a", await backends.serve(auth))])
    slow = [asyncio.create_task(guarded.get()) for _ in range(50)]
    await until(lambda: len(auth.heads) == 50)
    assert backends.hits == {}
    auth.hold.set()
    assert all(answer.startswith(b"HTTP/1.1 200 ") for answer in await asyncio.gather(*slow))


async def tls_server(context: ssl.SSLContext, auth: AuthServer) -> asyncio.Server:
    return await asyncio.start_server(auth, "127.0.0.1", 0, ssl=context)


@pytest.mark.blocking_allowed
async def test_auth_server_over_tls_is_verified_unless_it_is_said_not_to_be(
    guarded: Guarded, backends: Backends, authority: TestAuthority, tmp_path: Path
) -> None:
    certificate = authority.certificate("auth", "localhost")
    pem = tmp_path / "auth.pem"
    pem.write_text(certificate.key + certificate.chain)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(pem)
    auth = AuthServer()
    server = await tls_server(context, auth)
    port, replica = server.sockets[0].getsockname()[1], await backends.web("t")
    try:
        for options, host, status in (
            ({}, "localhost", b"500"),
            ({"tls_ca": authority.pem}, "localhost", b"200"),
            ({"tls_ca": authority.pem}, "127.0.0.1", b"500"),
            ({"tls_insecureskipverify": "true"}, "127.0.0.1", b"200"),
        ):
            await guarded.serve(replica, f"https://{host}:{port}/v", [], **options)
            assert (await guarded.get())[9:12] == status, (options, host)
    finally:
        server.close()
    assert [head.partition(b"\r\n")[0] for head in auth.heads] == [b"GET /v HTTP/1.1"] * 2
