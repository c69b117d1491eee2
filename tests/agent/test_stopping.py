"""An agent's end takes bounded time, whatever its runtime and its manager do, and says what it had to leave."""

import asyncio
from typing import Any

import msgspec
import pytest

from essaim.agent.runtime.interface import RuntimeUnavailable
from essaim.agent.tasks import clearing
from essaim.agent.tasks.clearing import longest_grace, until_ended
from essaim.cluster import wire
from essaim.cluster.node import NodeDescription
from essaim.cluster.task import Task

from .conftest import MakeAgent
from .doubles import FakeManager, FakeRuntime, make_task, until


class Dying(FakeRuntime):
    """`state`: "alive"; "silent", nothing is answered; "refusing", every call ends at once without an answer."""

    state = "alive"

    async def _alive(self) -> None:
        if self.state == "silent":
            await asyncio.Event().wait()
        if self.state == "refusing":
            raise RuntimeUnavailable("connection refused")

    async def _call(self, name: str, task_id: str) -> None:
        await self._alive()
        await super()._call(name, task_id)

    async def describe(self) -> NodeDescription:
        await self._alive()
        return await super().describe()


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clearing, "LOOK_EVERY", 0.05)
    monkeypatch.setattr(clearing, "ANSWER_WITHIN", 0.05)


async def with_a_task(runtime: FakeRuntime, make_agent: MakeAgent, manager: FakeManager) -> Any:
    agent = make_agent(runtime)
    await agent.start()
    await until(lambda: manager.hellos == 1 and agent.is_connected)
    await manager.assign(make_task())
    await until(lambda: manager.state("t1") == "running")
    return agent


@pytest.mark.parametrize("state", ["silent", "refusing"])
async def test_leave_with_a_dead_runtime_ends_and_names_what_is_left(
    make_agent: MakeAgent, manager: FakeManager, state: str
) -> None:
    runtime = Dying()
    agent = await with_a_task(runtime, make_agent, manager)
    runtime.state = state
    async with asyncio.timeout(5):
        left = await agent.stop(keep_tasks=False)
    assert len(left) == 1


async def test_leave_with_a_runtime_that_answers_stops_everything(make_agent: MakeAgent, manager: FakeManager) -> None:
    runtime = Dying()
    agent = await with_a_task(runtime, make_agent, manager)
    assert await agent.stop(keep_tasks=False) == []
    assert runtime.calls[-2:] == ["stop t1", "remove t1"]


async def test_stop_with_a_silent_runtime_ends_in_the_middle_of_a_step(
    make_agent: MakeAgent, manager: FakeManager
) -> None:
    runtime = Dying()
    agent = make_agent(runtime)
    await agent.start()
    await until(lambda: manager.hellos == 1 and agent.is_connected)
    runtime.state = "silent"
    await manager.assign(make_task())
    await until(lambda: manager.state("t1") == "preparing")
    async with asyncio.timeout(5):
        assert await agent.stop(keep_tasks=True) == []


async def test_stop_before_the_runtime_has_ever_answered_ends(make_agent: MakeAgent) -> None:
    class NeverThere(FakeRuntime):
        async def recover(self, node_id: str) -> Any:
            await asyncio.Event().wait()

    agent = make_agent(NeverThere())
    await agent.start()
    async with asyncio.timeout(5):
        assert await agent.stop(keep_tasks=True) == []


async def test_tasks_that_take_their_time_are_waited_for_while_the_runtime_answers() -> None:
    runtime, end = Dying(), asyncio.Event()
    times = iter([0.0, *[float(n) for n in range(100)]])

    async def ending() -> None:
        await end.wait()

    task = asyncio.ensure_future(ending())
    waiting = asyncio.ensure_future(until_ended([task], runtime, 1e9, lambda: next(times)))
    for _ in range(5):
        await asyncio.sleep(0.06)
    assert not waiting.done()
    end.set()
    assert await waiting == ""


async def test_tasks_that_never_end_are_given_up_after_the_limit() -> None:
    task: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    times = iter([0.0, 1.0, 99.0, 200.0])
    why = await until_ended([task], Dying(), 100.0, lambda: next(times))
    assert why == "they had not ended after 100s"


def test_longest_grace_is_that_of_the_task_that_has_most() -> None:
    def task(seconds: int | None) -> Task:
        made = make_task()
        assert made.spec.container_spec is not None
        grace = None if seconds is None else seconds * 10**9
        container = msgspec.structs.replace(made.spec.container_spec, stop_grace_period=grace)
        return msgspec.structs.replace(made, spec=msgspec.structs.replace(made.spec, container_spec=container))

    assert longest_grace([]) == 10
    assert longest_grace([task(None), task(3)]) == 10
    assert longest_grace([task(3), task(600)]) == 600


# -- goodbye -------------------------------------------------------------------------------------------------------


class Polite(FakeManager):
    """Of this release: it understands goodbye, and answers it if it is to."""

    answers = True

    async def _greet(self, end: Any) -> None:
        await end.send(wire.encode(wire.Welcome(self.heartbeat, self.node, ["m1:2377"], wire.SESSION)))
        await end.send(wire.encode(self.full))

    async def _serve(self, end: Any) -> None:
        watching = asyncio.create_task(self._answer(end))
        try:
            await super()._serve(end)
        finally:
            watching.cancel()

    async def _answer(self, end: Any) -> None:
        while not self.of_type(wire.Goodbye):
            await asyncio.sleep(0.01)
        if self.answers:
            await end.send(wire.encode(wire.Farewell()))


@pytest.mark.parametrize("answers", [True, False])
async def test_agent_that_stops_in_order_says_goodbye_and_waits_a_moment_for_the_answer(
    make_agent: MakeAgent, monkeypatch: pytest.MonkeyPatch, answers: bool
) -> None:
    monkeypatch.setattr("essaim.agent.agent.GOODBYE_SECONDS", 0.2)
    manager = Polite()
    manager.answers = answers
    agent = make_agent(FakeRuntime(), dial=manager.dial)
    await agent.start()
    await until(lambda: manager.hellos == 1 and agent.is_connected)
    async with asyncio.timeout(5):
        await agent.stop(keep_tasks=True)
    assert len(manager.of_type(wire.Goodbye)) == 1
    await manager.close()


async def test_agent_that_leaves_says_no_goodbye(make_agent: MakeAgent) -> None:
    manager = Polite()
    agent = make_agent(FakeRuntime(), dial=manager.dial)
    await agent.start()
    await until(lambda: manager.hellos == 1 and agent.is_connected)
    await agent.stop(keep_tasks=False)
    assert manager.of_type(wire.Goodbye) == []
    await manager.close()


async def test_agent_says_no_goodbye_to_a_manager_that_does_not_know_it(
    make_agent: MakeAgent, manager: FakeManager
) -> None:
    agent = make_agent(FakeRuntime())
    await agent.start()
    await until(lambda: manager.hellos == 1 and agent.is_connected)
    await agent.stop(keep_tasks=True)
    assert manager.of_type(wire.Goodbye) == []
