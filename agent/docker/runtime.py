"""The Docker runtime: each task is a container of the local Engine, named and labelled as Swarm would.

Rules:
- The Engine is the only memory: containers are found again by their labels. A task's view is what `inspect` says; the
  event stream says when to look, so that an exit is noticed at once, and a lost stream makes everything be looked at.
- Several nodes may share one Engine (the demo): only containers with this node's id in their labels are touched.
- At most START_AT_ONCE containers are created or started at a time: more only wait for each other in the Engine.
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import structlog

from essaim.agent.memory_files import usual_roots
from essaim.agent.payloads import payloads
from essaim.agent.runtime import (
    LogLine,
    Phase,
    Rejected,
    RuntimeUnavailable,
    StartFailed,
    UnknownTask,
    View,
    Work,
)
from essaim.agent.unfinished import Unfinished
from essaim.agent.views import Views
from essaim.cluster.container import ContainerSpec, Mount
from essaim.cluster.node import NodeDescription
from essaim.cluster.wire import LogRequest

from .age import fit, only_windows
from .balancing import place_of
from .cluster_socket import USUAL, with_cluster_socket
from .container_config import NODE_ID, TASK_ID, container_name, create_body
from .container_view import view_of
from .description import node_description
from .engine import Engine, EngineError
from .events import Events
from .images import Images
from .log_frames import LogFrames
from .networks import Overlays, join
from .task_files import TaskFiles

START_AT_ONCE = 4


@dataclass(frozen=True, slots=True)
class _Held:
    """A task's container."""

    container_id: str
    name: str
    node_id: str
    left_out: tuple[str, ...] = ()


class DockerRuntime:
    """`engine_url` as for `Engine`; `data_addr` is the node's address that ingress ports are bound to; `hostname` is
    for nodes that share an Engine (empty: the Engine's own); `memory_dirs` are where secrets may lie."""

    def __init__(
        self,
        *,
        engine_url: str,
        data_addr: str,
        environment: Mapping[str, str],
        log: structlog.typing.FilteringBoundLogger,
        hostname: str = "",
        memory_dirs: Sequence[Path] = (),
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        cluster_socket: Path | None = None,
    ) -> None:
        """`cluster_socket`: what tasks get that mount the Engine's socket."""
        self.engine = Engine(engine_url)
        self._cluster_socket = cluster_socket
        self._engine_sockets = USUAL | {engine_url.removeprefix("unix://")}
        self._data_addr = data_addr
        self._hostname = hostname
        self._sleep = sleep
        self._log = log
        self.overlays = Overlays(self.engine, data_addr, log)
        self._images = Images(self.engine, log)
        self._files = TaskFiles(memory_dirs or usual_roots(environment))
        self._views = Views()
        self._held: dict[str, _Held] = {}
        self._tasks_of: dict[str, str] = {}
        self._unfinished = Unfinished()
        self._slots = asyncio.Semaphore(START_AT_ONCE)
        self._events: Events | None = None

    # Runtime

    async def describe(self) -> NodeDescription:
        self.engine.open()
        info = await self._call("GET", "/info")
        return node_description(info, self._data_addr, self._hostname)

    async def recover(self, node_id: str) -> dict[str, View]:
        self.engine.open()
        filters = msgspec.json.encode({"label": [f"{NODE_ID}={node_id}"]}).decode()
        listed = await self._call("GET", "/containers/json", params={"all": "1", "filters": filters})
        for entry in listed:
            held = _Held(entry["Id"], (entry.get("Names") or ["/?"])[0].lstrip("/"), node_id)
            self._hold(entry["Labels"][TASK_ID], held)
        if self._events is None:
            label = f"{NODE_ID}={node_id}"
            self._events = Events(
                self.engine, label, on_open=self._look_at_all, on_event=self._happened, sleep=self._sleep, log=self._log
            )
            self._events.start()
        await self._look_at_all()
        await asyncio.to_thread(self._files.keep_only, node_id, list(self._held))
        return {task_id: view for task_id in self._held if (view := self._views.get(task_id))}

    async def prepare(self, work: Work, say: Callable[[str], None] = lambda _: None) -> list[str]:
        task = work.task
        if task.id in self._held:
            return list(self._held[task.id].left_out)
        spec = task.spec.container_spec
        if spec is None or not spec.image:
            raise Rejected("the task names no image")
        policy = (spec.engine_options.pull_policy if spec.engine_options else None) or ""
        await self._images.ensure(spec.image, policy=policy, auth=work.registry_auth, say=say)
        return await self._unfinished.carry(task.id, self._prepare_container(work, spec))

    async def start(self, task_id: str) -> None:
        await self._unfinished.carry(task_id, self._start_container(self._one(task_id)))
        self.overlays.release(task_id)

    def watch(self, task_id: str) -> AsyncGenerator[View, None]:
        return self._views.watch(task_id)

    async def stop(self, task_id: str) -> None:
        await self._unfinished.settled(task_id)
        held = self._held.get(task_id)
        if held is None:
            return
        # The stop signal and the grace period are the container's own (StopSignal, StopTimeout).
        with contextlib.suppress(EngineError):
            await self.engine.call("POST", f"/containers/{held.container_id}/stop", timeout=None)
        await self._look(held.container_id)

    async def remove(self, task_id: str) -> None:
        await self._unfinished.settled(task_id)
        self.overlays.release(task_id)
        held = self._held.get(task_id)
        if held is None:
            return
        try:
            await self.engine.call("DELETE", f"/containers/{held.container_id}", params={"force": "1", "v": "1"})
        except EngineError as error:
            # Gone already, or being removed already.
            if error.status not in (404, 409):
                raise RuntimeUnavailable(f"the container {held.name} could not be removed: {error}") from error
        await asyncio.to_thread(self._files.erase, held.node_id, task_id)
        self._drop(task_id)

    async def logs(self, request: LogRequest) -> AsyncGenerator[LogLine, None]:
        held = self._one(request.task_id)
        inspected = await self._call("GET", f"/containers/{held.container_id}/json")
        frames = LogFrames(tty=bool(inspected["Config"].get("Tty")))
        params = {
            "timestamps": "1",
            "stdout": str(int(request.stdout)),
            "stderr": str(int(request.stderr)),
            "follow": str(int(request.follow)),
            "tail": "all" if request.tail < 0 else str(request.tail),
            "since": f"{request.since:.9f}" if request.since else "0",
            "until": f"{request.until:.9f}" if request.until else "0",
        }
        try:
            async with self.engine.stream("GET", f"/containers/{held.container_id}/logs", params=params) as response:
                async for data, _ in response.content.iter_chunks():
                    for line in frames.feed(data):
                        yield line
        except EngineError as error:
            raise UnknownTask(f"the logs of {held.name} cannot be read: {error}") from error
        for line in frames.end():
            yield line

    async def close(self) -> None:
        if self._events is not None:
            await self._events.stop()
        await self.overlays.close()
        await self._images.close()
        await self._unfinished.close()
        await asyncio.to_thread(self._files.tidy)
        await self.engine.close()

    # Containers

    async def _prepare_container(self, work: Work, spec: ContainerSpec) -> list[str]:
        node_id, task_id = work.node.id, work.task.id
        try:
            mounts = await asyncio.to_thread(self._files.write, node_id, task_id, payloads(work))
            async with self._slots:
                return await self._create(work, spec, mounts)
        except (Rejected, RuntimeUnavailable, OSError) as error:
            await asyncio.to_thread(self._files.erase, node_id, task_id)
            if isinstance(error, OSError):
                raise Rejected(f"the task's files could not be made: {error}") from error
            raise

    async def _start_container(self, held: _Held) -> None:
        async with self._slots:
            try:
                await self.engine.call("POST", f"/containers/{held.container_id}/start")
            except EngineError as error:
                await self._look(held.container_id)
                raise StartFailed(f"starting container failed: {error}") from error
        if not self._is_running(held.container_id):
            await self._look(held.container_id)

    async def _create(self, work: Work, spec: ContainerSpec, mounts: list[Mount]) -> list[str]:
        body = create_body(work, self._data_addr, mounts)
        if self._cluster_socket is not None:
            body = with_cluster_socket(body, self._engine_sockets, str(self._cluster_socket))
        left_out = fit(body, await self.engine.version()) + only_windows(spec)
        networks = await self.overlays.ready(work.task)
        further = join(body, work.task, networks)
        name = container_name(work.task)
        try:
            created = await self.engine.call("POST", "/containers/create", params={"name": name}, body=body)
            container_id = created["Id"]
            for network, point in further:
                connect = {"Container": container_id, "EndpointConfig": point}
                await self.engine.call("POST", f"/networks/{network}/connect", body=connect)
        except EngineError as error:
            container_id = await self._own(name, work.task.id) if error.status == 409 else ""
            if not container_id:
                raise Rejected(str(error)) from error
        self._hold(work.task.id, _Held(container_id, name, work.node.id, tuple(left_out)))
        self._views.put(work.task.id, View(Phase.CREATED, container_id=container_id))
        return left_out

    async def _own(self, name: str, task_id: str) -> str:
        """The id of a container that an interrupted attempt of this very task left; empty when it is another's."""
        try:
            inspected = await self.engine.call("GET", f"/containers/{name}/json")
        except EngineError:
            return ""
        return str(inspected["Id"]) if inspected["Config"]["Labels"].get(TASK_ID) == task_id else ""

    async def _happened(self, container_id: str, action: str) -> None:
        """One look is enough for a start: by its event or by the call's return, whichever comes first."""
        if action != "start" or not self._is_running(container_id):
            await self._look(container_id)

    def _is_running(self, container_id: str) -> bool:
        view = self._views.get(self._tasks_of.get(container_id, ""))
        return view is not None and view.phase is Phase.RUNNING

    async def _look_at_all(self) -> None:
        for held in list(self._held.values()):
            await self._look(held.container_id)

    async def _look(self, container_id: str) -> None:
        """Take the Engine's word on a container for its task's view."""
        task_id = self._tasks_of.get(container_id)
        if task_id is None:
            return
        try:
            inspected = await self.engine.call("GET", f"/containers/{container_id}/json")
        except EngineError as error:
            if error.status == 404 and task_id in self._held:
                node_id = self._held[task_id].node_id
                self._drop(task_id)
                await asyncio.to_thread(self._files.erase, node_id, task_id)
            return
        if task_id in self._held:
            self._views.put(task_id, view_of(inspected, self._data_addr))
            if (place := place_of(inspected)) is not None:
                self.overlays.balancer.seen(place)
            else:
                self.overlays.balancer.gone(container_id)

    def _hold(self, task_id: str, held: _Held) -> None:
        self._held[task_id] = held
        self._tasks_of[held.container_id] = task_id

    def _drop(self, task_id: str) -> None:
        held = self._held.pop(task_id, None)
        if held is not None:
            self._tasks_of.pop(held.container_id, None)
            self.overlays.balancer.gone(held.container_id)
        self._views.drop(task_id)

    def _one(self, task_id: str) -> _Held:
        try:
            return self._held[task_id]
        except KeyError:
            raise UnknownTask(f"task {task_id} is not on this node") from None

    async def _call(self, method: str, path: str, *, params: Mapping[str, str] | None = None) -> Any:
        """For calls that have no reason to be refused."""
        try:
            return await self.engine.call(method, path, params=params)
        except EngineError as error:
            raise RuntimeUnavailable(f"the Docker Engine refuses {method} {path}: {error}") from error


async def answers(engine_url: str) -> bool:
    """Whether a Docker Engine is there (for `--runtime auto`)."""
    async with Engine(engine_url) as engine:
        try:
            async with asyncio.timeout(5):
                await engine.version()
        except (RuntimeUnavailable, TimeoutError, ValueError, aiohttp.ClientError):
            return False
    return True
