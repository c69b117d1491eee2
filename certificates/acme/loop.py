"""The leader's orderer: follows the store, and carries out what is due (`due.py`), several orders at a time.

Whatever is in progress is kept in the store, so it can be stopped at any moment and taken up by another leader.

AT_ONCE of a resolver's are begun together. One that has not ended after SLOW seconds (a server that does not answer, a
gateway that does not follow) gives its place to the next, so that no order waits behind one that is stuck; MOST is the
limit for all of them.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Any

from essaim.certificates.asked.survey import Survey, concern_certificates
from essaim.cluster.errors import ClusterError
from essaim.cluster.store import Store
from essaim.cluster.watch import Lagged, Watch
from essaim.cluster.writer import Writer

from .due import Plan, plan
from .order import Gone, Ordering, Served, Sleep

TABLES = ("services", "resolvers", "certificates")
AT_ONCE = 4
SLOW = 15.0
MOST = 64
REST = 10
"""It plans at most one part in this of the time."""
RETRY = 1.0
"""Seconds after a write that failed."""


class Places:
    """Who works for which resolver, and since when."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._taken: dict[str, tuple[str, float]] = {}

    def take(self, key: str, resolver_id: str) -> bool:
        """Whether there was a place."""
        now = self._monotonic()
        quick = sum(resolver == resolver_id and now < since + SLOW for resolver, since in self._taken.values())
        if quick >= AT_ONCE or len(self._taken) >= MOST:
            return False
        self._taken[key] = (resolver_id, now)
        return True

    def leave(self, key: str) -> None:
        self._taken.pop(key, None)


class Orderer:
    """`run` until cancelled. `now` is the wall clock in UTC, `monotonic` in seconds."""

    def __init__(
        self,
        store: Store,
        writer: Writer,
        gateways: Served,
        now: Callable[[], datetime],
        monotonic: Callable[[], float],
        log: Any,
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        self._store = store
        self._writer = writer
        self._now = now
        self._monotonic = monotonic
        self._log = log
        self._sleep = sleep
        self._survey = Survey()
        self._ordering = Ordering(store, writer, gateways, now, sleep, log)
        self._busy: dict[str, asyncio.Task[None]] = {}
        self._places = Places(monotonic)
        self._freed = asyncio.Event()

    async def run(self) -> None:
        try:
            with self._store.watch(*TABLES) as watch:
                while True:
                    began = self._monotonic()
                    wake = await self._step()
                    await asyncio.sleep((self._monotonic() - began) * REST)
                    await self._rest(watch, wake)
        finally:
            for task in self._busy.values():
                task.cancel()
            await asyncio.gather(*self._busy.values(), return_exceptions=True)

    async def _step(self) -> float | None:
        """Do what is due; when to look again (seconds since 1970)."""
        self._give_up()
        made = plan(self._store, self._survey.take(self._store), self._now().timestamp())
        if made.changes:
            try:
                outcome = await self._writer.write(made.changes, atomic=False)
                if outcome.rejected:  # something has changed meanwhile, perhaps before this looked
                    await self._sleep(RETRY)
                    return self._now().timestamp()
            except ClusterError as error:
                self._log.warning("certificates cannot be looked after yet", reason=str(error))
                await self._sleep(RETRY)
                return self._now().timestamp()
        self._start(made)
        return made.wake

    def _give_up(self) -> None:
        """Work on what was removed meanwhile."""
        for key, task in self._busy.items():
            if self._store.certificates.get(key) is None and self._store.resolvers.get(key) is None:
                task.cancel()

    def _start(self, made: Plan) -> None:
        for resolver_id in made.register:
            resolver = self._store.resolvers.get(resolver_id)
            if resolver is not None:
                self._do(resolver_id, resolver_id, self._ordering.register, resolver)
        for row_id in made.order:
            self._do(row_id, self._resolver_of(row_id), self._ordering.order, row_id)
        for row_id in made.ask:
            self._do(row_id, self._resolver_of(row_id), self._ordering.ask, row_id)

    def _resolver_of(self, row_id: str) -> str:
        row = self._store.certificates.get(row_id)
        return row.resolver_id if row is not None else ""

    def _do(self, key: str, resolver_id: str, work: Callable[[Any], Awaitable[None]], argument: Any) -> None:
        if key not in self._busy and self._places.take(key, resolver_id):
            self._busy[key] = asyncio.create_task(self._done(key, work, argument), name=f"certificate {key}")

    async def _done(self, key: str, work: Callable[[Any], Awaitable[None]], argument: Any) -> None:
        try:
            await work(argument)
        except Gone:
            pass
        except ClusterError as error:
            self._log.warning("a certificate's state could not be written", reason=str(error))
            await self._sleep(RETRY)
        except Exception as error:
            self._log.error("the work on a certificate failed", error=repr(error), exc_info=True)
            await self._give_way(key, error)
        finally:
            del self._busy[key]
            self._places.leave(key)
            self._freed.set()

    async def _give_way(self, key: str, error: Exception) -> None:
        """What nobody foresaw is a failure like any other: tried again later, so that others have their turn."""
        try:
            await self._ordering.broke(key, error)
        except ClusterError as unwritten:
            self._log.warning("a certificate's state could not be written", reason=str(unwritten))
            await self._sleep(RETRY)

    async def _rest(self, watch: Watch, wake: float | None) -> None:
        """Until the store changes, something is done, or the time has come."""
        left = None if wake is None else max(0.0, wake - self._now().timestamp())
        if self._busy:
            # A place may become free by time alone.
            left = SLOW if left is None else min(left, SLOW)
        waiting = [asyncio.ensure_future(self._changed(watch)), asyncio.ensure_future(self._freed.wait())]
        try:
            await asyncio.wait(waiting, timeout=left, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for one in waiting:
                one.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)
        self._freed.clear()

    async def _changed(self, watch: Watch) -> None:
        with contextlib.suppress(Lagged):
            while not concern_certificates(await watch.next()):
                pass
