"""Ending what may not end: each part of a daemon is given its time, and left behind when it takes longer."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")

CANCEL_SECONDS = 1.0
"""How long what was cancelled may still take."""


async def within(seconds: float, what: str, work: Coroutine[Any, Any, T], log: Any) -> T | None:
    """The work's answer; None, with a word in the log, when it takes longer or fails. Never waits for what hangs."""
    task = asyncio.create_task(work, name=f"ending {what}")
    try:
        await asyncio.wait([task], timeout=seconds)
    finally:
        if not task.done():
            task.cancel()
    if not task.done():
        await asyncio.wait([task], timeout=CANCEL_SECONDS)
        task.add_done_callback(_forget)
        log.warning("a part of the daemon did not end in time and is left behind", part=what, seconds=seconds)
        return None
    if task.cancelled():
        return None
    if (error := task.exception()) is not None:
        log.error("a part of the daemon failed as it ended", part=what, error=repr(error))
        return None
    return task.result()


def _forget(task: "asyncio.Task[Any]") -> None:
    """Nobody asks for its outcome any more."""
    if not task.cancelled():
        task.exception()
