"""Never two containers of one replica, and nothing left behind, whatever the Engine's calls come to."""

import asyncio
import heapq
import itertools
import os
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, TypeVar, cast

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from essaim.agent.runtime.docker.balancing import Balancer
from essaim.agent.runtime.docker.engine import Engine
from essaim.agent.runtime.docker.runtime import DockerRuntime
from essaim.agent.runtime.interface import View, Work
from essaim.agent.tasks.task_manager import Surroundings, TaskManager
from essaim.cluster.overlay import OverlayNetwork
from essaim.cluster.task import NetworkAttachment, Task, TaskState
from essaim.cluster.wire import TaskReport

from .doubles import LOG, MOMENT, NODE, make_task, with_desired
from .model_engine import FAULTS, ModelEngine

Answer = TypeVar("Answer")
LONG = bool(os.environ.get("ESSAIM_TEST_LONG"))
IDLE = 25
"""Turns of the loop after which nothing more happens by itself."""


class Clock:
    """Time passes when nobody has anything to do."""

    def __init__(self) -> None:
        self.now = 0.0
        self._sleepers: list[tuple[float, int, asyncio.Event]] = []
        self._numbers = itertools.count()

    async def sleep(self, seconds: float) -> None:
        event = asyncio.Event()
        heapq.heappush(self._sleepers, (self.now + seconds, next(self._numbers), event))
        await event.wait()

    def pass_on(self) -> None:
        if self._sleepers:
            self.now, _, event = heapq.heappop(self._sleepers)
            event.set()


class Overlays:
    """Two networks that are always there."""

    def __init__(self) -> None:
        self.balancer = Balancer(LOG)

    async def ready(self, task: Task) -> list[OverlayNetwork]:
        return [OverlayNetwork(i, i, "10.0.1.0/24", "10.0.1.1", 4097) for i in ("net1", "net2")]

    def release(self, task_id: str) -> None:
        """Nobody waits for it."""

    async def close(self) -> None:
        """Nothing was made."""


def task_of_replica(task_id: str) -> Task:
    attached = [NetworkAttachment(network_id=i, addresses=["10.0.1.5/24"]) for i in ("net1", "net2")]
    return make_task(task_id, image="box@sha256:1", networks_attachments=attached)


class World:
    """One replica of a service on one node, and the manager that replaces its task once it has ended."""

    def __init__(self, engine: ModelEngine, *, replaces: bool = True) -> None:
        self.engine = engine
        self._replaces = replaces
        self.clock = Clock()
        self.tasks: dict[str, Task] = {}
        self.states: dict[str, TaskState] = {}
        self.said: list[str] = []
        self.managers: dict[str, TaskManager] = {}
        self.runtime: DockerRuntime | None = None
        self._in_session = False
        self._numbers = itertools.count(1)

    async def boot(self) -> None:
        """The daemon starts, or starts again: only what the Engine and the managers know is left."""
        await self.shut_down()
        self.runtime = DockerRuntime(
            engine_url="unix:///model", data_addr="10.77.0.1", environment={}, log=LOG, sleep=self.clock.sleep
        )
        self.runtime.engine = cast("Engine", self.engine)
        for part in (self.runtime._looks, self.runtime._making, self.runtime._images):
            part._engine = cast("Engine", self.engine)
        self.runtime.overlays = cast("Any", Overlays())
        recovering = asyncio.ensure_future(self._recover(self.runtime))
        await self.until(recovering.done)
        self._in_session = True
        for task_id in list(self.tasks):
            self._take_on(task_id, recovering.result().get(task_id))

    async def shut_down(self) -> None:
        """As `Agent.stop`: the session ends before the tasks' managers do, so nothing that these say is heard."""
        self._in_session = False
        await asyncio.gather(*(manager.close() for manager in self.managers.values()))
        self.managers.clear()
        if self.runtime is not None:
            await self.runtime.close()

    async def _recover(self, runtime: DockerRuntime) -> dict[str, View]:
        while True:
            try:
                return await runtime.recover(NODE.id)
            except Exception:
                await self.clock.sleep(1)

    def assign(self) -> None:
        task = task_of_replica(f"t{next(self._numbers)}")
        self.tasks[task.id] = task
        self.states[task.id] = TaskState.ASSIGNED
        self._take_on(task.id, None)

    def retire(self, task_id: str) -> None:
        task = self.tasks[task_id] = with_desired(self.tasks[task_id], "shutdown")
        if task_id in self.managers:
            self.managers[task_id].update(Work(task, NODE))

    def _take_on(self, task_id: str, found: View | None) -> None:
        assert self.runtime is not None
        status = msgspec.structs.replace(self.tasks[task_id].status, state=self.states[task_id].label)
        task = msgspec.structs.replace(self.tasks[task_id], status=status)
        around = Surroundings(self.runtime, self._report, self._gone, lambda: MOMENT, self.clock.sleep, LOG)
        self.managers[task_id] = TaskManager(Work(task, NODE), found, around)
        self.managers[task_id].start()

    def _report(self, report: TaskReport) -> None:
        if not self._in_session:
            return
        state = TaskState.of(report.status.state)
        before, self.states[report.task_id] = self.states[report.task_id], state
        self.said.append(f"{report.status.message} {report.status.err or ''}")
        if self._replaces and state >= TaskState.COMPLETE > before:
            self.assign()

    def _gone(self, task_id: str) -> None:
        self.managers.pop(task_id, None)
        self.tasks.pop(task_id, None)

    async def until(self, condition: Callable[[], bool]) -> None:
        for _ in range(3000):
            for _ in range(IDLE):
                if condition():
                    return
                await asyncio.sleep(0)
            self.clock.pass_on()
        raise AssertionError(f"never: {self.states} {self.engine.calls[-20:]} {self.said[-5:]}")

    def is_up(self) -> bool:
        """The newest task runs, and is known to."""
        return self.states[self.newest] is TaskState.RUNNING

    @property
    def newest(self) -> str:
        return f"t{len(self.states)}"

    async def settle(self) -> None:
        """The newest task comes up, all others are forgotten; then nothing is late and no call fails any more."""
        await self.until(self.is_up)
        for task_id in list(self.tasks):
            if task_id != self.newest:
                self.retire(task_id)
                self.managers[task_id].forget()
        await self.until(lambda: len(self.managers) == 1)
        self.engine.catch_up()
        self.engine.faults = iter(())
        looked = self.clock.now + 60
        await self.until(lambda: self.clock.now > looked)


async def story(faults: list[str], retire_at: int, restart_at: int, exit_at: int) -> World:
    """A replica that is started, replaced, and whose daemon is restarted, each at the number of an Engine's call."""
    restarts: list[int] = []

    def on_call(number: int) -> None:
        if number == retire_at and "t1" in world.tasks:
            world.retire("t1")
        if number == restart_at:
            restarts.append(number)
        if number == exit_at:
            world.engine.exits("t1")

    world = World(ModelEngine(iter(faults), on_call))
    await world.boot()
    world.assign()
    await world.until(lambda: bool(restarts) or (len(world.engine.calls) > len(faults) and world.is_up()))
    if restarts:
        await world.boot()
    await world.until(world.is_up)
    world.retire("t1")
    await world.until(lambda: world.newest != "t1")
    await world.settle()
    return world


def check(world: World) -> None:
    newest = world.newest
    assert [(one.name, one.status) for one in world.engine.containers.values()] == [(f"web.1.{newest}", "running")]
    assert all(one.networks == {"net1", "net2"} for one in world.engine.running)
    assert world.engine.wrongs == []


def run(faults: list[str], retire_at: int = 0, restart_at: int = 0, exit_at: int = 0) -> World:
    async def whole() -> World:
        world = await story(faults, retire_at, restart_at, exit_at)
        check(world)
        await world.shut_down()
        return world

    return live(whole())


def live(story: Coroutine[Any, Any, Answer]) -> Answer:
    """Run it; what is done in threads is done at once, as threads do not know of the clock."""

    async def at_once(work: Callable[..., Any], *arguments: Any) -> Any:
        return work(*arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(asyncio, "to_thread", at_once)
        return asyncio.run(story)


CALLS = 14
"""More calls than the life of a task takes without faults."""


def every_single_fault() -> Iterator[tuple[list[str], int]]:
    for number in range(CALLS):
        for fault in FAULTS:
            for times in (1, 3):
                yield [""] * number + [fault] * times, number


@pytest.mark.parametrize("retire", [False, True])
def test_replica_meets_each_fault_in_each_call_and_never_runs_twice(retire: bool) -> None:
    for faults, number in every_single_fault():
        run(faults, retire_at=number + 1 if retire else 0)


@given(
    faults=st.lists(st.sampled_from(("", "", *FAULTS)), max_size=40),
    retire_at=st.integers(0, 30),
    restart_at=st.integers(0, 30),
    exit_at=st.integers(0, 30),
)
@example(faults=["", "", "late", "late", "refused"], retire_at=4, restart_at=0, exit_at=0)
@example(faults=[], retire_at=0, restart_at=5, exit_at=10)
@example(faults=["", "", "refused-after", "lost", "refused"], retire_at=0, restart_at=0, exit_at=0)
@example(faults=["", "", "late", "", *[""] * 7, *["refused"] * 9], retire_at=2, restart_at=2, exit_at=0)
@example(faults=["", "", "lost", "", "", "refused-after", "", "late"], retire_at=0, restart_at=0, exit_at=11)
@example(faults=["", "", "late"], retire_at=2, restart_at=2, exit_at=0)
@example(faults=["", "", "refused", "refused", "", "late", "", "refused"], retire_at=0, restart_at=5, exit_at=0)
@example(faults=["", "", "refused", "", "refused", *[""] * 3, "refused"], retire_at=0, restart_at=5, exit_at=0)
def test_replica_never_runs_twice_and_leaves_nothing_through_any_faults_restarts_and_exits(
    faults: list[str], retire_at: int, restart_at: int, exit_at: int
) -> None:
    run(faults, retire_at, restart_at, exit_at)


def test_task_whose_stop_is_refused_stays_and_says_why() -> None:
    async def whole() -> None:
        world = World(ModelEngine())
        await world.boot()
        world.assign()
        await world.until(world.is_up)
        world.engine.faults = iter(["", "refused", ""] * 5)
        world.retire("t1")
        await world.until(lambda: sum(call[1].endswith("/stop") for call in world.engine.calls) == 4)
        assert world.states == {"t1": TaskState.RUNNING}
        refusals = [words for words in world.said if "permission denied" in words]
        assert refusals == ["stopping: trying again the container cannot be stopped: permission denied"]
        await world.until(lambda: world.states["t1"] is TaskState.SHUTDOWN)
        assert world.engine.running == []
        await world.shut_down()

    live(whole())


def test_container_started_by_hand_after_its_end_is_stopped() -> None:
    async def whole() -> None:
        world = World(ModelEngine(), replaces=False)
        await world.boot()
        world.assign()
        await world.until(world.is_up)
        world.retire("t1")
        await world.until(lambda: world.states["t1"] is TaskState.SHUTDOWN)
        (container,) = world.engine.containers.values()
        world.engine._turn(container, "running", "start")
        await world.until(lambda: container.status == "exited")
        await world.shut_down()

    live(whole())
