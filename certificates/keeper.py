"""The leader's part in certificates, for as long as this manager leads: publishing the book, and ordering by ACME."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Any

from essaim.certificates.acme.loop import Orderer
from essaim.certificates.book.publisher import Gateways, Publisher
from essaim.cluster.store import Store
from essaim.cluster.walls import Faults
from essaim.cluster.writer import Writer

RETRY = 1.0
"""Seconds after a failure that is a bug: it is logged, and what is left is done."""


class CertificateKeeper:
    """Use `start()` and `stop()`; it may be started again later. `faults` hears of services whose labels cannot be
    read."""

    def __init__(
        self,
        store: Store,
        writer: Writer,
        gateways: Gateways,
        *,
        now: Callable[[], datetime],
        monotonic: Callable[[], float],
        log: Any,
        faults: Faults | None = None,
    ) -> None:
        self._faults = faults
        self._store = store
        self._writer = writer
        self._gateways = gateways
        self._now = now
        self._monotonic = monotonic
        self._log = log
        self._running: list[asyncio.Task[None]] = []

    def start(self) -> None:
        if not self._running:
            self._running = [
                asyncio.create_task(self._again(self._publish), name="certificate book"),
                asyncio.create_task(self._again(self._order), name="certificate orders"),
            ]

    async def stop(self) -> None:
        """What is in progress is taken up by the next leader."""
        running, self._running = self._running, []
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)

    async def _publish(self) -> None:
        gateways, faults = self._gateways, self._faults
        await Publisher(self._store, gateways, self._now, self._monotonic, self._log, faults).run()

    async def _order(self) -> None:
        await Orderer(self._store, self._writer, self._gateways, self._now, self._monotonic, self._log).run()

    async def _again(self, work: Callable[[], Awaitable[None]]) -> None:
        while True:
            try:
                await work()
            except Exception as error:
                self._log.error("certificates are not looked after", error=repr(error), exc_info=True)
                await asyncio.sleep(RETRY)
