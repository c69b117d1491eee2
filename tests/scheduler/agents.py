"""A simulated agent on the other end of a real session, and what a test needs around a dispatcher."""

import asyncio
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from essaim.cluster import wire
from essaim.cluster.node import Node, NodeDescription, NodeSpec, NodeStatus
from essaim.cluster.route_delta import apply_delta
from essaim.cluster.service import Platform, Resources
from essaim.cluster.store import Store
from essaim.cluster.task import Task, TaskEndpoint, TaskState, TaskStatus
from essaim.cluster.wire import FromAgent, Heartbeat, Hello, Reports, RoutesApplied, TaskReport, ToAgent
from essaim.cluster.writer import Writer
from essaim.scheduler.dispatch.dispatcher import Dispatcher
from tests.scheduler.memory_log import MemoryLog


def utc_now() -> datetime:
    return datetime.now(UTC)


class Quiet:
    """A logger that keeps what it is told."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, str, dict[str, Any]]] = []

    def debug(self, event: str, **values: Any) -> None:
        self.lines.append(("debug", event, values))

    def info(self, event: str, **values: Any) -> None:
        self.lines.append(("info", event, values))

    def warning(self, event: str, **values: Any) -> None:
        self.lines.append(("warning", event, values))

    def error(self, event: str, **values: Any) -> None:
        self.lines.append(("error", event, values))

    @property
    def errors(self) -> list[tuple[str, str, dict[str, Any]]]:
        return [line for line in self.lines if line[0] == "error"]


class Pipe:
    """One end of a channel in memory."""

    def __init__(self, incoming: "asyncio.Queue[bytes | None]", outgoing: "asyncio.Queue[bytes | None]") -> None:
        self._incoming = incoming
        self._outgoing = outgoing
        self.closed = False
        self.sent: list[bytes] = []

    async def send(self, data: bytes) -> None:
        if self.closed:
            raise ConnectionResetError("closed")
        self.sent.append(data)
        self._outgoing.put_nowait(data)

    async def receive(self) -> bytes | None:
        if self.closed:
            return None
        data = await self._incoming.get()
        if data is None:
            self.closed = True
        return data

    async def close(self) -> None:
        if not self.closed:
            self.closed = True
            self._outgoing.put_nowait(None)
            self._incoming.put_nowait(None)


def pipes() -> tuple[Pipe, Pipe]:
    one: asyncio.Queue[bytes | None] = asyncio.Queue()
    other: asyncio.Queue[bytes | None] = asyncio.Queue()
    return Pipe(one, other), Pipe(other, one)


def node(node_id: str, *, state: str = "unknown") -> Node:
    return Node(
        id=node_id,
        spec=NodeSpec(),
        status=NodeStatus(state=state, addr="127.0.0.1"),
    )


def description(node_id: str) -> NodeDescription:
    return NodeDescription(
        hostname=node_id,
        platform=Platform(architecture="x86_64", os="linux"),
        resources=Resources(nano_cpus=8_000_000_000, memory_bytes=1 << 34),
        data_addr="127.0.0.1",
    )


class SimulatedAgent:
    """Runs every task at once and stops it at once; acknowledges routes as long as `acknowledges`."""

    def __init__(self, node_id: str, dispatcher: Dispatcher, *, heartbeat: float = 0.1, certificate: str = "") -> None:
        self.node_id = node_id
        self.heartbeat = heartbeat
        self.certificate = certificate or node_id
        self.tasks: dict[str, Task] = {}
        self.states: dict[str, TaskState] = {}
        self.secrets: dict[str, Any] = {}
        self.received: list[ToAgent] = []
        self.table = wire.RouteTable()
        self.open_requests: dict[str, int] = {}
        self.acknowledges = True
        self.unfit: list[str] | None = None
        self._dispatcher = dispatcher
        self.channel, self._far = pipes()
        self._running: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> "SimulatedAgent":
        self._running = [
            asyncio.create_task(self._dispatcher.serve(self._far, self.certificate)),
            asyncio.create_task(self._live()),
        ]
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.channel.close()
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)

    async def send(self, message: FromAgent) -> None:
        await self.channel.send(wire.encode(message))

    async def _live(self) -> None:
        await self.send(Hello(self.node_id, description(self.node_id), wire.SESSION))
        beating = asyncio.create_task(self._beat())
        try:
            while (data := await self.channel.receive()) is not None:
                message = wire.decode_to_agent(data)
                self.received.append(message)
                await self._receive(message)
        finally:
            beating.cancel()
            await asyncio.gather(beating, return_exceptions=True)

    async def _beat(self) -> None:
        while True:
            await self.send(Heartbeat())
            await asyncio.sleep(self.heartbeat)

    async def acknowledge(self) -> None:
        await self.send(RoutesApplied(self.table.version, dict(self.open_requests), self.unfit))

    async def _receive(self, message: ToAgent) -> None:
        if isinstance(message, wire.Assignments):
            if message.full:
                self.tasks.clear()
            self.secrets.update((secret.id, secret) for secret in message.secrets)
            for task_id in message.removed:
                self.tasks.pop(task_id, None)
            reports: list[TaskReport] = []
            for task in message.tasks:
                self.tasks[task.id] = task
                reports += self._drive(task)
            if reports:
                await self.send(Reports(reports))
        elif isinstance(message, wire.Routes | wire.RoutesChanged):
            whole = isinstance(message, wire.Routes)
            self.table = message.table if whole else apply_delta(self.table, message.delta)
            if self.acknowledges:
                await self.acknowledge()

    def _drive(self, task: Task) -> list[TaskReport]:
        known = self.states.get(task.id, task.state)
        if known >= TaskState.COMPLETE:
            return []
        if task.desired > TaskState.COMPLETE:
            wanted = TaskState.SHUTDOWN
        else:
            wanted = TaskState.RUNNING if task.desired >= TaskState.RUNNING else TaskState.READY
        if wanted == known:
            return []
        self.states[task.id] = wanted
        endpoints = [
            TaskEndpoint(protocol=p.protocol or "tcp", target_port=p.target_port or 0, address="127.0.0.1", port=40000)
            for p in task.ports or ()
        ]
        status = TaskStatus(timestamp=utc_now(), state=wanted.label, message="simulated")
        return [TaskReport(task.id, status, endpoints or None)]


class Manager:
    """A store with its log, writer and dispatcher."""

    def __init__(self) -> None:
        self.store = Store()
        self.log = MemoryLog(self.store)
        self.writer = Writer(self.log, self.store, utc_now)
        self.quiet = Quiet()
        self.leader = "127.0.0.1:2377"
        self.managers = ["127.0.0.1:2377"]
        self.dispatcher = Dispatcher(
            self.store,
            self.writer,
            time.monotonic,
            self.quiet,
            leader_address=lambda: self.leader,
            manager_addresses=lambda: self.managers,
        )


async def until(condition: Callable[[], object], *, within: float = 20.0) -> None:
    """Wait for something that a real clock brings about; fails when it does not come."""
    deadline = time.monotonic() + within
    while not condition():
        assert time.monotonic() < deadline, "what was waited for did not come"
        await asyncio.sleep(0.005)
