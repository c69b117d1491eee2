"""Waiting for tasks to end, for as long as the runtime answers: a node that leaves must not wait for a dead Engine.

A stop may rightly take minutes (`stop_grace_period`), so time alone says little: every LOOK_EVERY seconds the runtime
is asked for its description. One that does not answer MISSES times in a row is given up, and so is one that answers,
but has not stopped the tasks SLACK seconds after the longest grace.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection

from essaim.agent.runtime.interface import Runtime, RuntimeUnavailable
from essaim.cluster.swarm import SECOND
from essaim.cluster.task import Task

LOOK_EVERY = 2.0
ANSWER_WITHIN = 3.0
MISSES = 2
SLACK = 20.0
DEFAULT_GRACE = 10.0


def longest_grace(tasks: Collection[Task]) -> float:
    """Seconds between the stop signal and the kill, of the task that is given most."""
    graces = [DEFAULT_GRACE]
    for task in tasks:
        spec = task.spec.container_spec
        if spec is not None and spec.stop_grace_period:
            graces.append(spec.stop_grace_period / SECOND)
    return max(graces)


async def until_ended(
    ending: Collection[asyncio.Future[None]], runtime: Runtime, limit: float, monotonic: Callable[[], float]
) -> str:
    """Wait for all of them, `limit` seconds at most. Why they were given up; empty when all have ended."""
    left = set(ending)
    end = monotonic() + limit
    misses = 0
    while left:
        _, left = await asyncio.wait(left, timeout=LOOK_EVERY)
        if not left:
            break
        misses = 0 if await _answers(runtime.describe()) else misses + 1
        if misses >= MISSES:
            return "the runtime does not answer"
        if monotonic() >= end:
            return f"they had not ended after {limit:g}s"
    return ""


async def _answers(question: Awaitable[object]) -> bool:
    try:
        async with asyncio.timeout(ANSWER_WITHIN):
            await question
    except (RuntimeUnavailable, TimeoutError):
        return False
    return True
