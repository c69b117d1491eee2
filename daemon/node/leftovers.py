"""The end of what a node ran that has left its cluster, when its daemon could not see to that itself."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from essaim.agent.runtime.docker.engine import EngineError
from essaim.agent.runtime.docker.runtime import DockerRuntime
from essaim.agent.runtime.interface import Runtime, RuntimeUnavailable

RETRY_FIRST, RETRY_MOST = 0.5, 10.0


async def end_tasks_of(node_id: str, runtime: Runtime, sleep: Callable[[float], Awaitable[None]], log: Any) -> None:
    """Remove every task of the node, and its networks; a runtime that is away is waited for. Closes the runtime."""
    pause = RETRY_FIRST
    try:
        while True:
            try:
                for task_id in await runtime.recover(node_id):
                    await runtime.remove(task_id)
                if isinstance(runtime, DockerRuntime):
                    await runtime.overlays.clear()
            except (RuntimeUnavailable, EngineError, OSError) as problem:
                log.warning("tasks of a node that left are still there; trying again", reason=str(problem))
            else:
                return
            await sleep(pause)
            pause = min(pause * 2, RETRY_MOST)
    finally:
        await runtime.close()


class Leftovers:
    """Ends a leave that the last daemon had begun, in the background. `finished` is called when nothing runs any
    more."""

    def __init__(self, log: Any) -> None:
        self._log = log
        self._running: asyncio.Task[None] | None = None

    def start(self, node_id: str, runtime: Runtime, finished: Callable[[str], Awaitable[None]]) -> None:
        self._log.warning("this node was leaving its swarm when its daemon ended: that is finished now")
        self._running = asyncio.create_task(self._finish(node_id, runtime, finished), name="finish leaving")

    async def close(self) -> None:
        """What is not finished is the next daemon's."""
        if self._running is not None:
            self._running.cancel()
            await asyncio.gather(self._running, return_exceptions=True)

    async def _finish(self, node_id: str, runtime: Runtime, finished: Callable[[str], Awaitable[None]]) -> None:
        await end_tasks_of(node_id, runtime, asyncio.sleep, self._log)
        await finished(node_id)
