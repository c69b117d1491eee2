"""No orphans: what happens to process tasks when the agent or a supervisor is killed with -9."""

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncGenerator, Iterator
from pathlib import Path
from typing import Any

import pytest

from essaim.agent.runtime.interface import Phase, RuntimeUnavailable, UnknownTask, View, Work
from essaim.agent.runtime.process import runtime as process_runtime
from essaim.agent.runtime.process.supervision import Ids, read_ids

from .conftest import MakeRuntime
from .doubles import MEMORY, NODE, UNIQUE, is_running, make_task, until

STARTER = """
import asyncio, os, random, sys, time
from pathlib import Path
from essaim.agent.runtime.process.runtime import ProcessRuntime
from essaim.agent.runtime.interface import Work
from tests.agent.doubles import LOG, NODE, make_task

async def main():
    runtime = ProcessRuntime(state_dir=Path(sys.argv[1]), data_addr="127.0.0.1", environment=dict(os.environ),
                             chance=random.random, monotonic=time.monotonic, log=LOG,
                             memory_dirs=[Path(sys.argv[4])])
    await runtime.recover(NODE.id)
    await runtime.prepare(Work(make_task(sys.argv[3], command=["/bin/sh", "-c", sys.argv[2]]), NODE))
    await runtime.start(sys.argv[3])
    print("started", flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""
FAMILY = "setsid sleep 601 & sleep 602 & echo ready; wait"
"""A program with a child in its process group, and one that left it."""


@pytest.fixture
def starter(tmp_path: Path) -> Iterator["Starter"]:
    starter = Starter(tmp_path / "node")
    yield starter
    starter.kill()


class Starter:
    """An agent's process of its own, which starts one task."""

    def __init__(self, state_dir: Path) -> None:
        self.state_dir = state_dir
        self.process: subprocess.Popen[str] | None = None

    def run(self, script: str) -> Ids:
        root = Path(__file__).parents[2]
        self.process = subprocess.Popen(
            [sys.executable, "-c", STARTER, str(self.state_dir), script, UNIQUE, str(MEMORY)],
            stdout=subprocess.PIPE,
            text=True,
            cwd=root,
            env={**os.environ, "PYTHONPATH": f"{root}:{os.environ.get('PYTHONPATH', '')}"},
        )
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "started\n"
        ids = read_ids(self.state_dir / "tasks" / UNIQUE)
        assert ids is not None
        return ids

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.communicate()
            self.process = None


def family() -> list[int]:
    """All processes of the task, by the environment that they inherited."""
    found = []
    for name in filter(str.isdecimal, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            if f"ESSAIM_TASK_ID={UNIQUE}".encode() in Path(f"/proc/{name}/environ").read_bytes().split(b"\0"):
                found.append(int(name))
    return sorted(found)


async def view_of(views: AsyncGenerator[View, None], phase: Phase) -> View:
    async for view in views:
        if view.phase is phase:
            return view
    raise AssertionError


async def started(starter: Starter, script: str) -> Ids:
    ids = await asyncio.to_thread(starter.run, script)
    await until(lambda: len(family()) == 3)
    return ids


async def test_agent_killed_is_succeeded_by_one_that_keeps_the_same_process(
    starter: Starter, make_runtime: MakeRuntime
) -> None:
    ids = await started(starter, FAMILY)
    before = family()
    await asyncio.to_thread(starter.kill)
    runtime = make_runtime()
    found = await runtime.recover(NODE.id)
    assert found[UNIQUE].phase is Phase.RUNNING
    assert found[UNIQUE].pid == ids.pid
    assert family() == before
    await runtime.start(UNIQUE)
    assert family() == before
    await runtime.stop(UNIQUE)
    ended = await view_of(runtime.watch(UNIQUE), Phase.EXITED)
    assert ended.exit_code == 143
    assert family() == []


async def test_supervisor_killed_takes_the_whole_family_with_it(starter: Starter, make_runtime: MakeRuntime) -> None:
    ids = await started(starter, FAMILY)
    await asyncio.to_thread(starter.kill)
    runtime = make_runtime()
    await runtime.recover(NODE.id)
    os.kill(ids.shim_pid, signal.SIGKILL)
    ended = await view_of(runtime.watch(UNIQUE), Phase.EXITED)
    assert ended.error == "its supervisor was killed"
    await until(lambda: family() == [])


async def test_supervisor_killed_while_no_agent_lives_leaves_nothing_after_the_next_start(
    starter: Starter, make_runtime: MakeRuntime
) -> None:
    ids = await started(starter, FAMILY)
    await asyncio.to_thread(starter.kill)
    os.kill(ids.shim_pid, signal.SIGKILL)
    await until(lambda: not is_running(ids.shim_pid))
    found = await make_runtime().recover(NODE.id)
    assert found[UNIQUE].phase is Phase.EXITED
    await until(lambda: family() == [])


async def test_task_that_ended_while_no_agent_lived_keeps_its_exit_code(
    starter: Starter, make_runtime: MakeRuntime
) -> None:
    ids = await asyncio.to_thread(starter.run, "exec sleep 603")
    await asyncio.to_thread(starter.kill)
    os.kill(ids.pid, signal.SIGUSR1)
    await until(lambda: (starter.state_dir / f"tasks/{UNIQUE}/exit.json").exists())
    found = await make_runtime().recover(NODE.id)
    assert found[UNIQUE].exit_code == 128 + signal.SIGUSR1


async def test_main_process_ending_ends_what_it_has_started(make_runtime: MakeRuntime) -> None:
    runtime = make_runtime()
    script = "setsid sleep 604 & sleep 605 & exit 3"
    await runtime.prepare(Work(make_task(UNIQUE, command=["/bin/sh", "-c", script]), NODE))
    await runtime.start(UNIQUE)
    ended = await view_of(runtime.watch(UNIQUE), Phase.EXITED)
    assert ended.exit_code == 3
    assert family() == []


async def test_program_that_ignores_its_stop_signal_is_killed_after_the_grace_period(
    make_runtime: MakeRuntime,
) -> None:
    runtime = make_runtime()
    script = "trap '' INT; echo ready; while :; do sleep 0.05; done"
    task = make_task(UNIQUE, command=["/bin/sh", "-c", script], stop_signal="SIGINT", stop_grace_period=300_000_000)
    await runtime.prepare(Work(task, NODE))
    await runtime.start(UNIQUE)
    log = runtime_log(make_runtime, UNIQUE)
    await until(lambda: b"ready" in log.read_bytes())
    await runtime.stop(UNIQUE)
    assert (await view_of(runtime.watch(UNIQUE), Phase.EXITED)).exit_code == 137


def runtime_log(make_runtime: MakeRuntime, task_id: str) -> Path:
    return make_runtime().directory_of(task_id) / "log" / "current"


async def test_removed_task_is_killed_and_forgotten(make_runtime: MakeRuntime) -> None:
    runtime = make_runtime()
    await runtime.prepare(Work(make_task(UNIQUE, command=["/bin/sh", "-c", FAMILY]), NODE))
    await runtime.start(UNIQUE)
    await until(lambda: len(family()) == 3)
    await runtime.remove(UNIQUE)
    assert family() == []
    assert not runtime.directory_of(UNIQUE).exists()
    with pytest.raises(UnknownTask):
        await anext(runtime.watch(UNIQUE))


STOPPED_EARLY = """
import os, signal, sys
from essaim.agent.runtime.process import shim

write_json = shim.write_json

def stopped(directory, name, value):
    write_json(directory, name, value)
    if name == "state.json":
        os.kill(os.getpid(), signal.SIGTERM)

shim.write_json = stopped
shim.main(sys.argv[1], int(sys.argv[2]))
"""


def test_supervisor_that_is_stopped_before_it_watches_stops_the_task_in_order(tmp_path: Path) -> None:
    """An agent may stop a task as soon as it knows that it runs."""
    plan = {
        "argv": ["sh", "-c", "trap 'exit 3' TERM; while :; do sleep 0.01; done"],
        "env": dict(os.environ), "cwd": str(tmp_path), "uid": None, "rlimits": {}, "oom_score_adj": None, "cpus": [],
        "no_new_privileges": False, "stop_signal": int(signal.SIGTERM), "stop_grace": 20, "log_max_bytes": 1000,
        "log_max_files": 1,
    }  # fmt: skip
    (tmp_path / "plan.json").write_text(json.dumps(plan))
    (tmp_path / "log").mkdir()
    ready, theirs = os.pipe()
    command = [sys.executable, "-c", STOPPED_EARLY, str(tmp_path), str(theirs)]
    done = subprocess.run(command, pass_fds=[theirs], timeout=30, check=False)
    for fd in (ready, theirs):
        os.close(fd)
    assert done.returncode == 0
    # By its own handler, or by the signal itself if it came before that.
    assert json.loads((tmp_path / "exit.json").read_text())["code"] in (3, 143)


async def test_task_whose_processes_do_not_die_is_not_called_ended(
    make_runtime: MakeRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime = make_runtime()
    task = make_task(UNIQUE, command=["/bin/sh", "-c", "sleep 1000"])
    await runtime.prepare(Work(task, NODE))
    await runtime.start(UNIQUE)
    real, left = process_runtime.kill_all_of, [4242]

    def kill_all_of(task_id: str, ids: Any) -> list[int]:
        real(task_id, ids)
        return list(left)

    monkeypatch.setattr(process_runtime, "kill_all_of", kill_all_of)
    monkeypatch.setattr(process_runtime, "KILL_AGAIN", 0.01)
    with pytest.raises(RuntimeUnavailable, match="cannot be killed: 4242"):
        await runtime.remove(UNIQUE)
    assert runtime.directory_of(UNIQUE).exists()
    async with contextlib.aclosing(runtime.watch(UNIQUE)) as views:
        assert (await anext(views)).phase is Phase.RUNNING
    left.clear()
    await runtime.remove(UNIQUE)
    assert not runtime.directory_of(UNIQUE).exists()
