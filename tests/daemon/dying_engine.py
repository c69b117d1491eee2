"""As much of a Docker Engine as a node needs to run a task, on a unix socket; then it dies, in one of several ways."""

import asyncio
import contextlib
from pathlib import Path
from typing import Any

from aiohttp import web

INFO = {
    "ServerVersion": "28.0.0", "Version": "28.0.0", "ApiVersion": "1.47", "MinAPIVersion": "1.24", "NCPU": 2,
    "MemTotal": 2**32, "Architecture": "x86_64", "OSType": "linux", "Name": "host", "Plugins": {}, "Os": "linux",
    "Arch": "amd64",
}  # fmt: skip
STATE = {"Status": "created", "Running": False, "ExitCode": 0, "Pid": 0, "Error": "", "StartedAt": "", "FinishedAt": ""}


class DyingEngine:
    """`die("silent")`: connections are taken, and nothing is answered; `die("refusing")`: nobody listens."""

    def __init__(self, socket: Path) -> None:
        self.socket = socket
        self._containers: dict[str, dict[str, Any]] = {}
        self._silent = False
        self._runner: web.AppRunner | None = None

    async def __aenter__(self) -> "DyingEngine":
        app = web.Application()
        app.router.add_route("*", "/{tail:.*}", self._answer)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.UnixSite(self._runner, str(self.socket)).start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.die("refusing")

    async def die(self, how: str) -> None:
        self._silent = True
        if how == "refusing" and self._runner is not None:
            runner, self._runner = self._runner, None
            await runner.cleanup()
            with contextlib.suppress(FileNotFoundError):
                self.socket.unlink()

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        if self._silent:
            await asyncio.Event().wait()
        parts = [part for part in request.path.split("/") if part and not part.startswith("v1.")]
        if parts == ["_ping"]:
            return web.Response(text="OK", headers={"Api-Version": "1.47"})
        if parts == ["events"]:
            stream = web.StreamResponse()
            await stream.prepare(request)
            await asyncio.Event().wait()
        if parts[0] == "containers":
            return await self._container(request, parts[1:])
        if parts[0] == "images":
            return web.json_response({"Id": "sha256:0", "RepoDigests": [], "Config": {}})
        if parts[0] in ("networks", "volumes"):
            return web.json_response([] if parts[0] == "networks" else {"Volumes": []})
        return web.json_response(INFO)

    async def _container(self, request: web.Request, parts: list[str]) -> web.Response:
        if parts == ["json"]:
            rows = [
                {"Id": c["Id"], "Names": [c["Name"]], "Labels": c["Config"]["Labels"], "State": c["State"]["Status"]}
                for c in self._containers.values()
            ]
            return web.json_response(rows)
        if parts == ["create"]:
            return web.json_response({"Id": self._create(await request.json(), request.query["name"])}, status=201)
        one = self._containers.get(parts[0])
        if one is None:
            return web.json_response({"message": "No such container"}, status=404)
        if parts[-1] == "start":
            one["State"] |= {"Status": "running", "Running": True, "Pid": 4242, "StartedAt": "2026-01-01T00:00:00Z"}
            return web.Response(status=204)
        return web.json_response(one)

    def _create(self, body: dict[str, Any], name: str) -> str:
        number = f"{len(self._containers):064x}"
        self._containers[number] = {
            "Id": number, "Name": f"/{name}", "Config": body | {"Labels": body.get("Labels") or {}},
            "State": dict(STATE), "NetworkSettings": {"Networks": {}, "Ports": {}}, "Image": "sha256:0",
            "HostConfig": body.get("HostConfig") or {}, "Created": "2026-01-01T00:00:00Z", "RestartCount": 0,
            "Mounts": [],
        }  # fmt: skip
        return number
