"""Docker's HEALTHCHECK for tasks that are processes: the command runs beside the task, as the task's user, with its
environment and working directory."""

import asyncio
import contextlib
import os
import signal
import subprocess
from collections.abc import Awaitable, Callable

from essaim.agent.runtime.durations import HealthPlan
from essaim.agent.runtime.health import HealthJudge
from essaim.agent.runtime.interface import Health

from .plan import ShimPlan
from .shim import TASK_UMASK
from .supervision import exited


async def check_forever(
    plan: HealthPlan,
    task: ShimPlan,
    publish: Callable[[Health], None],
    *,
    monotonic: Callable[[], float],
    sleep: Callable[[float], Awaitable[None]],
) -> None:
    """Run the check at its interval and publish the verdict whenever there is one."""
    judge = HealthJudge(plan, monotonic())
    while True:
        await sleep(judge.pause(monotonic()))
        publish(judge.take(await run_check(plan, task), monotonic()))


async def run_check(plan: HealthPlan, task: ShimPlan) -> bool:
    """Whether the command ended with 0 in time; its whole process group is killed afterwards."""
    starting = asyncio.ensure_future(asyncio.to_thread(_start, plan, task))
    try:
        process = await asyncio.shield(starting)
    except asyncio.CancelledError:
        # The thread cannot be stopped: take from it what it has started.
        await _finish(await starting)
        raise
    if process is None:
        return False
    try:
        async with asyncio.timeout(plan.timeout):
            await exited(process.pid)
        return await asyncio.to_thread(process.wait) == 0
    except TimeoutError:
        return False
    finally:
        await _finish(process)


def _start(plan: HealthPlan, task: ShimPlan) -> subprocess.Popen[bytes] | None:
    """None when it cannot be started. Rejected: asyncio's subprocesses, for which uvloop has no users and groups."""
    try:
        return subprocess.Popen(
            plan.argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=task.env,
            cwd=task.cwd,
            start_new_session=True,
            user=task.uid,
            group=task.gid,
            extra_groups=None if task.uid is None else task.groups,
            umask=TASK_UMASK,
        )
    except OSError:
        return None


async def _finish(process: subprocess.Popen[bytes] | None) -> None:
    if process is not None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await asyncio.to_thread(process.wait)
