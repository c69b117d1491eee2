"""One task through its life, with a runtime that does what it is told."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import msgspec
import pytest

from essaim.agent.runtime.interface import Health, Phase, Rejected, RuntimeUnavailable, StartFailed, View, Work
from essaim.agent.tasks.task_manager import Surroundings, TaskManager
from essaim.cluster.task import Task, TaskEndpoint
from essaim.cluster.wire import TaskReport

from .doubles import LOG, MOMENT, NODE, FakeRuntime, make_task, until, with_desired


class Bench:
    def __init__(self) -> None:
        self.runtime = FakeRuntime()
        self.reports: list[TaskReport] = []
        self.gone: list[str] = []
        self.slept: list[float] = []
        self.managers: list[TaskManager] = []

    async def _sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        await asyncio.sleep(0)

    def manage(self, task: Task, found: View | None = None) -> TaskManager:
        around = Surroundings(self.runtime, self.reports.append, self.gone.append, lambda: MOMENT, self._sleep, LOG)
        if found is not None:
            self.runtime.views.put(task.id, found)
        manager = TaskManager(Work(task, NODE), found, around)
        self.managers.append(manager)
        manager.start()
        return manager

    @property
    def states(self) -> list[str]:
        return [report.status.state for report in self.reports]

    async def reaches(self, state: str) -> TaskReport:
        report: TaskReport = await until(lambda: next((r for r in self.reports if r.status.state == state), None))
        return report


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    bench = Bench()
    yield bench
    for manager in bench.managers:
        await manager.close()


async def test_manager_reports_every_state_of_a_good_life_in_order(bench: Bench) -> None:
    manager = bench.manage(make_task())
    await bench.reaches("running")
    bench.runtime.views.put("t1", View(Phase.EXITED, exit_code=0))
    await bench.reaches("complete")
    assert bench.states == ["accepted", "preparing", "ready", "starting", "running", "complete"]
    messages = [report.status.message for report in bench.reports]
    assert messages == ["accepted", "preparing", "prepared", "starting", "started", "finished"]
    assert manager.state.label == "complete"
    assert bench.runtime.calls == ["prepare t1", "start t1"]


async def test_manager_holds_a_prepared_task_until_it_is_wanted(bench: Bench) -> None:
    task = make_task(desired="ready")
    manager = bench.manage(task)
    await bench.reaches("ready")
    assert bench.runtime.calls == ["prepare t1"]
    manager.update(Work(with_desired(task, "running"), NODE))
    await bench.reaches("running")


async def test_manager_asked_to_stop_while_preparing_discards_and_never_starts(bench: Bench) -> None:
    bench.runtime.gates["prepare"] = asyncio.Event()
    task = make_task()
    manager = bench.manage(task)
    await bench.reaches("preparing")
    await until(lambda: bench.runtime.calls)
    manager.update(Work(with_desired(task, "shutdown"), NODE))
    await bench.reaches("shutdown")
    assert bench.runtime.calls == ["prepare t1", "remove t1"]


async def test_manager_asked_to_stop_while_running_reports_the_exit_code(bench: Bench) -> None:
    task = make_task()
    manager = bench.manage(task)
    await bench.reaches("running")
    manager.update(Work(with_desired(task, "shutdown"), NODE))
    report = await bench.reaches("shutdown")
    assert report.status.container_status is not None
    assert report.status.container_status.exit_code == 0
    assert "stop t1" in bench.runtime.calls
    manager.update(Work(with_desired(task, "running"), NODE))
    assert manager.state.label == "shutdown"


async def test_manager_forgetting_a_running_task_stops_and_removes_it(bench: Bench) -> None:
    manager = bench.manage(make_task())
    await bench.reaches("running")
    manager.forget()
    await manager.finished()
    assert bench.runtime.calls[-2:] == ["stop t1", "remove t1"]
    assert bench.gone == ["t1"]


@pytest.mark.parametrize(
    ("method", "error", "state"),
    [("prepare", Rejected("No such image: x"), "rejected"), ("start", StartFailed("no such command"), "failed")],
)
async def test_manager_reports_why_a_task_could_not_run(
    bench: Bench, method: str, error: Exception, state: str
) -> None:
    bench.runtime.fail[method] = [error]
    bench.manage(make_task())
    report = await bench.reaches(state)
    assert report.status.err == str(error)


async def test_manager_waits_for_a_runtime_that_does_not_answer(bench: Bench) -> None:
    bench.runtime.fail["start"] = [RuntimeUnavailable("gone")] * 3
    bench.manage(make_task())
    await bench.reaches("running")
    assert bench.slept == [0.25, 0.5, 1.0]
    assert "failed" not in bench.states


async def test_manager_with_a_health_check_is_running_only_when_healthy(bench: Bench) -> None:
    bench.runtime.running = View(Phase.RUNNING, Health.STARTING, pid=7)
    bench.manage(make_task())
    await bench.reaches("starting")
    await until(lambda: "start t1" in bench.runtime.calls)
    # Whoever waits for the container, not for its health, is told.
    await until(lambda: bench.reports[-1].status.container_status is not None)
    report = bench.reports[-1].status
    assert (report.state, report.container_status and report.container_status.pid) == ("starting", 7)
    assert "running" not in bench.states
    bench.runtime.views.put("t1", View(Phase.RUNNING, Health.HEALTHY, pid=7))
    assert (await bench.reaches("running")).status.healthy is True


async def test_manager_stops_an_unhealthy_task_and_reports_it_failed(bench: Bench) -> None:
    bench.runtime.running = View(Phase.RUNNING, Health.HEALTHY, pid=7)
    bench.manage(make_task())
    await bench.reaches("running")
    bench.runtime.views.put("t1", View(Phase.RUNNING, Health.UNHEALTHY, pid=7))
    report = await bench.reaches("failed")
    assert report.status.err == "task: unhealthy container"
    assert "stop t1" in bench.runtime.calls
    # The gateways learn of it before the program is stopped.
    assert [r.status.healthy for r in bench.reports if r.status.state == "running"] == [True, False]


async def test_manager_reports_endpoints_that_come_out_anew(bench: Bench) -> None:
    bench.manage(make_task())
    await bench.reaches("running")
    endpoint = TaskEndpoint(protocol="tcp", target_port=80, address="10.0.0.1", port=30001)
    bench.runtime.views.put("t1", View(Phase.RUNNING, pid=7, endpoints=(endpoint,)))
    await until(lambda: bench.reports[-1].endpoints == [endpoint])
    assert bench.reports[-1].status.state == "running"


async def test_manager_names_what_was_left_out(bench: Bench) -> None:
    bench.runtime.left_out = ["Isolation is for Windows"]
    bench.manage(make_task())
    report = await bench.reaches("running")
    assert report.status.message == "started; left out: Isolation is for Windows"


Found = View | None
Check = Callable[[Bench], Any]


@pytest.mark.parametrize(
    ("known", "found", "calls", "states"),
    [
        ("running", View(Phase.RUNNING, pid=7), [], []),
        ("running", View(Phase.EXITED, exit_code=1), [], ["failed"]),
        ("running", None, [], ["failed"]),
        ("starting", View(Phase.RUNNING, pid=7), ["start t1"], ["running"]),
        ("ready", View(Phase.CREATED), ["prepare t1", "start t1"], ["starting", "running"]),
        ("ready", None, ["prepare t1", "start t1"], ["starting", "running"]),
        ("preparing", None, ["prepare t1", "start t1"], ["ready", "starting", "running"]),
        ("orphaned", View(Phase.RUNNING, pid=7), ["stop t1"], []),
        ("failed", None, [], []),
    ],
)
async def test_manager_after_a_restart_of_the_agent_goes_on_where_the_task_was(
    bench: Bench, known: str, found: Found, calls: list[str], states: list[str]
) -> None:
    bench.manage(make_task(state=known), found)
    for _ in range(30):
        await asyncio.sleep(0)
    assert bench.runtime.calls == calls
    assert bench.states == states


async def test_update_with_newer_work_keeps_the_task_going(bench: Bench) -> None:
    task = make_task()
    manager = bench.manage(task)
    await bench.reaches("running")
    manager.update(Work(msgspec.structs.replace(task, labels={"a": "b"}), NODE))
    assert manager.state.label == "running"


async def test_mistake_of_ours_fails_the_task_and_says_so(bench: Bench) -> None:
    bench.runtime.fail["start"] = [ZeroDivisionError("oops")]
    bench.manage(make_task())
    report = await bench.reaches("failed")
    assert report.status.err == "task: internal error of the agent: ZeroDivisionError('oops')"


async def test_progress_of_preparing_is_told(bench: Bench) -> None:
    bench.runtime.progress = ["pulling web:1: 1 of 3 layers"]
    bench.manage(make_task())
    await bench.reaches("running")
    told = [(r.status.state, r.status.message) for r in bench.reports]
    assert told[1:4] == [
        ("preparing", "preparing"),
        ("preparing", "pulling web:1: 1 of 3 layers"),
        ("ready", "prepared"),
    ]
