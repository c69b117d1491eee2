"""Web pages and the API: a walk over every route, with every mark of a page's request; nothing is done for any.

The same requests without the mark are answered, so that each refusal is the mark's doing.
"""

import asyncio
import re
import ssl
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import structlog
from aiohttp import web

from essaim.api.app import create_app
from essaim.api.listen.admission import Limits
from essaim.api.listen.tls import names_in, server_context
from essaim.api.server import ApiServer
from tests.api.certificates import Certificates
from tests.api.fakes import FakeNode, utc_now
from tests.api.test_engine import FakeEngine

pytestmark = pytest.mark.blocking_allowed

PAGES: dict[str, dict[str, str]] = {
    "foreign host": {"Host": "rebound.example:2376"},
    "foreign origin": {"Origin": "https://evil.example"},
    "no origin": {"Origin": "null"},
    "cross-site": {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"},
    "another port": {"Sec-Fetch-Site": "same-site", "Origin": "http://127.0.0.1:8000"},
    "rebound": {"Host": "rebound.example", "Origin": "http://rebound.example", "Sec-Fetch-Site": "same-origin"},
}
SPEC = {"Name": "x", "TaskTemplate": {"ContainerSpec": {"Image": "host", "Command": ["/bin/sh", "-c", "id"]}}}
FAMILIES = ("containers/create", "containers/x/attach", "exec/x/start", "volumes/create", "images/x/json", "build")


@dataclass
class Doors:
    """A manager's API on a TCP port, in plain or over TLS."""

    node: FakeNode
    engine: FakeEngine
    app: web.Application
    client: aiohttp.ClientSession
    url: str

    async def ask(self, method: str, path: str, headers: Mapping[str, str]) -> tuple[int, str]:
        json = None if method in ("GET", "HEAD") else SPEC
        async with self.client.request(method, self.url + path, json=json, headers=headers) as reply:
            if reply.status == 200:
                return 200, ""  # some go on for ever
            return reply.status, (await reply.read()).decode()

    def done(self) -> tuple[Any, ...]:
        """Everything that a request could change."""
        node, manager = self.node, self.node.manager
        assert manager is not None
        return manager.store.version, len(self.engine.heads), node.swarm_state, node.joined, len(node.removed)


@pytest.fixture(params=["plain", "tls"])
async def doors(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Doors]:
    node, engine, path = FakeNode(), FakeEngine(), tmp_path / "engine.sock"
    app = create_app(node, chance=node.chance, now=utc_now, log=structlog.get_logger())
    async with await asyncio.start_unix_server(engine.serve, str(path)), ApiServer(app) as server:
        node.engine_url = f"unix://{path}"
        context: ssl.SSLContext | bool = True
        if request.param == "tls":
            files = Certificates(tmp_path)
            serving = server_context(files.server, files.server_key, files.ca)
            port = await server.listen_tls("127.0.0.1", 0, serving, names_in(files.server.read_bytes()))
            context = ssl.create_default_context(cafile=files.ca)
            context.load_cert_chain(files.client, files.client_key)
        else:
            port = await server.listen_plain("127.0.0.1", 0)
        scheme = "https" if request.param == "tls" else "http"
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=context)) as client:
            served = Doors(node, engine, app, client, f"{scheme}://127.0.0.1:{port}")
            await served.ask("POST", "/swarm/init", {})
            yield served


def routes(app: web.Application) -> list[tuple[str, str]]:
    """Every method and path that the application knows, with something for each placeholder."""
    found = []
    for route in app.router.routes():
        assert route.resource is not None
        path = route.resource.canonical.replace("{version}", "1.41")
        methods = ["GET", "POST", "PUT", "DELETE", "OPTIONS"] if route.method == "*" else [route.method]
        if "{family}" in path:
            head = path.partition("{family}")[0]
            found += [(method, head + family) for method in methods for family in FAMILIES]
        else:
            found += [(method, re.sub(r"{[^}]*}", "x", path)) for method in methods]
    return list(dict.fromkeys(found))


async def test_every_route_refuses_what_a_page_asks_and_does_nothing(doors: Doors) -> None:
    walked = routes(doors.app)
    assert len(walked) > 150
    before = doors.done()
    for method, path in walked:
        for name, mark in PAGES.items():
            status, said = await doors.ask(method, path, mark)
            assert status == 403, (method, path, name, status, said)
            assert method == "HEAD" or "header" in said, (method, path, name, said)
    assert doors.done() == before


async def test_every_route_refuses_a_body_that_is_not_called_json(doors: Doors) -> None:
    raw = {"build", "containers/x/attach", "images/create"}
    before = doors.done()
    for method, path in routes(doors.app):
        if method in ("GET", "HEAD") or any(path.endswith("/" + each) for each in raw):
            continue
        for kind in (
            "text/plain;charset=UTF-8",
            "application/x-www-form-urlencoded",
            "multipart/form-data; boundary=x",
        ):
            body, headers = b'{"Name":"x"}', {"Content-Type": kind}
            async with doors.client.request(method, doors.url + path, data=body, headers=headers) as reply:
                said = await reply.text()
            assert (reply.status, "has to be sent as" in said) == (400, True), (method, path, reply.status, said)
    assert doors.done() == before


@pytest.mark.parametrize("upgrade", ["tcp", "h2c", "websocket"])
async def test_upgrade_that_a_page_asks_for_never_reaches_the_engine(doors: Doors, upgrade: str) -> None:
    for path in ("/containers/x/attach/ws", "/v1.41/exec/x/start", "/session", "/containers/x/attach?stream=1"):
        for mark in PAGES.values():
            status, _ = await doors.ask("POST", path, {**mark, "Connection": "Upgrade", "Upgrade": upgrade})
            assert status == 403
    assert not doors.engine.heads


@pytest.mark.parametrize(
    "headers",
    [
        {}, {"Host": "localhost:2376"}, {"Host": "127.0.0.1"}, {"Sec-Fetch-Site": "none"},
        {"Sec-Fetch-Site": "same-origin", "Origin": "https://portainer.example.org"},
    ],
)  # fmt: skip
async def test_what_a_program_asks_is_done(doors: Doors, headers: dict[str, str]) -> None:
    assert (await doors.ask("GET", "/services", headers))[0] == 200
    assert (await doors.ask("POST", "/services/create", headers))[0] == 201
    assert (await doors.ask("POST", "/containers/create", headers))[0] == 200
    assert len(doors.engine.heads) == 1


async def test_empty_body_may_be_called_anything_as_the_stock_client_does(doors: Doors) -> None:
    headers = {"Content-Type": "text/plain", "Content-Length": "0"}
    async with doors.client.post(doors.url + "/swarm/leave?force=1", headers=headers) as reply:
        assert reply.status == 200


async def test_unix_socket_takes_whatever_host_and_origin_a_proxy_passes_on(tmp_path: Path) -> None:
    """No page reaches it; web interfaces in front of it pass on what their users' browsers send."""
    node, path = FakeNode(), tmp_path / "api.sock"
    app = create_app(node, chance=node.chance, now=utc_now, log=structlog.get_logger())
    async with ApiServer(app) as server:
        await server.listen_unix(path)
        async with aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(path))) as client:
            for name in ("docker", "api.moby.localhost", "%2Fvar%2Frun%2Fdocker.sock", "unixsocket"):
                headers = {"Host": name, "Origin": "https://portainer.example.org", "Sec-Fetch-Site": "same-origin"}
                async with client.get("http://x/_ping", headers=headers) as reply:
                    assert reply.status == 200
            async with client.post("http://x/swarm/init", data=b"{}", headers={"Content-Type": "text/plain"}) as reply:
                assert reply.status == 400


async def test_bodies_that_do_not_come_keep_nobody_out(tmp_path: Path) -> None:
    """As many as the listener has places."""
    node, path = FakeNode(), tmp_path / "api.sock"
    app = create_app(node, chance=node.chance, now=utc_now, log=structlog.get_logger())
    async with ApiServer(app, bounds=Limits(4, 4)) as server:
        await server.listen_unix(path)
        head = b"POST /swarm/init HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n{"
        crowd = [(await asyncio.open_unix_connection(str(path)))[1] for _ in range(8)]
        for writer in crowd:
            writer.write(head)
        async with aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(path))) as client:
            for _ in range(20):
                async with client.get("http://x/_ping", headers={"Connection": "close"}) as reply:
                    assert reply.status == 200
        for writer in crowd:
            writer.transport.abort()
