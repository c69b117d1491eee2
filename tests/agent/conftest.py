"""Fixtures of the agent's tests: a process runtime of its own, and agents that end with the test."""

import os
import random
import shutil
import time
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from essaim.agent.agent import Agent
from essaim.agent.runtime.interface import Runtime
from essaim.agent.runtime.process.runtime import ProcessRuntime
from tests.lab.fixtures import lab, pytest_runtest_makereport, shared_lab

from .doubles import LOG, MEMORY, NODE, FakeManager

__all__ = ["lab", "pytest_runtest_makereport", "shared_lab"]

MakeRuntime = Callable[[], ProcessRuntime]
MakeAgent = Callable[..., Agent]


@pytest.fixture(scope="session", autouse=True)
def _memory() -> Iterator[None]:
    MEMORY.mkdir(exist_ok=True)
    yield
    shutil.rmtree(MEMORY)


def make_process_runtime(state_dir: Path) -> ProcessRuntime:
    return ProcessRuntime(
        state_dir=state_dir,
        data_addr="127.0.0.1",
        environment=dict(os.environ),
        chance=random.random,
        monotonic=time.monotonic,
        log=LOG,
        hostname="host1",
        memory_dirs=[MEMORY],
    )


@pytest.fixture
async def make_runtime(tmp_path: Path) -> AsyncIterator[MakeRuntime]:
    """Process runtimes that share one state directory, as one daemon's lives do; all tasks are removed at the end."""
    made: list[ProcessRuntime] = []

    def make() -> ProcessRuntime:
        runtime = make_process_runtime(tmp_path / "node")
        made.append(runtime)
        return runtime

    yield make
    for runtime in made:
        await runtime.close()
    last = make()
    for task_id in await last.recover(NODE.id):
        await last.remove(task_id)
    await last.close()


@pytest.fixture
async def manager() -> AsyncIterator[FakeManager]:
    manager = FakeManager()
    yield manager
    await manager.close()


@pytest.fixture
async def make_agent(tmp_path: Path, manager: FakeManager) -> AsyncIterator[MakeAgent]:
    """Agents of node1 with the test's manager; stopped at the end, whatever happened."""
    made: list[Agent] = []

    def make(runtime: Runtime, **changes: Any) -> Agent:
        settings: dict[str, Any] = {
            "node_id": NODE.id,
            "dial": manager.dial,
            "state_dir": tmp_path / "node",
            "now": lambda: datetime.now(UTC),
            "monotonic": time.monotonic,
            "log": LOG,
            "chance": lambda: 0.0,
        }
        agent = Agent(runtime=runtime, **(settings | changes))
        made.append(agent)
        return agent

    yield make
    for agent in made:
        await agent.stop(keep_tasks=True)
