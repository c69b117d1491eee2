"""The model of an Engine behind a Unix socket, for daemons, with what a node asks of it beside."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

from aiohttp import web

from essaim.agent.runtime.docker.engine import EngineError

from .model_engine import ModelEngine

INFO = {
    "ServerVersion": "28.0.0", "Version": "28.0.0", "ApiVersion": "1.47", "MinAPIVersion": "1.24", "NCPU": 2,
    "MemTotal": 1 << 32, "Architecture": "x86_64", "OSType": "linux", "Name": "host", "Plugins": {}, "Os": "linux",
    "Arch": "amd64",
}  # fmt: skip


@asynccontextmanager
async def serving(engine: ModelEngine, socket: Path) -> AsyncIterator[None]:
    app = web.Application()
    app.router.add_route("*", "/{tail:.*}", partial(_answer, engine))
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.UnixSite(runner, str(socket)).start()
    try:
        yield
    finally:
        await runner.cleanup()


async def _answer(engine: ModelEngine, request: web.Request) -> web.StreamResponse:
    path = request.path
    if path.startswith("/v1."):
        path = "/" + path.split("/", 2)[2]
    if path == "/_ping":
        return web.Response(text="OK", headers={"Api-Version": "1.47"})
    if path in ("/info", "/version"):
        return web.json_response(INFO)
    if path == "/events":
        return await _events(engine, request)
    if path == "/networks":
        return web.json_response([])
    options: dict[str, Any] = {"params": dict(request.query)}
    if request.can_read_body:
        options["body"] = await request.json()
    try:
        answer = await engine.call(request.method, path, **options)
    except EngineError as error:
        return web.json_response({"message": str(error)}, status=error.status)
    return web.Response(status=204) if answer is None else web.json_response(answer)


async def _events(engine: ModelEngine, request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    async with engine.stream("GET", "/events") as stream:
        async for line in stream.content:
            await response.write(json.dumps(json.loads(line)).encode() + b"\n")
            await asyncio.sleep(0)
    return response
