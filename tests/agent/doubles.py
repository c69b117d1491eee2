"""Stand-ins for the agent's surroundings: a manager at the other end of in-memory channels, and a runtime."""

import asyncio
import os
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import structlog

from essaim.agent.runtime.interface import LogLine, Phase, View, Work
from essaim.agent.runtime.views import Views
from essaim.cluster import wire
from essaim.cluster.container import ContainerSpec
from essaim.cluster.node import Node, NodeDescription, NodeSpec
from essaim.cluster.service import PortConfig, TaskSpec
from essaim.cluster.task import Task, TaskStatus

LOG = structlog.wrap_logger(structlog.testing.CapturingLogger())
NODE = Node(id="node1", spec=NodeSpec(), description=NodeDescription(hostname="host1"))
UNIQUE = f"t{os.getpid()}"
"""The id of a task that is a real process: processes are told apart by it, on a machine where others test as well."""
MEMORY = Path(f"/dev/shm/essaim-test-{os.getpid()}")
"""This test run's own place for secrets, made and removed by conftest.py."""
MOMENT = datetime(2026, 1, 1, tzinfo=UTC)


def make_task(task_id: str = "t1", *, desired: str = "running", state: str = "assigned", **changes: Any) -> Task:
    """A task of service web; keyword arguments named as ContainerSpec's fields go there."""
    spec_changes = {name: changes.pop(name) for name in list(changes) if name in ContainerSpec.__struct_fields__}
    container = ContainerSpec(**{"image": "host", **spec_changes})
    return Task(
        id=task_id,
        spec=changes.pop("spec", None) or TaskSpec(container_spec=container),
        service_id="service1",
        service_name="web",
        slot=1,
        node_id=NODE.id,
        status=TaskStatus(state=state),
        desired_state=desired,
        **changes,
    )


def with_desired(task: Task, desired: str) -> Task:
    return msgspec.structs.replace(task, desired_state=desired)


def ingress(target: int, **more: Any) -> PortConfig:
    return PortConfig(**{"protocol": "tcp", "target_port": target, "publish_mode": "ingress", **more})


async def until(condition: Callable[[], Any], *, seconds: float = 20.0) -> Any:
    """Poll a condition of real processes until it holds; its value."""
    async with asyncio.timeout(seconds):
        while not (value := condition()):
            await asyncio.sleep(0.01)
        return value


def is_running(pid: int) -> bool:
    """It exists and is no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[0] != b"Z"
    except OSError:
        return False


class PipeChannel:
    """One end of a pair."""

    def __init__(self) -> None:
        self.peer: PipeChannel | None = None
        self._inbox: asyncio.Queue[bytes | None] = asyncio.Queue()
        self.closed = False

    async def send(self, data: bytes) -> None:
        if self.closed or self.peer is None or self.peer.closed:
            raise ConnectionResetError("closed")
        self.peer._inbox.put_nowait(data)

    async def receive(self) -> bytes | None:
        return await self._inbox.get()

    async def close(self) -> None:
        if not self.closed:
            self.closed = True
            self._inbox.put_nowait(None)
            if self.peer is not None:
                self.peer._inbox.put_nowait(None)


def pipe() -> tuple[PipeChannel, PipeChannel]:
    one, other = PipeChannel(), PipeChannel()
    one.peer, other.peer = other, one
    return one, other


class FakeManager:
    """Answers dials, keeps the newest report of each task, and every state that was reported, in order."""

    def __init__(self, *, heartbeat: float = 5.0, node: Node = NODE) -> None:
        self.heartbeat = heartbeat
        self.node = node
        self.reports: dict[str, wire.TaskReport] = {}
        self.states: dict[str, list[str]] = {}
        self.received: list[wire.FromAgent] = []
        self.hellos = 0
        self.first_answer: wire.ToAgent | None = None
        self.full = wire.Assignments(full=True)
        self._ends: list[PipeChannel] = []
        self._tasks: list[asyncio.Task[None]] = []

    async def dial(self) -> wire.Channel:
        mine, theirs = pipe()
        self._ends.append(mine)
        self._tasks.append(asyncio.create_task(self._serve(mine)))
        return theirs

    async def send(self, message: wire.ToAgent) -> None:
        await self._ends[-1].send(wire.encode(message))

    async def assign(self, *tasks: Task, removed: list[str] | None = None, full: bool = False, **more: Any) -> None:
        await self.send(wire.Assignments(full=full, tasks=list(tasks), removed=removed or [], **more))

    async def hang_up(self) -> None:
        await self._ends[-1].close()

    async def close(self) -> None:
        for end in self._ends:
            await end.close()
        await asyncio.gather(*self._tasks)

    def state(self, task_id: str) -> str:
        return self.reports[task_id].status.state if task_id in self.reports else ""

    def of_type(self, kind: type) -> list[Any]:
        return [message for message in self.received if isinstance(message, kind)]

    async def _serve(self, end: PipeChannel) -> None:
        while (data := await end.receive()) is not None:
            message = wire.decode_from_agent(data)
            self.received.append(message)
            if isinstance(message, wire.Hello):
                self.hellos += 1
                await self._greet(end)
            elif isinstance(message, wire.Heartbeat):
                await end.send(wire.encode(wire.HeartbeatAck()))
            elif isinstance(message, wire.Reports):
                for report in message.reports:
                    self.reports[report.task_id] = report
                    self.states.setdefault(report.task_id, []).append(report.status.state)

    async def _greet(self, end: PipeChannel) -> None:
        if self.first_answer is not None:
            answer, self.first_answer = self.first_answer, None
            await end.send(wire.encode(answer))
            return
        await end.send(wire.encode(wire.Welcome(self.heartbeat, self.node, ["m1:2377"])))
        await end.send(wire.encode(self.full))


@dataclass
class FakeRuntime:
    """Does at once what it is told, and writes down the calls; `fail` maps a method to errors to raise, in order."""

    views: Views = field(default_factory=Views)
    calls: list[str] = field(default_factory=list)
    fail: dict[str, list[Exception]] = field(default_factory=dict)
    found: dict[str, View] = field(default_factory=dict)
    gates: dict[str, asyncio.Event] = field(default_factory=dict)
    running: View = field(default_factory=lambda: View(Phase.RUNNING, pid=7))
    lines: list[LogLine] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    progress: list[str] = field(default_factory=list)

    async def _call(self, name: str, task_id: str) -> None:
        self.calls.append(f"{name} {task_id}")
        if name in self.gates:
            await self.gates[name].wait()
        if self.fail.get(name):
            raise self.fail[name].pop(0)

    async def describe(self) -> NodeDescription:
        return NodeDescription(hostname="host1", data_addr="127.0.0.1", runtime="fake")

    async def recover(self, node_id: str) -> dict[str, View]:
        for task_id, view in self.found.items():
            self.views.put(task_id, view)
        return dict(self.found)

    async def prepare(self, work: Work, say: Callable[[str], None] = lambda _: None) -> list[str]:
        for word in self.progress:
            say(word)
        await self._call("prepare", work.task.id)
        self.views.put(work.task.id, View(Phase.CREATED))
        return self.left_out

    async def start(self, task_id: str) -> None:
        await self._call("start", task_id)
        self.views.put(task_id, self.running)

    def watch(self, task_id: str) -> AsyncGenerator[View, None]:
        return self.views.watch(task_id)

    async def revived(self, task_id: str) -> None:
        await self.views.until_running(task_id)

    async def stop(self, task_id: str) -> None:
        await self._call("stop", task_id)
        if task_id in self.views:
            self.views.put(task_id, View(Phase.EXITED, exit_code=0))

    async def remove(self, task_id: str) -> None:
        await self._call("remove", task_id)
        self.views.drop(task_id)

    async def logs(self, request: wire.LogRequest) -> AsyncGenerator[LogLine, None]:
        for line in self.lines:
            yield line
        if request.follow:
            await asyncio.Event().wait()

    async def close(self) -> None:
        pass
