"""Hands the certificate book to this node's gateway, and tells the leader which version the gateway serves by.

The book holds private keys: it is kept in memory, never on disk. A daemon that starts again without a manager has none
until it finds one; the gateway's workers still hold theirs.
"""

import asyncio
from collections.abc import Awaitable, Callable

from essaim.agent.session.session import SessionEnded
from essaim.cluster.certificate_parts import Assembly, WrongBase
from essaim.cluster.certificates import CertificateBook
from essaim.cluster.wire import Certificates, CertificatesApplied, FromAgent

OnBook = Callable[[CertificateBook], Awaitable[None]]
"""Has the gateway serve by a book at once; what it returns is done when every worker does."""


class BookKeeper:
    """`on_book` None: there is no gateway, and books are only acknowledged."""

    def __init__(self, on_book: OnBook | None) -> None:
        self._on_book = on_book
        self._assembly = Assembly()
        self._newest: CertificateBook | None = None
        self._applied: CertificateBook | None = None
        self._arrived = asyncio.Event()

    @property
    def newest(self) -> CertificateBook | None:
        """What is to be applied."""
        return self._newest

    def begin(self) -> None:
        """A new session begins: the manager sends the whole book first."""
        self._assembly = Assembly()
        self._newest = self._applied = None
        self._arrived.clear()

    def take(self, message: Certificates) -> None:
        """Raises SessionEnded for a change that does not fit: a new session begins with the whole."""
        try:
            book = self._assembly.take(message.part)
        except WrongBase as error:
            raise SessionEnded(str(error)) from error
        if book is not None:
            self._newest = book
            self._arrived.set()

    async def run(self, send: Callable[[FromAgent], Awaitable[None]]) -> None:
        """Apply and report; lives as long as a session. Only the newest of several books that wait is applied."""
        while True:
            if self._newest is self._applied:
                await self._arrived.wait()
            self._arrived.clear()
            book = self._newest
            if book is None:
                continue
            if self._on_book is not None:
                await self._on_book(book)
            await send(CertificatesApplied(book.version))
            self._applied = book
