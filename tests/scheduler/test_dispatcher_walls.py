"""A bug in one loop of the dispatcher, or in taking in one message, ends nothing else."""

from collections.abc import AsyncIterator

import pytest

from essaim.cluster import wire
from tests.scheduler.agents import node, until
from tests.scheduler.test_dispatcher import Bench, messages


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    """As the dispatcher's own, but errors in the log are what is expected."""
    made = Bench()
    await made.put("nodes", node("n1"))
    await made.manager.dispatcher.start()
    yield made
    await made.stack.aclose()
    await made.manager.dispatcher.stop()


def _break(*_: object) -> None:
    raise ZeroDivisionError("a bug")


async def test_message_that_cannot_be_taken_in_ends_no_session(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    agent = await bench.agent("n1")
    await until(lambda: bool(messages(agent, wire.Welcome)))
    monkeypatch.setattr(bench.manager.dispatcher.told, "_spread", _break)
    await agent.send(wire.Findings(full=True, found={"t1@a:1": ""}))
    await until(lambda: bool(bench.manager.quiet.errors))
    before = len(messages(agent, wire.HeartbeatAck))
    await until(lambda: len(messages(agent, wire.HeartbeatAck)) > before + 3)
    assert "n1" in bench.manager.dispatcher.sessions.connected
    monkeypatch.undo()


async def test_loop_that_fails_begins_anew(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """The clock's: without it no silent node would ever be called down."""
    told = bench.manager.dispatcher.told
    with monkeypatch.context() as patch:
        patch.setattr(told, "release", _break)
        await until(lambda: bool(bench.manager.quiet.errors))
    looked: list[float] = []
    monkeypatch.setattr(told, "release", lambda: looked.append(0.0))
    await until(lambda: len(looked) >= 3)
