"""When a node gets a new certificate: at about half of the old one's life, or at once when it is asked to.

Each certificate has a moment of its own, by chance, so that nodes which joined together do not ask together. What
fails is tried again, more often the shorter the certificate's life is.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Any

from essaim.cluster.errors import ClusterError
from essaim.daemon.background import Background

EARLIEST, LATEST = 0.5, 0.6
"""Shares of the certificate's life between which it is renewed."""
LOOK = 600.0
"""Seconds between looks at the wall clock, which may have been put right meanwhile."""
RETRY_SHARE = 0.001
RETRY_LEAST, RETRY_MOST = 1.0, 300.0


def due(start: float, end: float, share: float) -> float:
    """When to renew a certificate that is good from `start` to `end`; `share` of 0 to 1 is chance."""
    return start + (end - start) * (EARLIEST + (LATEST - EARLIEST) * share)


def retry_after(start: float, end: float, attempt: int) -> float:
    """Seconds until the next attempt, after as many in a row as `attempt` that failed."""
    return min(RETRY_MOST, max(RETRY_LEAST, (end - start) * RETRY_SHARE), RETRY_LEAST * 2.0 ** min(attempt, 20))


class Renewer(Background):
    """Use `start()` and `stop()`. `validity` and `now` are in seconds since 1970, `renew` raises ClusterError."""

    name = "certificate renewal"

    def __init__(
        self,
        validity: Callable[[], tuple[float, float]],
        renew: Callable[[], Awaitable[None]],
        *,
        now: Callable[[], float],
        chance: Callable[[], float],
        log: Any,
    ) -> None:
        super().__init__()
        self._validity = validity
        self._renew = renew
        self._now = now
        self._chance = chance
        self._log = log
        self._asked = asyncio.Event()

    def ask(self) -> None:
        """Renew at once."""
        self._asked.set()

    async def _run(self) -> None:
        earliest, failed = 0.0, 0
        while True:
            await self._until(max(earliest, due(*self._validity(), self._chance())))
            self._asked.clear()
            try:
                await self._renew()
            except (ClusterError, OSError) as error:
                pause = retry_after(*self._validity(), failed)
                failed += 1
                self._log.warning(
                    "the node's certificate was not renewed; trying again", reason=str(error), seconds=pause
                )
                await self._until(self._now() + pause)
                self._asked.set()
            else:
                # A clock that is months off must not make it ask without a pause.
                earliest, failed = self._now() + RETRY_LEAST, 0
                self._log.info("this node has a new certificate")

    async def _until(self, moment: float) -> None:
        """Wait until the wall clock says so, or until somebody asks."""
        while not self._asked.is_set() and (left := moment - self._now()) > 0:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min(left, LOOK)):
                    await self._asked.wait()
