"""Steps that are carried through although the caller is cancelled: what is half started must not be lost sight of."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

Answer = TypeVar("Answer")


class Unfinished:
    """At most one step a task at a time."""

    def __init__(self) -> None:
        self._steps: dict[str, asyncio.Task[Any]] = {}

    async def carry(self, task_id: str, step: Coroutine[Any, Any, Answer]) -> Answer:
        """The step's answer. When the caller is cancelled the step goes on; `settled` waits for it."""
        running = asyncio.create_task(step, name=f"step of {task_id}")
        self._steps[task_id] = running
        running.add_done_callback(lambda done: self._done(task_id, done))
        return await asyncio.shield(running)

    async def settled(self, task_id: str) -> None:
        """Wait for the task's step, however it ends."""
        running = self._steps.get(task_id)
        if running is not None:
            await asyncio.wait([running])

    async def close(self) -> None:
        if self._steps:
            await asyncio.wait(list(self._steps.values()))

    def _done(self, task_id: str, done: asyncio.Task[Any]) -> None:
        if self._steps.get(task_id) is done:
            del self._steps[task_id]
        if not done.cancelled():
            # Who asked for it may be gone: an error is then nobody's.
            done.exception()
