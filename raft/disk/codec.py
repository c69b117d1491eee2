"""How a member's state is encoded on its disk: the bytes of each record and snapshot go through a `Codec`.

Given by who owns the member (essaim encrypts there); raft itself knows none but the plain one. What is sent to other
members is never encoded: each has a codec of its own.
"""

from dataclasses import dataclass
from typing import Protocol


class Codec(Protocol):
    """`open(seal(data)) == data`, also after a restart. Called from several threads."""

    def seal(self, data: bytes) -> bytes: ...

    def open(self, sealed: bytes) -> bytes:
        """Raises `ValueError`, whose message tells why the bytes cannot be read."""


class Plain:
    """As it is."""

    def seal(self, data: bytes) -> bytes:
        return data

    def open(self, sealed: bytes) -> bytes:
        return sealed


AS_IT_IS = Plain()


@dataclass(frozen=True)
class Codecs:
    """One for the log's records, one for the snapshots' data."""

    log: Codec = AS_IT_IS
    snapshots: Codec = AS_IT_IS


PLAIN = Codecs()
