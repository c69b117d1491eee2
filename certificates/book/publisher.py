"""The leader's publisher: makes the certificate book out of the store whenever that changes, and hands it to the
dispatcher. What is wrong with a certificate is logged when it comes up; users see it in `essaim lb status` as well.

A book is made at most one part in REST of the time, and looked at again every LOOK seconds, since certificates age.
"""

import asyncio
import contextlib
from collections.abc import Callable
from datetime import datetime
from typing import Any, Protocol

import msgspec

from essaim.certificates.asked.survey import concern_certificates
from essaim.cluster.certificates import CertificateBook, CertificateProblem
from essaim.cluster.store import Store
from essaim.cluster.walls import Faults
from essaim.cluster.watch import Lagged

from .book import BookMaker

TABLES = ("services", "secrets", "configs", "resolvers", "certificates")
REST = 10
LOOK = 3600.0


class Gateways(Protocol):
    """The part of the dispatcher that is used here."""

    def publish_certificates(self, book: CertificateBook) -> None: ...

    async def certificates_served(self, version: int) -> None: ...

    def gateways_behind(self, version: int) -> list[str]: ...

    def gateways_following(self, version: int) -> int: ...


class Publisher:
    """`run` until cancelled. `now` is the wall clock in UTC, `monotonic` in seconds."""

    def __init__(
        self,
        store: Store,
        gateways: Gateways,
        now: Callable[[], datetime],
        monotonic: Callable[[], float],
        log: Any,
        faults: Faults | None = None,
    ) -> None:
        self._store = store
        self._gateways = gateways
        self._now = now
        self._monotonic = monotonic
        self._log = log
        self._maker = BookMaker(faults)
        self._book: CertificateBook | None = None
        self._said: set[tuple[str, str]] = set()

    async def run(self) -> None:
        with self._store.watch(*TABLES) as watch:
            while True:
                for _ in self._maker.read_ahead(self._store):
                    await asyncio.sleep(0)
                began = self._monotonic()
                self.publish()
                await asyncio.sleep((self._monotonic() - began) * REST)
                with contextlib.suppress(Lagged, TimeoutError):
                    async with asyncio.timeout(LOOK):
                        while not concern_certificates(await watch.next()):
                            pass

    def publish(self) -> None:
        """Make the book, and hand it on if anything in it is new."""
        book = self._maker.make(self._store, self._now().timestamp())
        before = self._book
        if before is not None and msgspec.structs.replace(before, version=book.version) == book:
            return
        self._book = book
        self._gateways.publish_certificates(book)
        self._say(book.problems)

    def _say(self, problems: list[CertificateProblem]) -> None:
        current = {(one.service, one.text) for one in problems}
        for service, text in sorted(current - self._said):
            self._log.warning("a certificate is missing or at risk", service=service, reason=text)
        self._said = current
