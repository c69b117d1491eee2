"""Docker's HEALTHCHECK for tasks that are processes: the command runs beside the task, as the task's user, with its
environment and working directory."""

import asyncio
import contextlib
import os
import signal
from collections.abc import Awaitable, Callable

from essaim.agent.durations import HealthPlan
from essaim.agent.health import HealthJudge
from essaim.agent.runtime import Health

from .plan import ShimPlan


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
    """Whether the command ended with 0 in time; its whole process group is killed when it did not end."""
    try:
        process = await asyncio.create_subprocess_exec(
            *plan.argv,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
            env=task.env,
            cwd=task.cwd,
            start_new_session=True,
            user=task.uid,
            group=task.gid,
            extra_groups=None if task.uid is None else task.groups,
        )
    except OSError:
        return False
    try:
        async with asyncio.timeout(plan.timeout):
            return await process.wait() == 0
    except TimeoutError:
        return False
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
