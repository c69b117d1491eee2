"""A real browser, headless, through the gateway: a page whose script fetches, streams and opens a WebSocket."""

import asyncio
import contextlib
import os
import shutil
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web

from essaim.gateway.control.supervisor import Gateway
from tests.ports import free_port

from .conftest import endpoint, service, table

FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip
PAGE = """<!doctype html><title>essaim</title><p id=fetched>?</p><p id=socket>?</p><img src="/hold"><script>
const say = (id, text) => { document.getElementById(id).textContent = text; fetch("/told") };
fetch("/stream", {method: "POST", body: "x".repeat(100000)}).then(answer => answer.text())
  .then(text => say("fetched", "fetched:" + text.length));
const socket = new WebSocket(location.protocol.replace("http", "ws") + "//" + location.host + "/ws");
socket.onopen = () => socket.send("hello");
socket.onmessage = message => { say("socket", "socket:" + message.data); socket.close() };
</script>"""


class Told:
    """Keeps the page loading, so that the browser does not print it, until its script has told of both outcomes."""

    def __init__(self) -> None:
        self._left = 2
        self._done = asyncio.Event()

    async def told(self, request: web.Request) -> web.Response:
        self._left -= 1
        if self._left == 0:
            self._done.set()
        return web.Response()

    async def hold(self, request: web.Request) -> web.Response:
        await self._done.wait()
        return web.Response(status=204)


async def page(request: web.Request) -> web.Response:
    return web.Response(text=PAGE, content_type="text/html")


async def stream(request: web.Request) -> web.StreamResponse:
    """The body back, in chunks."""
    response = web.StreamResponse()
    response.enable_chunked_encoding()
    await response.prepare(request)
    async for piece in request.content.iter_chunked(10_000):
        await response.write(piece)
    await response.write_eof()
    return response


async def talk(request: web.Request) -> web.WebSocketResponse:
    connection = web.WebSocketResponse()
    await connection.prepare(request)
    async for message in connection:
        await connection.send_str(message.data.upper())
    return connection


@contextlib.asynccontextmanager
async def application() -> AsyncIterator[int]:
    app, told = web.Application(), Told()
    app.add_routes(
        [
            web.get("/told", told.told),
            web.get("/hold", told.hold),
            web.get("/", page),
            web.post("/stream", stream),
            web.get("/ws", talk),
        ]
    )
    runner = web.AppRunner(app)
    await runner.setup()
    port = free_port()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    yield port
    await runner.cleanup()


async def dumped(chromium: str, profile: Path, url: str, *flags: str) -> str:
    """The page as it is after its scripts have run. The browser's processes are a group of their own, and end."""
    process = await asyncio.create_subprocess_exec(
        chromium, *FLAGS, *flags, f"--user-data-dir={profile}", "--dump-dom", url,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, start_new_session=True,
        env=os.environ | {"HOME": str(profile), "no_proxy": "*"},
    )  # fmt: skip
    try:
        async with asyncio.timeout(60):
            output, said = await process.communicate()
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
    assert output, f"the browser ended with {process.returncode}: {said.decode(errors='replace')[-2000:]}"
    return output.decode()


async def test_chromium_fetches_streams_and_talks_through_the_gateway(gateway: Gateway, tmp_path: Path) -> None:
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("chromium is not installed (tools/debian.sh)")
    port = free_port()
    async with application() as replica:
        await gateway.apply(table(1, service("app", port, [endpoint("t", replica)], "http")))
        dom = await dumped(chromium, tmp_path / "profile", f"http://127.0.0.1:{port}/")
    assert "<title>essaim</title>" in dom
    assert ">fetched:100000<" in dom
    assert ">socket:HELLO<" in dom
