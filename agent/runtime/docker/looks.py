"""Looking at containers: the Engine's word on each, taken whenever something says that it may be news.

- A look is wanted by an event, by a new event stream (events were missed), and by a comparison of all with the Engine's
  list now and then (an event may never come). It is repeated until it succeeds; containers do not wait for each other.
- Looks at one container follow each other, so that an older answer never replaces a newer one.
- An answer that is no answer changes nothing: only the Engine says that a container has ended, or is gone.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import structlog

from essaim.agent.runtime.interface import RuntimeUnavailable, View

from .container_view import differs
from .engine import LOOK_WITHIN, Engine, EngineError
from .holdings import Holdings

RETRY_FIRST, RETRY_MOST = 0.2, 5.0
COMPARE_EVERY = 15.0
"""Seconds between comparisons with the Engine's list."""


class Looks:
    """`take` gets what `inspect` says of a held container, `gone` the task whose container is no more. `list_all` has
    the entries of the node's own containers. `strays` gets those that are not held, by entry."""

    def __init__(
        self,
        engine: Engine,
        holdings: Holdings,
        *,
        take: Callable[[str, dict[str, Any]], Awaitable[View]],
        gone: Callable[[str], Awaitable[None]],
        list_all: Callable[[], Awaitable[list[dict[str, Any]]]],
        strays: Callable[[list[dict[str, Any]]], Awaitable[None]],
        sleep: Callable[[float], Awaitable[None]],
        log: structlog.typing.FilteringBoundLogger,
    ) -> None:
        self._engine = engine
        self._holdings = holdings
        self._take, self._gone = take, gone
        self._list_all, self._strays = list_all, strays
        self._sleep = sleep
        self._log = log
        self._locks: dict[str, asyncio.Lock] = {}
        self._pending: dict[str, asyncio.Task[None]] = {}
        self._again: set[str] = set()
        self._comparing: asyncio.Task[None] | None = None

    def start(self) -> None:
        if self._comparing is None:
            self._comparing = asyncio.create_task(self._compare_forever(), name="comparing containers")

    async def close(self) -> None:
        tasks = [*self._pending.values(), *([self._comparing] if self._comparing else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._comparing = None

    async def all_soon(self) -> None:
        """Everything is to be looked at again: events were missed."""
        for container_id in self._holdings.containers():
            self.soon(container_id)

    def soon(self, container_id: str) -> None:
        """Look at a held container in the background, until that succeeds."""
        if container_id in self._pending:
            self._again.add(container_id)
        elif self._holdings.task_of(container_id) is not None:
            task = asyncio.create_task(self._insist(container_id), name=f"look at {container_id[:12]}")
            self._pending[container_id] = task
            task.add_done_callback(lambda _: self._pending.pop(container_id, None))

    async def now(self, container_id: str) -> View | None:
        """The view of a held container, None when it is gone. Raises RuntimeUnavailable, also when the Engine refuses
        to say."""
        lock = self._locks.setdefault(container_id, asyncio.Lock())
        async with lock:
            task_id = self._holdings.task_of(container_id)
            if task_id is None:
                self._locks.pop(container_id, None)
                return None
            try:
                inspected = await self._engine.call("GET", f"/containers/{container_id}/json", timeout=LOOK_WITHIN)
            except EngineError as error:
                if error.status != 404:
                    raise RuntimeUnavailable(
                        f"the Docker Engine does not tell how the container is: {error}"
                    ) from error
                await self.found_gone(container_id)
                return None
            if self._holdings.task_of(container_id) != task_id:
                return None
            return await self._take(task_id, inspected)

    async def found_gone(self, container_id: str) -> None:
        """The Engine has said that there is no such container."""
        self._locks.pop(container_id, None)
        task_id = self._holdings.task_of(container_id)
        if task_id is not None:
            await self._gone(task_id)

    async def compare(self) -> None:
        """With the Engine's list: look at what differs. Raises RuntimeUnavailable."""
        listed = {entry["Id"]: entry for entry in await self._list_all()}
        for container_id in self._holdings.containers():
            entry, view = listed.get(container_id), self._holdings.view_of(container_id)
            if entry is None or view is None or differs(entry, view):
                self.soon(container_id)
        await self._strays([entry for entry in listed.values() if self._holdings.task_of(entry["Id"]) is None])

    async def _compare_forever(self) -> None:
        while True:
            await self._sleep(COMPARE_EVERY)
            try:
                await self.compare()
            except RuntimeUnavailable as problem:
                self._log.debug("containers could not be compared", reason=str(problem))

    async def _insist(self, container_id: str) -> None:
        pause = RETRY_FIRST
        while True:
            self._again.discard(container_id)
            try:
                await self.now(container_id)
            except RuntimeUnavailable as problem:
                self._log.warning("a container could not be looked at", reason=str(problem), in_seconds=pause)
                await self._sleep(pause)
                pause = min(pause * 2, RETRY_MOST)
                continue
            if container_id not in self._again:
                return
