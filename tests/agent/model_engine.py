"""A model of a Docker Engine, in place of `essaim.agent.runtime.docker.engine.Engine`: containers and nothing else, and
for every call a fault that a test has chosen. It notes what must never be: two containers of one replica that run at
once, and a task that is started twice."""

import asyncio
import itertools
import json
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from essaim.agent.runtime.docker.container_config import NODE_ID, TASK_ID
from essaim.agent.runtime.docker.engine import EngineError
from essaim.agent.runtime.interface import RuntimeUnavailable

FAULTS = ("refused", "refused-after", "lost", "lost-after", "late")
"""`late`: the answer is lost, and the Engine acts some calls later."""
LATER = 3
"""Calls after which a late one is carried out."""


@dataclass
class Container:
    id: str
    name: str
    labels: dict[str, str]
    networks: set[str]
    status: str = "created"
    starts: int = 0

    def inspected(self) -> dict[str, Any]:
        state = {"Status": self.status, "Running": self.status == "running", "ExitCode": 0, "Pid": 7}
        return {
            "Id": self.id,
            "State": state,
            "Config": {"Labels": self.labels, "StopTimeout": 10},
            "NetworkSettings": {"Networks": {name: {} for name in self.networks}, "Ports": {}},
            "HostConfig": {},
        }


@dataclass
class ModelEngine:
    """`faults` are used up one a call, "" for none. `on_call` hears the number of each call before that acts."""

    faults: Iterator[str] = field(default_factory=lambda: iter(()))
    on_call: Callable[[int], None] = lambda _: None
    containers: dict[str, Container] = field(default_factory=dict)
    calls: list[tuple[str, str, str]] = field(default_factory=list)
    wrongs: list[str] = field(default_factory=list)
    url: str = "unix:///model"
    _late: list[tuple[int, Callable[[], Any]]] = field(default_factory=list)
    _ids: Iterator[int] = field(default_factory=lambda: itertools.count(1))
    _readers: list[asyncio.Queue[dict[str, Any]]] = field(default_factory=list)

    # The client's side

    def open(self) -> None:
        """Nothing to open."""

    async def close(self) -> None:
        """Nothing to close."""

    def forget_version(self) -> None:
        """It is always the same."""

    async def version(self) -> tuple[int, int]:
        return (1, 41)

    async def call(self, method: str, path: str, **options: Any) -> Any:
        fault = next(self.faults, "")
        self.calls.append((method, path, fault))
        self.on_call(len(self.calls))
        await asyncio.sleep(0)
        self.catch_up(len(self.calls))
        act = partial(self._act, method, path, **options)
        if fault in ("", "refused-after", "lost-after"):
            answer = act()
        if fault in ("refused", "refused-after"):
            raise EngineError(500, "permission denied")
        if fault:
            if fault == "late":
                self._late.append((len(self.calls) + LATER, act))
            raise RuntimeUnavailable("the connection broke")
        await asyncio.sleep(0)
        return answer

    @asynccontextmanager
    async def stream(self, method: str, path: str, **options: Any) -> AsyncGenerator[Any, None]:
        queue: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._readers.append(queue)
        try:
            yield _Stream(queue)
        finally:
            self._readers.remove(queue)

    # The Engine's side

    def catch_up(self, calls: float = float("inf")) -> None:
        """Carry out what is late."""
        due = [act for at, act in self._late if at <= calls]
        self._late = [(at, act) for at, act in self._late if at > calls]
        for act in due:
            try:
                act()
            except EngineError:
                continue

    @property
    def running(self) -> list[Container]:
        return [one for one in self.containers.values() if one.status == "running"]

    def exits(self, task_id: str) -> None:
        """The task's main process ends."""
        for one in self.running:
            if one.labels[TASK_ID] == task_id:
                self._turn(one, "exited", "die")

    def _act(self, method: str, path: str, **options: Any) -> Any:
        parts = path.strip("/").split("/")
        if parts[0] == "images":
            return {}
        if path == "/containers/json":
            return [self._listed(one) for one in self.containers.values() if _fits(one, options.get("params") or {})]
        if path == "/containers/create":
            return self._create(options["params"]["name"], options["body"])
        if parts[0] == "networks":
            self._one(options["body"]["Container"]).networks.add(parts[1])
            return None
        one = self._one(parts[1])
        if method == "DELETE":
            del self.containers[one.id]
            self._tell(one, "destroy")
        elif parts[-1] == "start":
            if one.status != "running":
                one.starts += 1
                if one.starts > 1:
                    self.wrongs.append(f"{one.name} is started for the second time")
                self._turn(one, "running", "start")
        elif parts[-1] == "stop":
            if one.status == "running":
                self._turn(one, "exited", "die")
        else:
            return one.inspected()
        return None

    def _create(self, name: str, body: dict[str, Any]) -> dict[str, Any]:
        if any(one.name == name for one in self.containers.values()):
            raise EngineError(409, "name in use")
        network = body.get("HostConfig", {}).get("NetworkMode")
        one = Container(f"{next(self._ids):064x}", name, body["Labels"], {network} if network else set())
        self.containers[one.id] = one
        return {"Id": one.id}

    def _one(self, key: str) -> Container:
        for one in self.containers.values():
            if key in (one.id, one.name):
                return one
        raise EngineError(404, "no such container")

    def _turn(self, one: Container, status: str, action: str) -> None:
        one.status = status
        if len(self.running) > 1:
            self.wrongs.append(f"these run at once: {[each.name for each in self.running]}")
        self._tell(one, action)

    def _tell(self, one: Container, action: str) -> None:
        for reader in self._readers:
            reader.put_nowait({"Actor": {"ID": one.id}, "Action": action})

    @staticmethod
    def _listed(one: Container) -> dict[str, Any]:
        return {"Id": one.id, "Names": [f"/{one.name}"], "Labels": one.labels, "State": one.status, "Status": ""}


class _Stream:
    def __init__(self, queue: asyncio.Queue[dict[str, Any]]) -> None:
        self.content = self._lines(queue)

    async def _lines(self, queue: asyncio.Queue[dict[str, Any]]) -> AsyncGenerator[bytes, None]:
        while True:
            yield json.dumps(await queue.get()).encode()


def _fits(one: Container, params: dict[str, str]) -> bool:
    wanted = json.loads(params.get("filters", "{}")).get("label", [])
    have = {f"{name}={one.labels.get(name)}" for name in (TASK_ID, NODE_ID)}
    return set(wanted) <= have
