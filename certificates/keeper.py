"""The leader's part in certificates, for as long as this manager leads: publishing the book."""

import asyncio
from collections.abc import Callable
from datetime import datetime
from typing import Any

from essaim.cluster.store import Store

from .publisher import Gateways, Publisher

RETRY = 1.0
"""Seconds after a failure that is a bug: it is logged, and what is left is done."""


class CertificateKeeper:
    """Use `start()` and `stop()`; it may be started again later."""

    def __init__(
        self,
        store: Store,
        gateways: Gateways,
        *,
        now: Callable[[], datetime],
        monotonic: Callable[[], float],
        log: Any,
    ) -> None:
        self._store = store
        self._gateways = gateways
        self._now = now
        self._monotonic = monotonic
        self._log = log
        self._running: list[asyncio.Task[None]] = []

    def start(self) -> None:
        if not self._running:
            self._running = [asyncio.create_task(self._publish(), name="certificate book")]

    async def stop(self) -> None:
        running, self._running = self._running, []
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)

    async def _publish(self) -> None:
        while True:
            publisher = Publisher(self._store, self._gateways, self._now, self._monotonic, self._log)
            try:
                await publisher.run()
            except Exception as error:
                self._log.error("the certificate book could not be made", error=repr(error), exc_info=True)
                await asyncio.sleep(RETRY)
