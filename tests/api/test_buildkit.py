"""A build by BuildKit through essaim's socket: the Engine calls back into the client over the session's connection.

No client of BuildKit is packaged here, so its part is played by hand, with the requests that the stock one makes for a
context from standard input: `POST /session` becomes HTTP/2, with the Engine as its client; `POST /build?version=2`
names the session, and a second one with the same build ID brings the context.
"""

import asyncio
import contextlib
import io
import json
import tarfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from tests.api.conftest import Served
from tests.lab.images import busybox_image
from tests.lab.lab import Lab

pytestmark = [pytest.mark.timeout(120), pytest.mark.lab, pytest.mark.blocking_allowed]
LAB_HOSTS = 1
HEALTH = "grpc.health.v1.Health"
SERVING = b"\x08\x01"
"""`HealthCheckResponse` with status SERVING."""


class Health(grpc.GenericRpcHandler):
    """What a session must answer; `asked` once the Engine has."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()

    def service(self, details: Any) -> Any:
        if details.method != f"/{HEALTH}/Check":
            return None

        async def check(_request: bytes, _context: Any) -> bytes:
            self.asked.set()
            return SERVING

        return grpc.unary_unary_rpc_method_handler(check)


@contextlib.asynccontextmanager
async def session(socket: Path, folder: Path, name: str) -> AsyncIterator[Health]:
    """A client's session: the upgraded connection is joined to a gRPC server."""
    health, near = Health(), folder / "session.sock"
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((health,))
    server.add_insecure_port(f"unix:{near}")
    await server.start()
    far_reader, far_writer = await asyncio.open_unix_connection(str(socket))
    head = (
        "POST /session HTTP/1.1\r\nHost: docker\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n"
        f"X-Docker-Expose-Session-Uuid: {name}\r\nX-Docker-Expose-Session-Name: test\r\n"
        f"X-Docker-Expose-Session-Sharedkey: test\r\nX-Docker-Expose-Session-Grpc-Method: /{HEALTH}/Check\r\n\r\n"
    )
    far_writer.write(head.encode())
    answer = await far_reader.readuntil(b"\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 101"), answer
    assert b"upgrade: h2c" in answer.lower()
    near_reader, near_writer = await asyncio.open_unix_connection(str(near))

    async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()

    passing = [
        asyncio.create_task(pass_on(far_reader, near_writer)),
        asyncio.create_task(pass_on(near_reader, far_writer)),
    ]
    try:
        yield health
    finally:
        for task in passing:
            task.cancel()
        await asyncio.gather(*passing, return_exceptions=True)
        for writer in (far_writer, near_writer):
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()
        await server.stop(None)


def context_of(files: dict[str, bytes]) -> bytes:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return data.getvalue()


async def build(served: Served, name: str, tag: str, files: dict[str, bytes]) -> list[dict[str, Any]]:
    """What the build says, line by line."""
    url, number = "http://essaim/build", "b1"

    async def upload() -> None:
        query = {"version": "2", "remote": "upload-request", "buildid": f"upload-request:{number}"}
        headers = {"Content-Type": "application/x-tar"}
        async with served.client.post(url, params=query, data=io.BytesIO(context_of(files)), headers=headers) as reply:
            assert reply.status == 200, await reply.text()

    query = {"version": "2", "session": name, "remote": "upload-request", "buildid": number, "t": tag}
    uploading = asyncio.create_task(upload())
    async with served.client.post(url, params=query) as reply:
        assert reply.status == 200, await reply.text()
        said = [json.loads(line) for line in (await reply.text()).splitlines()]
    await uploading
    return said


async def test_buildkit_builds_through_the_socket(outside: Served, lab: Lab, tmp_path: Path) -> None:
    outside.node.engine_url = lab.hosts[0].engine_url
    await asyncio.to_thread(lab.load_image, busybox_image("page:1", ["sh"]))
    files = {"Dockerfile": b"FROM scratch\nCOPY note /note\nLABEL made=by-buildkit\n", "note": b"x" * 3_000_000}
    async with asyncio.timeout(60), session(outside.socket, tmp_path, "s1") as health:
        said = await build(outside, "s1", "built:1", files)
        await health.asked.wait()
    assert not [line for line in said if "error" in line], said
    assert [line for line in said if line.get("id") == "moby.buildkit.trace"], "it was not BuildKit that built"
    image = await outside.call("GET", "/images/built:1/json")
    assert image["Config"]["Labels"] == {"made": "by-buildkit"}
    assert image["Size"] == 3_000_000
