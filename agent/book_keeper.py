"""Hands the certificate book to this node's gateway, and tells the leader which version the gateway serves by.

The book holds private keys: it is kept in memory, never on disk. A daemon that starts again without a manager has none
until it finds one; the gateway's workers still hold theirs.
"""

import asyncio
from collections.abc import Awaitable, Callable

from essaim.cluster.certificate_parts import Assembly, WrongBase
from essaim.cluster.certificates import CertificateBook
from essaim.cluster.wire import Certificates, CertificatesApplied, FromAgent

from .session import SessionEnded


class BookKeeper:
    """`on_book` has the gateway serve by a book; None: there is no gateway, and books are only acknowledged."""

    def __init__(self, on_book: Callable[[CertificateBook], None] | None) -> None:
        self._on_book = on_book
        self._assembly = Assembly()
        self._version: int | None = None
        self._said: int | None = None
        self._arrived = asyncio.Event()

    def begin(self) -> None:
        """A new session begins: the manager sends the whole book first."""
        self._assembly = Assembly()
        self._version = self._said = None
        self._arrived.clear()

    def take(self, message: Certificates) -> None:
        """Raises SessionEnded for a change that does not fit: a new session begins with the whole."""
        try:
            book = self._assembly.take(message.part)
        except WrongBase as error:
            raise SessionEnded(str(error)) from error
        if book is None:
            return
        if self._on_book is not None:
            self._on_book(book)
        self._version = book.version
        self._arrived.set()

    async def run(self, send: Callable[[FromAgent], Awaitable[None]]) -> None:
        """Lives as long as a session."""
        while True:
            await self._arrived.wait()
            self._arrived.clear()
            if self._version is not None and self._version != self._said:
                self._said = self._version
                await send(CertificatesApplied(self._version))
