"""An agent with the process runtime: real processes, a manager at the end of a pipe."""

import asyncio
import json
import os
import signal
from typing import Any

from essaim.cluster import wire

from .conftest import MakeAgent, MakeRuntime
from .doubles import UNIQUE, FakeManager, ingress, is_running, make_task, until, with_desired


async def http(address: str, port: int, target: str) -> str:
    reader, writer = await asyncio.open_connection(address, port)
    writer.write(f"GET {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
    answer = (await reader.read()).decode()
    writer.close()
    return answer


async def answers(address: str, port: int, target: str) -> str:
    """The program may need a moment between its start and its listening."""
    async with asyncio.timeout(20):
        while True:
            try:
                return await http(address, port, target)
            except ConnectionRefusedError:
                await asyncio.sleep(0.01)


async def test_agent_given_whoami_reports_its_life_and_its_endpoint_answers(
    make_agent: MakeAgent, make_runtime: MakeRuntime, manager: FakeManager
) -> None:
    agent = make_agent(make_runtime())
    await agent.start()
    await until(lambda: manager.hellos)
    task = make_task(UNIQUE, image="essaim/whoami:latest", ports=[ingress(80)])
    await manager.assign(task)
    await until(lambda: manager.state(UNIQUE) == "running")
    report = manager.reports[UNIQUE]
    assert report.endpoints is not None
    endpoint = report.endpoints[0]
    assert (endpoint.address, endpoint.target_port, endpoint.protocol) == ("127.0.0.1", 80, "tcp")
    told = json.loads((await answers("127.0.0.1", endpoint.port, "/api")).partition("\r\n\r\n")[2])
    assert (told["Service"], told["Task"], told["Node"]) == ("web", f"web.1.{UNIQUE}", "host1")
    assert report.status.container_status is not None
    pid = report.status.container_status.pid
    assert pid is not None
    assert is_running(pid)
    await manager.assign(with_desired(task, "shutdown"))
    await until(lambda: manager.state(UNIQUE) == "shutdown")
    assert not is_running(pid)
    order = ["accepted", "preparing", "ready", "starting", "running", "shutdown"]
    assert [state for state in order if state in manager.states[UNIQUE]] == manager.states[UNIQUE]
    await manager.assign(removed=[UNIQUE])
    await agent.stop(keep_tasks=False)


async def test_agent_killed_and_restarted_finds_its_task_untouched(
    make_agent: MakeAgent, make_runtime: MakeRuntime, manager: FakeManager
) -> None:
    first = make_agent(make_runtime())
    await first.start()
    await until(lambda: manager.hellos == 1)
    task = make_task(UNIQUE, args=["sleep", "600"])
    await manager.assign(task)
    await until(lambda: manager.state(UNIQUE) == "running")
    pid = _pid(manager)
    await first.stop(keep_tasks=True)
    manager.full = wire.Assignments(full=True, tasks=[make_task(UNIQUE, args=["sleep", "600"], state="running")])
    second = make_agent(make_runtime())
    await second.start()
    await until(lambda: manager.hellos == 2)
    os.kill(pid, signal.SIGTERM)
    await until(lambda: manager.state(UNIQUE) == "failed")
    assert manager.reports[UNIQUE].status.err == "task: non-zero exit (143)"


def _pid(manager: FakeManager) -> int:
    status: Any = manager.reports[UNIQUE].status.container_status
    assert status.pid
    return int(status.pid)
