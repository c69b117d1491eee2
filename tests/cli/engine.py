"""A Docker Engine in swarm mode, as far as clients can tell: keeps state, records requests, answers as recorded.

Tests point `essaim` and the real `docker` at it and compare.
"""

import json
import random
import string
import struct
import tempfile
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from aiohttp import web

from tests.cli.samples import CREATED, NODE_ID, WORKER_ID, node, swarm


@dataclass
class Recorded:
    method: str
    path: str
    query: dict[str, str]
    body: Any
    auth: str = ""


async def at_once(image: str) -> None:
    """How long a registry takes to answer."""


@dataclass
class FakeEngine:
    """State and server; `host` is its socket once started."""

    nodes: dict[str, dict[str, Any]] = field(default_factory=dict)
    services: dict[str, dict[str, Any]] = field(default_factory=dict)
    tasks: dict[str, dict[str, Any]] = field(default_factory=dict)
    secrets: dict[str, dict[str, Any]] = field(default_factory=dict)
    configs: dict[str, dict[str, Any]] = field(default_factory=dict)
    networks: dict[str, dict[str, Any]] = field(default_factory=dict)
    digests: dict[str, str] = field(default_factory=dict)
    requests: list[Recorded] = field(default_factory=list)
    events: list[dict[str, Any]] = field(default_factory=list)
    log: bytes = b""
    swarm: dict[str, Any] = field(default_factory=dict)
    in_swarm: bool = True
    registry: Callable[[str], Awaitable[None]] = at_once
    task_state: Callable[[dict[str, Any]], str] = lambda service: "running"
    host: str = ""
    version: int = 10
    _runner: web.AppRunner | None = None
    _folder: Any = None
    _random: random.Random = field(default_factory=lambda: random.Random(1))

    def __post_init__(self) -> None:
        self.nodes = {
            NODE_ID: node(NODE_ID, "vm", manager=True),
            WORKER_ID: node(WORKER_ID, "wk", manager=False),
        }
        self.swarm = swarm()
        self.add_network("ingress", "ingress0ingress0ingress00", labels={})

    def add_network(
        self, name: str, key: str = "", labels: dict[str, str] | None = None, driver: str = "overlay"
    ) -> str:
        key = key or self.new_id()
        self.networks[key] = {
            "Name": name,
            "Id": key,
            "Created": CREATED,
            "Scope": "swarm",
            "Driver": driver,
            "EnableIPv6": False,
            "IPAM": {
                "Driver": "default",
                "Options": None,
                "Config": [{"Subnet": "10.0.1.0/24", "Gateway": "10.0.1.1"}],
            },
            "Internal": False,
            "Attachable": False,
            "Ingress": name == "ingress",
            "ConfigFrom": {"Network": ""},
            "ConfigOnly": False,
            "Containers": None,
            "Options": None,
            "Labels": labels or {},
        }
        return key

    def new_id(self) -> str:
        """The same IDs in the same order in every engine."""
        return "".join(self._random.choices(string.ascii_lowercase + string.digits, k=25))

    async def start(self) -> None:
        app = web.Application(client_max_size=2**26)
        app.router.add_route("*", "/{tail:.*}", self._handle)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        self._folder = tempfile.TemporaryDirectory(prefix="essaim-cli-")
        path = Path(self._folder.name) / "engine.sock"
        await web.UnixSite(self._runner, str(path)).start()
        self.host = f"unix://{path}"

    async def stop(self) -> None:
        assert self._runner is not None
        await self._runner.cleanup()
        self._folder.cleanup()

    # -- requests ---------------------------------------------------------------------------------------------------

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        path = unquote(request.raw_path.partition("?")[0])
        if path.startswith("/v1."):
            path = "/" + path.split("/", 2)[2]
        if path == "/_ping":
            return web.Response(
                text="OK" if request.method == "GET" else "",
                headers={"Api-Version": "1.41", "Docker-Experimental": "false", "Ostype": "linux"},
            )
        data = await request.read()
        body = json.loads(data) if data.strip() else None
        auth = request.headers.get("X-Registry-Auth", "")
        self.requests.append(Recorded(request.method, path, dict(request.query), body, auth))
        parts = path.strip("/").split("/")
        try:
            return await self._route(request, request.method, parts, body)
        except Refused as error:
            return self._json({"message": error.message}, error.status)

    async def _route(self, request: web.Request, method: str, parts: list[str], body: Any) -> web.StreamResponse:
        kind = parts[0]
        if kind == "info":
            return self._json(self._info())
        if kind == "version":
            return self._json(
                {"Version": "20.10.24", "ApiVersion": "1.41", "MinAPIVersion": "1.12", "Os": "linux", "Arch": "amd64"}
            )
        if kind == "distribution":
            image = "/".join(parts[1:-1])
            await self.registry(image)
            return self._distribution(image)
        if kind == "events":
            return await self._events(request)
        if kind == "essaim":
            return self._native(method, parts[2:], request.query)
        if kind == "swarm":
            return self._swarm(method, parts[1:], body, request)
        if not self.in_swarm:
            raise Refused(503, NOT_A_MANAGER)
        if parts[-1] == "logs":
            return await self._logs(request)
        if kind in ("services", "tasks", "nodes", "secrets", "configs", "networks"):
            return self._objects(request, method, kind, parts[1:], body)
        raise Refused(404, "page not found")

    def _json(self, value: Any, status: int = 200) -> web.Response:
        # The Engine names no charset; the stock client would take another type for a proxy's page.
        body = json.dumps(value, separators=(",", ":")).encode() + b"\n"
        return web.Response(body=body, status=status, headers={"Content-Type": "application/json"})

    def _info(self) -> dict[str, Any]:
        swarm: dict[str, Any] = {"NodeID": "", "NodeAddr": "", "LocalNodeState": "inactive", "ControlAvailable": False}
        if self.in_swarm:
            cluster = {key: value for key, value in self.swarm.items() if key != "JoinTokens"}
            swarm = {
                "NodeID": NODE_ID,
                "NodeAddr": "10.0.0.1",
                "LocalNodeState": "active",
                "ControlAvailable": True,
                "Error": "",
                "RemoteManagers": [{"NodeID": NODE_ID, "Addr": "10.0.0.1:2377"}],
                "Nodes": 2,
                "Managers": 1,
                "Cluster": cluster,
            }
        return {"ID": "X", "Name": "vm", "ServerVersion": "20.10.24", "NCPU": 2, "MemTotal": 8345124864, "Swarm": swarm}

    def _distribution(self, image: str) -> web.Response:
        if image not in self.digests:
            raise Refused(500, "no such registry")
        return self._json(
            {
                "Descriptor": {"mediaType": "x", "digest": self.digests[image], "size": 1},
                "Platforms": [{"architecture": "amd64", "os": "linux"}],
            }
        )

    async def _events(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        await response.prepare(request)
        for event in self.events:
            await response.write(json.dumps(event).encode() + b"\n")
        return response

    async def _logs(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        for start in range(0, len(self.log), 7):
            await response.write(self.log[start : start + 7])
        return response

    def _native(self, method: str, parts: list[str], query: Mapping[str, str]) -> web.Response:
        if parts[:2] == ["lb", "config"]:
            return web.Response(text=" ".join(["#", parts[2], *query.values()]) + "\n")
        if parts == ["lb", "status"]:
            return self._json(
                {
                    "listeners": [],
                    "services": [
                        {
                            "id": "s",
                            "name": "web",
                            "warnings": [],
                            "ports": [
                                {
                                    "published": 4000,
                                    "target": 80,
                                    "protocol": "tcp",
                                    "app_protocol": "http",
                                    "endpoints": [
                                        {
                                            "task_id": "t",
                                            "task_name": "web.1.t",
                                            "node_id": NODE_ID,
                                            "address": "127.0.0.1",
                                            "port": 40001,
                                            "verdict": "up",
                                            "reason": "check passed",
                                            "found_by": "node-1",
                                        }
                                    ],
                                }
                            ],
                        }
                    ],
                }
            )
        if method == "POST" and parts[-1] == "rebalance":
            return self._json({})
        raise Refused(404, "page not found")

    def _swarm(self, method: str, parts: list[str], body: Any, request: web.Request) -> web.Response:
        if parts == ["init"]:
            if self.in_swarm:
                raise Refused(
                    503,
                    'This node is already part of a swarm. Use "docker swarm leave" to leave this swarm '
                    "and join another one.",
                )
            self.in_swarm = True
            return self._json(NODE_ID)
        if parts == ["join"]:
            if not body["JoinToken"].startswith("SWMTKN-"):
                raise Refused(500, "invalid join token")
            self.in_swarm = True
            return web.Response()
        if parts == ["leave"]:
            if request.query.get("force") != "1":
                raise Refused(
                    503, "You are attempting to leave the swarm on a node that is participating as a manager. "
                )
            self.in_swarm = False
            return web.Response()
        if not self.in_swarm:
            raise Refused(503, NOT_A_MANAGER)
        if parts == ["update"]:
            self.swarm["Spec"] = body
            self._touch(self.swarm)
            for role in ("Worker", "Manager"):
                if request.query.get(f"rotate{role}Token") == "true":
                    self.swarm["JoinTokens"][role] += "2"
            return web.Response()
        if parts == ["unlockkey"]:
            return self._json({"UnlockKey": "SWMKEY-1-k"})
        return self._json(self.swarm)

    # -- objects ----------------------------------------------------------------------------------------------------

    def _objects(self, request: web.Request, method: str, kind: str, rest: list[str], body: Any) -> web.StreamResponse:
        table: dict[str, dict[str, Any]] = getattr(self, kind)
        if method == "GET" and not rest:
            found = self._filtered(kind, list(table.values()), filters_of(request))
            if kind == "services" and request.query.get("status"):
                found = [{**item, "ServiceStatus": self._status(item)} for item in found]
            return self._json(found)
        if method == "POST" and rest == ["create"]:
            return self._create(kind, table, body)
        item = self._find(kind, table, rest[0])
        key = item.get("ID") or item["Id"]
        if method == "DELETE":
            del table[key]
            if kind == "services":
                self.tasks = {name: task for name, task in self.tasks.items() if task["ServiceID"] != key}
            return web.Response(status=204 if kind in ("secrets", "configs", "networks") else 200)
        if method == "POST" and rest[1:] == ["update"]:
            return self._update(kind, item, body, request)
        return self._json(item)

    def _filtered(self, kind: str, items: list[dict[str, Any]], filters: dict[str, list[str]]) -> list[dict[str, Any]]:
        def name(item: dict[str, Any]) -> str:
            return str(
                item.get("Name")
                or (item.get("Spec") or {}).get("Name")
                or (item.get("Description") or {}).get("Hostname")
            )

        def matches(item: dict[str, Any]) -> bool:
            labels = item.get("Labels") or (item.get("Spec") or {}).get("Labels") or {}
            if kind == "tasks":
                labels = self.services.get(item["ServiceID"], {}).get("Spec", {}).get("Labels") or {}
            pairs = {f"{key}={value}" for key, value in labels.items()} | set(labels)
            key = item.get("ID") or item["Id"]
            checks = {
                "name": lambda values: any(name(item).startswith(value) for value in values),
                "id": lambda values: any(key.startswith(value) for value in values),
                "label": lambda values: all(value in pairs for value in values),
                "service": lambda values: item.get("ServiceID") in values,
                "node": lambda values: item.get("NodeID") in values,
                "desired-state": lambda values: item.get("DesiredState") in values,
                "role": lambda values: item["Spec"]["Role"] in values,
                "_up-to-date": lambda values: True,
                "driver": lambda values: item["Driver"] in values,
                "mode": lambda values: True,
                "scope": lambda values: True,
            }
            for each, values in filters.items():
                if each not in checks:
                    raise Refused(400, f"Invalid filter '{each}'")
                if not checks[each](values):
                    return False
            return True

        return [item for item in items if matches(item)]

    def _find(self, kind: str, table: dict[str, dict[str, Any]], name: str) -> dict[str, Any]:
        for key, item in table.items():
            names = (
                key,
                item.get("Name"),
                (item.get("Spec") or {}).get("Name"),
                (item.get("Description") or {}).get("Hostname"),
            )
            if name in names:
                return item
        raise Refused(404, f"{kind.removesuffix('s')} {name} not found")

    def _create(self, kind: str, table: dict[str, dict[str, Any]], body: dict[str, Any]) -> web.Response:
        if any((item.get("Name") or item.get("Spec", {}).get("Name")) == body.get("Name") for item in table.values()):
            one = kind.removesuffix("s")
            raise Refused(
                409,
                "rpc error: code = AlreadyExists desc = name conflicts with an existing object: "
                f"{one} {body['Name']} already exists",
            )
        if kind == "networks":
            key = self.add_network(body["Name"], labels=body.get("Labels"), driver=body.get("Driver") or "bridge")
            return self._json({"Id": key, "Warning": ""}, 201)
        key = self.new_id()
        self.version += 1
        spec = {name: value for name, value in body.items() if name != "Data" or kind == "configs"}
        if kind == "services" and not spec.get("Name"):
            spec["Name"] = "adoring_name"
        table[key] = {
            "ID": key,
            "Version": {"Index": self.version},
            "CreatedAt": CREATED,
            "UpdatedAt": CREATED,
            "Spec": spec,
        }
        if kind == "services":
            self._settle(table[key])
        return self._json({"ID": key}, 201)

    def _update(self, kind: str, item: dict[str, Any], body: dict[str, Any], request: web.Request) -> web.Response:
        if request.query.get("version") != str(item["Version"]["Index"]):
            raise Refused(500, "rpc error: code = Unknown desc = update out of sequence")
        if kind == "services":
            if request.query.get("rollback") == "previous":
                if "PreviousSpec" not in item:
                    raise Refused(
                        400,
                        f"rpc error: code = FailedPrecondition desc = service {item['ID']} "
                        "does not have a previous spec",
                    )
                item["Spec"], item["PreviousSpec"] = item["PreviousSpec"], item["Spec"]
            else:
                item["PreviousSpec"], item["Spec"] = item["Spec"], body
            self._settle(item)
        else:
            item["Spec"] = {name: value for name, value in body.items() if name != "Data"}
        self._touch(item)
        return self._json({"Warnings": None}) if kind == "services" else web.Response()

    def _touch(self, item: dict[str, Any]) -> None:
        self.version += 1
        item["Version"] = {"Index": self.version}

    def _settle(self, service: dict[str, Any]) -> None:
        """Give the service its endpoint and exactly the tasks that its mode asks for."""
        spec = service["Spec"]
        endpoint = spec.get("EndpointSpec") or {}
        service["Endpoint"] = {"Spec": endpoint, "Ports": endpoint.get("Ports") or []}
        self.tasks = {key: task for key, task in self.tasks.items() if task["ServiceID"] != service["ID"]}
        mode = spec.get("Mode") or {"Replicated": {"Replicas": 1}}
        if mode.get("Replicated") is not None:
            places = [
                (slot, list(self.nodes)[slot % 2]) for slot in range(1, (mode["Replicated"].get("Replicas", 1)) + 1)
            ]
        elif mode.get("ReplicatedJob") is not None:
            places = [(slot, NODE_ID) for slot in range(1, mode["ReplicatedJob"].get("TotalCompletions", 1) + 1)]
        else:
            places = [(0, key) for key in self.nodes]
        is_job = mode.get("ReplicatedJob") is not None or mode.get("GlobalJob") is not None
        for slot, node_id in places:
            self.add_task(service, slot, node_id, "complete" if is_job else self.task_state(service), is_job=is_job)

    def add_task(
        self,
        service: dict[str, Any],
        slot: int,
        node_id: str,
        state: str,
        *,
        desired: str = "running",
        err: str = "",
        created: str = CREATED,
        is_job: bool = False,
        image: str = "",
    ) -> dict[str, Any]:
        key = self.new_id()
        container = dict(service["Spec"]["TaskTemplate"].get("ContainerSpec") or {})
        if image:
            container["Image"] = image
        task: dict[str, Any] = {
            "ID": key,
            "Version": {"Index": self.version},
            "CreatedAt": created,
            "UpdatedAt": created,
            "Labels": {},
            "Spec": {**service["Spec"]["TaskTemplate"], "ContainerSpec": container},
            "ServiceID": service["ID"],
            "NodeID": node_id,
            "Status": {"Timestamp": created, "State": state, "Message": "started"},
            "DesiredState": "complete" if is_job else desired,
        }
        if slot:
            task["Slot"] = slot
        if err:
            task["Status"]["Err"] = err
        if is_job:
            task["JobIteration"] = {"Index": 0}
        self.tasks[key] = task
        return task

    def _status(self, service: dict[str, Any]) -> dict[str, int]:
        mine = [task for task in self.tasks.values() if task["ServiceID"] == service["ID"]]
        running = sum(1 for task in mine if task["Status"]["State"] == "running")
        completed = sum(1 for task in mine if task["Status"]["State"] == "complete")
        desired = (service["Spec"].get("Mode") or {}).get("Replicated", {}).get("Replicas", len(mine) - completed)
        return {"RunningTasks": running, "DesiredTasks": desired, "CompletedTasks": completed}


NOT_A_MANAGER = (
    'This node is not a swarm manager. Use "docker swarm init" or "docker swarm join" to connect this node to swarm '
    "and try again."
)


class Refused(Exception):
    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


def filters_of(request: web.Request) -> dict[str, list[str]]:
    found = json.loads(request.query.get("filters") or "{}")
    return {key: list(value) for key, value in found.items()}


def frame(text: str, *, stream: int = 1) -> bytes:
    data = text.encode()
    return struct.pack(">BxxxI", stream, len(data)) + data
