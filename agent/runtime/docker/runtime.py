"""The Docker runtime: each task is a container of the local Engine, named and labelled as Swarm would.

Rules:
- The Engine is the only memory: containers are found again by their labels. A task's view is what `inspect` says
  (looks.py); what failed or was lost on the way leaves nothing behind (making.py).
- Secrets and configs are there from the making of the container to its end.
- Several nodes may share one Engine (the demo): only containers with this node's id in their labels are touched.
- At most START_AT_ONCE containers are created or started at a time: more only wait for each other in the Engine.
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import structlog

from essaim.agent.runtime.durations import stop_grace
from essaim.agent.runtime.interface import (
    LogLine,
    Phase,
    Rejected,
    RuntimeUnavailable,
    StartFailed,
    UnknownTask,
    View,
    Work,
)
from essaim.agent.runtime.memory_files import usual_roots
from essaim.agent.runtime.payloads import payloads
from essaim.agent.runtime.unfinished import Unfinished
from essaim.cluster.container import ContainerSpec, Mount
from essaim.cluster.node import NodeDescription
from essaim.cluster.wire import LogRequest

from .age import fit, only_windows
from .balancing import place_of
from .cluster_socket import USUAL, with_cluster_socket
from .container_config import NODE_ID, TASK_ID, container_name, create_body
from .container_view import grace_of, listed_view, view_of
from .description import node_description
from .engine import Engine, EngineError
from .events import Events
from .holdings import Held, Holdings
from .images import Images
from .log_frames import LogFrames
from .looks import Looks
from .making import Making, held_from
from .networks import Overlays, join
from .task_files import TaskFiles

START_AT_ONCE = 4


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
        self._with_files: set[str] = set()
        self._holdings = Holdings()
        self._unfinished = Unfinished()
        self._slots = asyncio.Semaphore(START_AT_ONCE)
        self._node_id = ""
        self._looks = Looks(
            self.engine,
            self._holdings,
            take=self._take,
            gone=self._gone,
            list_all=self._list,
            strays=lambda entries: self._making.sweep(entries),
            sleep=sleep,
            log=log,
        )
        self._making = Making(self.engine, self._holdings, self._looks, log)
        self._events: Events | None = None

    # Runtime

    async def describe(self) -> NodeDescription:
        self.engine.open()
        info = await self._call("GET", "/info")
        return node_description(info, self._data_addr, self._hostname)

    async def recover(self, node_id: str) -> dict[str, View]:
        self.engine.open()
        self._node_id = node_id
        for entry in await self._list():
            task_id = entry["Labels"].get(TASK_ID)
            if task_id:
                self._holdings.hold(task_id, held_from(entry, is_whole=listed_view(entry).phase is not Phase.CREATED))
                self._holdings.views.put(task_id, listed_view(entry))
                self._with_files.add(task_id)
        await asyncio.gather(*(self._look_once(container_id) for container_id in self._holdings.containers()))
        if self._events is None:
            self._events = Events(
                self.engine,
                f"{NODE_ID}={node_id}",
                on_open=self._looks.all_soon,
                on_event=self._happened,
                sleep=self._sleep,
                log=self._log,
            )
            self._events.start()
            self._looks.start()
        views = {task_id: view for task_id in self._holdings.tasks() if (view := self._holdings.views.get(task_id))}
        living = [task_id for task_id, view in views.items() if view.phase is not Phase.EXITED]
        for task_id, view in views.items():
            if view.phase is Phase.CREATED:
                self._making.recovered(task_id)
        await asyncio.to_thread(self._files.keep_only, node_id, living)
        return views

    async def prepare(self, work: Work, say: Callable[[str], None] = lambda _: None) -> list[str]:
        task = work.task
        held = self._holdings.get(task.id)
        if held is not None and held.is_whole:
            return list(held.left_out)
        spec = task.spec.container_spec
        if spec is None or not spec.image:
            raise Rejected("the task names no image")
        self._node_id = work.node.id
        self._making.want(task.id)
        try:
            if held is None:
                policy = (spec.engine_options.pull_policy if spec.engine_options else None) or ""
                await self._images.ensure(spec.image, policy=policy, auth=work.registry_auth, say=say)
            return await self._unfinished.carry(task.id, self._prepare_container(work, spec))
        except Rejected:
            self._making.rejected(task.id)
            raise

    async def start(self, task_id: str) -> None:
        self._holdings.one(task_id)
        await self._unfinished.carry(task_id, self._start_container(task_id))
        self.overlays.release(task_id)

    def watch(self, task_id: str) -> AsyncGenerator[View, None]:
        return self._holdings.views.watch(task_id)

    async def revived(self, task_id: str) -> None:
        await self._holdings.views.until_running(task_id)

    async def stop(self, task_id: str) -> None:
        await self._unfinished.settled(task_id)
        await self._making.stop(task_id)

    async def remove(self, task_id: str) -> None:
        await self._unfinished.settled(task_id)
        self.overlays.release(task_id)
        await self._making.remove(task_id)
        await self._erase_files(task_id)

    async def logs(self, request: LogRequest) -> AsyncGenerator[LogLine, None]:
        held = self._holdings.one(request.task_id)
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
        await self._looks.close()
        await self.overlays.close()
        await self._images.close()
        await self._unfinished.close()
        await asyncio.to_thread(self._files.tidy)
        await self.engine.close()

    # Containers

    async def _prepare_container(self, work: Work, spec: ContainerSpec) -> list[str]:
        task_id = work.task.id
        try:
            self._with_files.add(task_id)
            mounts = await asyncio.to_thread(self._files.write, work.node.id, task_id, payloads(work))
            async with self._slots:
                return await self._make(work, spec, mounts)
        except (Rejected, RuntimeUnavailable, OSError) as error:
            await self._erase_files(task_id)
            if isinstance(error, OSError):
                raise Rejected(f"the task's files could not be made: {error}") from error
            raise

    async def _make(self, work: Work, spec: ContainerSpec, mounts: list[Mount]) -> list[str]:
        task_id, name = work.task.id, container_name(work.task)
        body = create_body(work, self._data_addr, mounts)
        if self._cluster_socket is not None:
            body = with_cluster_socket(body, self._engine_sockets, str(self._cluster_socket))
        left_out = fit(body, await self.engine.version()) + only_windows(spec)
        further = join(body, work.task, await self.overlays.ready(work.task))
        held = self._holdings.get(task_id)
        container_id = held.container_id if held else await self._making.create(task_id, name, body)
        made = Held(container_id, name, work.node.id, stop_grace(spec), tuple(left_out), is_whole=False)
        self._holdings.hold(task_id, made)
        self._holdings.views.put(task_id, View(Phase.CREATED, container_id=container_id))
        await self._making.connect(task_id, further)
        return left_out

    async def _start_container(self, task_id: str) -> None:
        container_id = self._holdings.one(task_id).container_id
        async with self._slots:
            try:
                await self._making.start(task_id)
            except StartFailed:
                await self._erase_files(task_id)
                raise
        if not self._is_running(container_id):
            await self._looks.now(container_id)

    async def _look_once(self, container_id: str) -> None:
        """Raises RuntimeUnavailable when the Engine is away; one that it does not tell of is looked at later."""
        try:
            await self._looks.now(container_id)
        except RuntimeUnavailable as problem:
            if not isinstance(problem.__cause__, EngineError):
                raise
            self._looks.soon(container_id)

    async def _happened(self, container_id: str, action: str) -> None:
        """One look is enough for a start: by its event or by the call's return, whichever comes first."""
        if action != "start" or not self._is_running(container_id):
            self._looks.soon(container_id)

    def _is_running(self, container_id: str) -> bool:
        view = self._holdings.view_of(container_id)
        return view is not None and view.phase is Phase.RUNNING

    async def _take(self, task_id: str, inspected: dict[str, Any]) -> View:
        """The Engine's word on a container becomes its task's view. Raises RuntimeUnavailable."""
        try:
            view, place = view_of(inspected, self._data_addr), place_of(inspected)
        except (KeyError, TypeError, ValueError) as error:
            raise RuntimeUnavailable(f"the Docker Engine's word on a container cannot be read: {error!r}") from error
        self._holdings.change(task_id, grace=grace_of(inspected))
        self._holdings.views.put(task_id, view)
        if place is not None:
            self.overlays.balancer.seen(place)
        else:
            self.overlays.balancer.gone(inspected["Id"])
        if view.phase is Phase.EXITED:
            await self._erase_files(task_id)
        return view

    async def _gone(self, task_id: str) -> None:
        held = self._holdings.get(task_id)
        if held is not None:
            self.overlays.balancer.gone(held.container_id)
        self._holdings.drop(task_id)
        await self._erase_files(task_id)

    async def _erase_files(self, task_id: str) -> None:
        """Secrets live as long as what may read them."""
        if task_id in self._with_files:
            self._with_files.discard(task_id)
            await asyncio.to_thread(self._files.erase, self._node_id, task_id)

    async def _list(self) -> list[dict[str, Any]]:
        """The Engine's list of this node's containers."""
        filters = msgspec.json.encode({"label": [f"{NODE_ID}={self._node_id}"]}).decode()
        listed: list[dict[str, Any]] = await self._call(
            "GET", "/containers/json", params={"all": "1", "filters": filters}
        )
        return listed

    async def _call(self, method: str, path: str, *, params: Mapping[str, str] | None = None) -> Any:
        """For calls that have no reason to be refused."""
        try:
            return await self.engine.call(method, path, params=params)
        except EngineError as error:
            raise RuntimeUnavailable(f"the Docker Engine refuses {method} {path}: {error}") from error
