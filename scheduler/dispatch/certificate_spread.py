"""How far the certificate book has come: which gateways serve by it, and what a session has yet to send.

The leader tells it each book; every session asks what is new for its node, and says what the node's gateway applied. An
answer to an ACME challenge has to be everywhere before the server is asked to look: `everywhere` waits for that.

A node whose gateway serves nothing gets a book without anything in it: keys go where they are needed.
"""

import asyncio
from collections.abc import Callable, Collection

from essaim.cluster import wire
from essaim.cluster.certificate_parts import parts_between
from essaim.cluster.certificates import CertificateBook

BookSince = Callable[[CertificateBook | None], tuple[CertificateBook, list[bytes]] | None]
"""From the book that a session sent last to the newest: that book, and the encoded messages; None: nothing is new."""


class BookSpread:
    def __init__(self) -> None:
        self._book: CertificateBook | None = None
        self._nothing = CertificateBook()
        self._applied: dict[str, int] = {}
        self._moved = asyncio.Event()
        # The last change that was encoded: most sessions need the same.
        self._encoded: tuple[CertificateBook | None, CertificateBook, list[bytes]] | None = None

    def publish(self, book: CertificateBook) -> None:
        self._book, self._nothing = book, CertificateBook(version=book.version)

    def since(self, told: CertificateBook | None, *, serves: bool = True) -> tuple[CertificateBook, list[bytes]] | None:
        if self._book is None:
            return None
        book = self._book if serves else self._nothing
        if book is told:
            return None
        if self._encoded is None or self._encoded[0] is not told or self._encoded[1] is not book:
            messages = [wire.encode(wire.Certificates(part)) for part in parts_between(told, book)]
            self._encoded = (told, book, messages)
        return book, self._encoded[2]

    def applied(self, node_id: str, version: int) -> None:
        self._applied[node_id] = version
        self._moved.set()

    def disconnect(self, node_id: str) -> None:
        """Its gateway may serve by what it has; it tells anew in its next session."""
        self._applied.pop(node_id, None)
        self._moved.set()

    def behind(self, version: int, nodes: Collection[str]) -> list[str]:
        """Those of the nodes whose gateways are not known to serve by that version or a later one, sorted."""
        return sorted(node for node in nodes if self._applied.get(node, -1) < version)

    async def everywhere(self, version: int, live: Callable[[], Collection[str]]) -> None:
        """Wait until every gateway that lives serves by that version; who lives may change meanwhile."""
        while self.behind(version, live()):
            self._moved.clear()
            await self._moved.wait()

    def look_again(self) -> None:
        """A node may have come or gone."""
        self._moved.set()
