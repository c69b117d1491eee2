"""A control loop, in two halves: a `Loop` that decides, and the one `Driver` that drives every loop.

The driver feeds store events to the loop, asks for a decision, writes the changes, and waits for the next event or
for the time that the loop asked for. Changes are written one by one checked (`atomic=False`): a rejected change means
that its object changed meanwhile, and the event of that change has the loop look again. Nothing but the store is
remembered, so a loop may be reset at any time: after a lost answer, a lagging watch, a change of leader.

A loop rests at least REST times as long as it took to decide, so that a burst of events on a big service (each one a
look at all of its tasks) cannot starve the event loop that heartbeats run on.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

from essaim.cluster.changes import Change
from essaim.cluster.errors import Unavailable
from essaim.cluster.store import Store
from essaim.cluster.watch import Event, Lagged
from essaim.cluster.writer import Writer

REST = 3
CHUNK = 500
"""Changes a proposal: about 10 ms to apply, on every manager."""
BACKLOG = 100_000
"""Events that a resting loop may fall behind by before it starts anew from the store."""
RETRY = 1.0
"""Seconds to wait after a write that was not answered."""


class Logger(Protocol):
    """The part of structlog's logger that is used here."""

    def debug(self, event: str, **values: Any) -> Any: ...
    def info(self, event: str, **values: Any) -> Any: ...
    def warning(self, event: str, **values: Any) -> Any: ...
    def error(self, event: str, **values: Any) -> Any: ...


@dataclass(slots=True)
class Decision:
    """`wake`: look again then, even without an event. `more`: there is more to decide at once. `notes` are logged."""

    changes: list[Change] = field(default_factory=list)
    wake: datetime | None = None
    more: bool = False
    notes: list[str] = field(default_factory=list)


class Loop(Protocol):
    """All methods are synchronous and do no I/O."""

    @property
    def name(self) -> str: ...

    @property
    def tables(self) -> tuple[str, ...]:
        """What it watches; every table that it writes is among them."""

    def reset(self, store: Store) -> None:
        """Forget everything and take the store as it is."""

    def observe(self, events: list[Event]) -> None: ...

    def decide(self, store: Store, now: datetime) -> Decision: ...


class Driver:
    """Runs one loop until it is stopped."""

    def __init__(
        self,
        loop: Loop,
        store: Store,
        writer: Writer,
        now: Callable[[], datetime],
        monotonic: Callable[[], float],
        log: Logger,
    ) -> None:
        self.loop = loop
        self._store = store
        self._writer = writer
        self._now = now
        self._monotonic = monotonic
        self._log = log

    async def run(self) -> None:
        """Never returns; cancel it. A bug in a loop is logged and the loop reset, so that the others live on."""
        with self._store.watch(*self.loop.tables, limit=BACKLOG) as watch:
            self.loop.reset(self._store)
            while True:
                try:
                    self._observe(watch.drain())
                    wait = await self._step()
                    await self._rest(wait, watch.next())
                except Lagged:
                    self.loop.reset(self._store)
                except Unavailable as error:
                    self._log.warning("the loop could not write; it tries again", loop=self.loop.name, error=str(error))
                    await self._start_over()
                except Exception as error:
                    self._log.error(
                        "the loop failed; it starts anew", loop=self.loop.name, error=repr(error), exc_info=True
                    )
                    await self._start_over()

    def _observe(self, events: list[Event]) -> None:
        if events:
            self.loop.observe(events)

    async def _start_over(self) -> None:
        await asyncio.sleep(RETRY)
        self.loop.reset(self._store)

    async def _step(self) -> float | None:
        """Decide and write once. Returns the seconds to wait for an event (None: as long as it takes)."""
        began = self._monotonic()
        now = self._now()
        decision = self.loop.decide(self._store, now)
        spent = self._monotonic() - began
        for note in decision.notes:
            self._log.info(note, loop=self.loop.name)
        for start in range(0, len(decision.changes), CHUNK):
            await self._writer.write(decision.changes[start : start + CHUNK], atomic=False)
        if spent > 0.002:
            await asyncio.sleep(spent * REST)
        if decision.more or decision.changes:
            return 0
        return None if decision.wake is None else max(0.0, (decision.wake - self._now()).total_seconds())

    async def _rest(self, wait: float | None, coming: Any) -> None:
        """Until the next event, at most `wait` seconds."""
        try:
            async with asyncio.timeout(wait):
                self._observe(await coming)
        except TimeoutError:
            return
