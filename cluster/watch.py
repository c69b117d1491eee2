"""Ordered watches on the store.

A watch is a bounded queue that the store fills and one reader drains. A reader that falls further behind than the
limit gets `Lagged` and must read the state anew: memory stays bounded, and no event is missed in silence.
"""

import asyncio
from collections import deque
from dataclasses import dataclass
from typing import Any, Literal


@dataclass(frozen=True, slots=True)
class Event:
    """One object's change. For `delete`, `object` is what it was."""

    kind: Literal["create", "update", "delete"]
    table: str
    object: Any
    old: Any


class Lagged(Exception):
    """The reader was too slow and events were dropped; read the state anew and go on from there."""


class Watch:
    """`async for batch in watch` yields non-empty lists of events; `with` registers and deregisters it."""

    def __init__(self, registry: "set[Watch]", tables: frozenset[str], limit: int) -> None:
        self._registry = registry
        self._tables = tables
        self._limit = limit
        self._events: deque[Event] = deque()
        self._lagged = False
        self._ready = asyncio.Event()

    def __enter__(self) -> "Watch":
        self._registry.add(self)
        return self

    def __exit__(self, *_: object) -> None:
        self._registry.discard(self)

    def publish(self, events: list[Event]) -> None:
        """Called by the store, after the change set was applied."""
        wanted = [e for e in events if not self._tables or e.table in self._tables]
        if not wanted:
            return
        if len(self._events) + len(wanted) > self._limit:
            self._events.clear()
            self._lagged = True
        if not self._lagged:
            self._events.extend(wanted)
        self._ready.set()

    def drain(self) -> list[Event]:
        """What has come since the last call, without waiting. Raises Lagged."""
        self._ready.clear()
        if self._lagged:
            self._lagged = False
            raise Lagged
        events = list(self._events)
        self._events.clear()
        return events

    async def next(self) -> list[Event]:
        """Wait for the next events. Raises Lagged."""
        while not (events := self.drain()):
            await self._ready.wait()
        return events

    def __aiter__(self) -> "Watch":
        return self

    async def __anext__(self) -> list[Event]:
        return await self.next()
