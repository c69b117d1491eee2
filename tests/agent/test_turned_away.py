"""A task that the agent cannot read is rejected, and so replaced elsewhere: what the last run left of it ends first."""

import asyncio

import pytest

from essaim.agent import agent as agent_module
from essaim.agent.runtime.interface import Phase, RuntimeUnavailable, View
from essaim.cluster import wire

from .conftest import MakeAgent
from .doubles import FakeManager, FakeRuntime, make_task, until

BAD = make_task("bad", desired="levitating", state="running")


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agent_module, "RETRY_FIRST", 0.01)
    monkeypatch.setattr(agent_module, "RETRY_MOST", 0.02)


def of_last_run() -> FakeRuntime:
    return FakeRuntime(found={"bad": View(Phase.RUNNING, pid=3)})


async def test_agent_that_cannot_read_a_task_of_the_last_run_rejects_it_once_nothing_of_it_runs(
    make_agent: MakeAgent, manager: FakeManager
) -> None:
    runtime = of_last_run()
    runtime.gates["stop"] = asyncio.Event()
    runtime.fail["stop"] = [RuntimeUnavailable("the Engine is away"), ZeroDivisionError()]
    manager.full = wire.Assignments(full=True, tasks=[BAD, make_task("good")])
    agent = make_agent(runtime)
    await agent.start()
    await until(lambda: manager.state("good") == "running")
    assert manager.state("bad") == "", "it runs still"
    await until(lambda: "stop bad" in runtime.calls)
    runtime.gates["stop"].set()
    await until(lambda: manager.state("bad") == "rejected")
    assert [call for call in runtime.calls if call.endswith("bad")] == ["stop bad"] * 3 + ["remove bad"]
    assert "levitating" in (manager.reports["bad"].status.err or "")


async def test_agent_takes_no_later_version_on_of_a_task_that_it_turned_away(
    make_agent: MakeAgent, manager: FakeManager
) -> None:
    runtime = of_last_run()
    manager.full = wire.Assignments(full=True, tasks=[BAD])
    agent = make_agent(runtime)
    await agent.start()
    await until(lambda: manager.state("bad") == "rejected")
    await manager.assign(make_task("bad", state="running"), make_task("good"))
    await until(lambda: manager.state("good") == "running")
    assert not {"prepare bad", "start bad"} & set(runtime.calls), "it may run elsewhere by now"


async def test_agent_reports_nothing_of_a_turned_away_task_that_is_forgotten_meanwhile(
    make_agent: MakeAgent, manager: FakeManager
) -> None:
    runtime = of_last_run()
    runtime.gates["stop"] = asyncio.Event()
    manager.full = wire.Assignments(full=True, tasks=[BAD])
    agent = make_agent(runtime)
    await agent.start()
    await until(lambda: "stop bad" in runtime.calls)
    await manager.assign(make_task("good"), removed=["bad"])
    await until(lambda: manager.state("good") == "running")
    runtime.gates["stop"].set()
    await until(lambda: "remove bad" in runtime.calls)
    await manager.assign(make_task("later"))
    await until(lambda: manager.state("later") == "running")
    assert manager.state("bad") == ""


async def test_agent_whose_turned_away_task_is_forgotten_says_no_more_of_it_in_the_next_session(
    make_agent: MakeAgent, manager: FakeManager
) -> None:
    agent = make_agent(FakeRuntime())
    await agent.start()
    await until(lambda: agent.is_connected)
    await manager.assign(make_task("bad", desired="levitating"), make_task("good"))
    await until(lambda: manager.state("good") == "running" and manager.state("bad") == "rejected")
    await manager.assign(make_task("later"), removed=["bad"])
    await until(lambda: manager.state("later") == "running")
    seen = len(manager.of_type(wire.Reports))
    await manager.hang_up()
    await until(lambda: len(manager.of_type(wire.Reports)) > seen)
    again = {report.task_id for message in manager.of_type(wire.Reports)[seen:] for report in message.reports}
    assert "good" in again
    assert "bad" not in again


async def test_agent_that_cannot_read_a_newer_version_of_what_it_runs_leaves_it_as_it_is(
    make_agent: MakeAgent, manager: FakeManager
) -> None:
    runtime = FakeRuntime()
    agent = make_agent(runtime)
    await agent.start()
    await until(lambda: agent.is_connected)
    await manager.assign(make_task("bad"))
    await until(lambda: manager.state("bad") == "running")
    await manager.assign(BAD, make_task("good"))
    await until(lambda: manager.state("good") == "running")
    assert manager.state("bad") == "running"
    assert "stop bad" not in runtime.calls
