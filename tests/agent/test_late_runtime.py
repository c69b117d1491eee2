"""An agent whose runtime does not answer yet: its place in the cluster, what it says, and what waits."""

import asyncio
from dataclasses import dataclass, field

import pytest

from essaim.agent import agent as agent_module
from essaim.agent.runtime.interface import Phase, RuntimeUnavailable, View
from essaim.agent.session import description
from essaim.agent.session.description import RECOVER_PATIENCE
from essaim.cluster import wire
from essaim.cluster.node import NodeDescription

from .conftest import MakeAgent
from .doubles import FakeManager, FakeRuntime, make_task, until


@dataclass
class LateRuntime(FakeRuntime):
    is_there: bool = False
    tried: int = field(default=0)

    async def recover(self, node_id: str) -> dict[str, View]:
        self.tried += 1
        self._check()
        return await super().recover(node_id)

    async def describe(self) -> NodeDescription:
        self._check()
        return await super().describe()

    def _check(self) -> None:
        if not self.is_there:
            raise RuntimeUnavailable("the Docker Engine does not answer")


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(description, "DESCRIBE_AGAIN", 0.01)
    monkeypatch.setattr(agent_module, "RETRY_FIRST", 0.01)
    monkeypatch.setattr(agent_module, "RETRY_MOST", 0.02)


async def test_agent_tells_of_its_late_runtime_and_starts_what_waited_when_it_comes(
    make_agent: MakeAgent, manager: FakeManager
) -> None:
    runtime = LateRuntime(found={"old": View(Phase.RUNNING, pid=3)})
    agent = make_agent(runtime)
    await agent.start()
    await until(lambda: manager.hellos)
    (hello,) = manager.of_type(wire.Hello)
    assert hello.problem == "the Docker Engine does not answer"
    await manager.assign(make_task("t1"), make_task("old", state="running"), full=True)
    await until(lambda: runtime.tried > 3)
    assert manager.reports == {}
    assert runtime.calls == []
    runtime.is_there = True
    await until(lambda: manager.state("t1") == "running")
    assert runtime.calls == ["prepare t1", "start t1"], "what ran before is left as it is"
    await until(lambda: manager.of_type(wire.Describe)[-1:] and manager.of_type(wire.Describe)[-1].problem == "")


async def test_agent_that_never_learns_what_runs_gives_its_place_up_until_it_does(
    make_agent: MakeAgent, manager: FakeManager
) -> None:
    runtime, clock = LateRuntime(), [0.0]
    agent = make_agent(runtime, monotonic=lambda: clock[0])
    await agent.start()
    await until(lambda: agent.is_connected)
    clock[0] = RECOVER_PATIENCE + 1
    await until(lambda: not agent.is_connected)
    for _ in range(20):
        await asyncio.sleep(0.01)
    assert not agent.is_connected
    runtime.is_there = True
    await until(lambda: agent.is_connected)
