"""Real clients through a real worker: curl, aiohttp, a WebSocket."""

import asyncio
import hashlib
import io
import os
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from essaim.gateway.control.supervisor import Gateway
from tests.ports import free_port

from .conftest import endpoint, service, table


async def echo_socket(request: web.Request) -> web.WebSocketResponse:
    connection = web.WebSocketResponse()
    await connection.prepare(request)
    async for message in connection:
        await connection.send_str(message.data.upper())
    return connection


async def digest(request: web.Request) -> web.Response:
    sha = hashlib.sha256()
    async for piece in request.content.iter_chunked(65536):
        sha.update(piece)
    return web.Response(text=sha.hexdigest())


async def stream(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    response.enable_chunked_encoding()
    await response.prepare(request)
    for number in range(50):
        await response.write(b"%d\n" % number)
    await response.write_eof()
    return response


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[int]:
    """An aiohttp application behind a published HTTP port."""
    application = web.Application(client_max_size=64 << 20)
    application.add_routes([web.get("/ws", echo_socket), web.post("/sum", digest), web.get("/stream", stream)])
    runner = web.AppRunner(application)
    await runner.setup()
    replica = free_port()
    await web.TCPSite(runner, "127.0.0.1", replica).start()
    gateway = Gateway(mesh_addr="127.0.0.1", state_dir=tmp_path, node_id="n1", workers=1)
    await gateway.start()
    port = free_port()
    await gateway.apply(table(1, service("app", port, [endpoint("t", replica)], "http")))
    yield port
    await gateway.stop(grace=0.2)
    await runner.cleanup()


async def test_websocket_goes_through_and_closes_in_order(served: int) -> None:
    async with aiohttp.ClientSession() as session, session.ws_connect(f"http://127.0.0.1:{served}/ws") as connection:
        for number in range(20):
            await connection.send_str(f"hello {number}")
            assert await connection.receive_str() == f"HELLO {number}"
        await connection.send_str("x" * 300_000)
        assert await connection.receive_str() == "X" * 300_000
        assert await connection.close()
        assert connection.close_code == aiohttp.WSCloseCode.OK


async def test_bodies_of_both_framings_arrive_whole(served: int) -> None:
    data = os.urandom(5 << 20)

    async def pieces() -> AsyncIterator[bytes]:
        for start in range(0, len(data), 70_001):
            yield data[start : start + 70_001]

    async with aiohttp.ClientSession() as session:
        for body, content in ((io.BytesIO(data), data), (pieces(), data), (b"", b"")):
            expected = hashlib.sha256(content).hexdigest()
            async with session.post(f"http://127.0.0.1:{served}/sum", data=body) as response:
                assert await response.text() == expected
        async with session.get(f"http://127.0.0.1:{served}/stream") as response:
            assert await response.text() == "".join(f"{number}\n" for number in range(50))


@pytest.mark.parametrize("options", [[], ["--http1.0"], ["-H", "Connection: close"], ["-H", "Expect: 100-continue"]])
async def test_curl_posts_and_reads(served: int, tmp_path: Path, options: list[str]) -> None:
    curl = shutil.which("curl")
    if curl is None:
        pytest.skip("curl is not installed (tools/debian.sh)")
    data = b"some bytes " * 10_000
    body = tmp_path / "body"
    await asyncio.to_thread(body.write_bytes, data)
    urls = [f"http://127.0.0.1:{served}/sum"] * 2
    process = await asyncio.create_subprocess_exec(
        curl, "-sS", "--fail", *options, "--data-binary", f"@{body}", *urls, stdout=asyncio.subprocess.PIPE
    )
    output, _ = await process.communicate()
    assert output.decode() == hashlib.sha256(data).hexdigest() * 2
