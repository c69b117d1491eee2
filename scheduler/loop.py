"""A control loop, in two halves: a `Loop` that decides, and the one `Driver` that drives every loop.

The driver feeds store events to the loop, asks for a decision, writes the changes, and waits for the next event or
for the time that the loop asked for. Changes are written one by one checked (`atomic=False`): a refused change means
that its object changed meanwhile, and the loop is shown the object again (`refusals`). Nothing but the store is
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

from .refusals import Refusals

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

    def look_again(self, when: datetime | None) -> None:
        """At the latest then."""
        if when is not None:
            self.wake = when if self.wake is None else min(self.wake, when)


class Loop(Protocol):
    """All methods are synchronous and do no I/O."""

    @property
    def name(self) -> str: ...

    @property
    def tables(self) -> tuple[str, ...]:
        """What it watches; every table that it writes is among them."""

    def reset(self, store: Store) -> None:
        """Forget everything and take the store as it is."""

    def observe(self, events: list[Event]) -> None:
        """What has changed. An update whose `old` is None is to be looked at whatever it was before."""

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
        self._refusals = Refusals()

    async def run(self) -> None:
        """Never returns; cancel it. A bug in a loop is logged and the loop reset, so that the others live on."""
        with self._store.watch(*self.loop.tables, limit=BACKLOG) as watch:
            is_fresh = False
            while True:
                try:
                    if not is_fresh:
                        self._refusals.clear()
                        self.loop.reset(self._store)
                        is_fresh = True
                    self._observe(watch.drain() + self._refusals.events(self._store))
                    wait = await self._step()
                    await self._rest(wait, watch.next())
                except Lagged:
                    is_fresh = False
                except Unavailable as error:
                    self._log.warning("the loop could not write; it tries again", loop=self.loop.name, error=str(error))
                    is_fresh = False
                    await asyncio.sleep(RETRY)
                except Exception as error:
                    self._log.error(
                        "the loop failed; it starts anew", loop=self.loop.name, error=repr(error), exc_info=True
                    )
                    is_fresh = False
                    await asyncio.sleep(RETRY)

    def _observe(self, events: list[Event]) -> None:
        if events:
            self.loop.observe(events)

    async def _step(self) -> float | None:
        """Decide and write once. Returns the seconds to wait for an event (None: as long as it takes)."""
        began = self._monotonic()
        now = self._now()
        decision = self.loop.decide(self._store, now)
        spent = self._monotonic() - began
        for note in decision.notes:
            self._log.info(note, loop=self.loop.name)
        for start in range(0, len(decision.changes), CHUNK):
            proposed = decision.changes[start : start + CHUNK]
            outcome = await self._writer.write(proposed, atomic=False)
            if outcome.rejected or self._refusals.has_counts:
                self._refusals.take(self._store, proposed, outcome.rejected)
        pause = max(spent * REST if spent > 0.002 else 0.0, self._refusals.pause)
        if pause:
            await asyncio.sleep(pause)
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
