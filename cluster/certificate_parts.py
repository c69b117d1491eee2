"""A change of the certificate book on its way to a gateway: what is new, in parts that fit into a message.

A book of thousands of certificates changes a little at a time (a challenge, a renewal); only certificates that are new
or different travel, what else it holds is small and goes whole. Rejected: all of it each time (5 KB a certificate).

Pure: books in, parts out, and back.
"""

from collections.abc import Iterator

import msgspec

from .certificates import Certificate, CertificateBook

PART = 4 << 20
"""Bytes of certificates in one part: far below the limit of a message, and short enough not to hold up others."""


class BookPart(msgspec.Struct, frozen=True):
    """From the book of version `base` (None: from an empty one) to `book.version`.

    `book` holds the certificates that are new or different, and all of the rest; `gone` names those that are no more.
    `is_last`: nothing follows; the certificates of the parts before are of the same change.
    """

    base: int | None
    book: CertificateBook
    gone: list[str] = []
    is_last: bool = True


class WrongBase(ValueError):
    """The part is no change of the book that is there."""


def parts_between(old: CertificateBook | None, new: CertificateBook, limit: int = PART) -> Iterator[BookPart]:
    """At least one part, even when only the version differs."""
    known = {one.name: one for one in old.certificates} if old is not None else {}
    there = {one.name for one in new.certificates}
    fresh = [one for one in new.certificates if known.get(one.name) != one]
    gone = [name for name in known if name not in there]
    base = old.version if old is not None else None
    part: list[Certificate] = []
    size = 0
    for one in fresh:
        weight = len(one.chain) + len(one.key)
        if part and size + weight > limit:
            yield BookPart(base, CertificateBook(version=new.version, certificates=part), is_last=False)
            part, size = [], 0
        part.append(one)
        size += weight
    yield BookPart(base, msgspec.structs.replace(new, certificates=part), gone)


class Assembly:
    """The gateway's side: parts in, a book whenever one is whole."""

    def __init__(self) -> None:
        self.book: CertificateBook | None = None
        self._waiting: list[Certificate] = []

    def take(self, part: BookPart) -> CertificateBook | None:
        """Raises WrongBase."""
        if part.base is None and not self._waiting:
            self.book = None
        if part.base != (self.book.version if self.book is not None else None):
            raise WrongBase(f"a change of certificate book {part.base} came to one that is not it")
        self._waiting += part.book.certificates
        if not part.is_last:
            return None
        kept = {one.name: one for one in self.book.certificates} if self.book is not None else {}
        for name in part.gone:
            kept.pop(name, None)
        kept.update((one.name, one) for one in self._waiting)
        self._waiting = []
        self.book = msgspec.structs.replace(part.book, certificates=sorted(kept.values(), key=lambda one: one.name))
        return self.book
