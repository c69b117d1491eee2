"""The Engine's event stream: which container to look at again.

Whoever reconnects has missed events: `on_open` is called with every new stream, before its first event, so that
everything is looked at once more. No event is taken for the truth; each only says where to look.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable

import structlog

from essaim.agent.runtime.interface import RuntimeUnavailable

from .engine import Engine, EngineError, json_lines

RETRY_FIRST, RETRY_MOST = 0.2, 5.0
KINDS = ["start", "die", "health_status", "destroy", "pause", "unpause"]


class Events:
    """`label` limits the stream to the node's own containers; `on_event` gets a container's id and what happened."""

    def __init__(
        self,
        engine: Engine,
        label: str,
        *,
        on_open: Callable[[], Awaitable[None]],
        on_event: Callable[[str, str], Awaitable[None]],
        sleep: Callable[[float], Awaitable[None]],
        log: structlog.typing.FilteringBoundLogger,
    ) -> None:
        self._engine = engine
        self._filters = json.dumps({"type": ["container"], "event": KINDS, "label": [label]})
        self._on_open = on_open
        self._on_event = on_event
        self._sleep = sleep
        self._log = log
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name="engine events")

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    async def _run(self) -> None:
        pause = RETRY_FIRST
        while True:
            try:
                async with self._engine.stream("GET", "/events", params={"filters": self._filters}) as response:
                    await self._on_open()
                    pause = RETRY_FIRST
                    async for event in json_lines(response):
                        await self._on_event(event["Actor"]["ID"], event["Action"])
            except (RuntimeUnavailable, EngineError, json.JSONDecodeError) as error:
                self._log.warning("the Engine's events are lost; trying again", reason=str(error), in_seconds=pause)
            self._engine.forget_version()
            await self._sleep(pause)
            pause = min(pause * 2, RETRY_MOST)
