"""A loop that runs beside its owner, from `start()` to `stop()`."""

import asyncio
import contextlib
from abc import ABC, abstractmethod


class Background(ABC):
    """`name` is the task's, for who looks at a hanging loop."""

    name = "background"

    def __init__(self) -> None:
        self._running: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._running = asyncio.create_task(self._run(), name=self.name)

    async def stop(self) -> None:
        """May be called more than once. A failure of the loop shows here."""
        running, self._running = self._running, None
        if running is not None:
            running.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await running

    @abstractmethod
    async def _run(self) -> None:
        """Never returns by itself."""
