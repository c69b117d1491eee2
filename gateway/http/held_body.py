"""Bytes that a worker has to hold whole: bodies of requests that are shown to an auth server, and its answers.

All of a worker's are counted together, so that memory is bounded whatever clients and servers send; each has a limit of
its own besides.
"""

from essaim.gateway.codec.http1.chunked import ChunkReader
from essaim.gateway.codec.message import CHUNKED, Refused
from essaim.gateway.routing.call import BodyWanted

MAX_HELD = 32 << 20
"""Bytes, by worker."""


class Room:
    """What may be held in all, and how much of it is left."""

    def __init__(self, size: int = MAX_HELD) -> None:
        self.left = size


class Held:
    """A share of the room: grows by `take`, ends with `release`."""

    __slots__ = ("_room", "size")

    def __init__(self, room: Room) -> None:
        self._room = room
        self.size = 0

    def take(self, size: int) -> bool:
        """Whether there is room for so much more."""
        if size > self._room.left:
            return False
        self._room.left -= size
        self.size += size
        return True

    def release(self) -> None:
        self._room.left += self.size
        self.size = 0


class Gathering:
    """A request's body as it arrives, until it is complete or longer than it may be."""

    def __init__(self, wanted: BodyWanted, length: int, held: Held) -> None:
        self._wanted = wanted
        self._left = length
        self._held = held
        self._chunks = ChunkReader() if length == CHUNKED else None
        self._content = bytearray()

    def feed(self, data: bytes, start: int) -> bool:
        """Take the bytes from `start` on; whether no more are needed. Raises Refused."""
        if self._left > self._wanted.limit:
            self._wanted.settle(None)
            return True
        if not self._held.take(len(data) - start):
            raise Refused(503, "too much is held for others; try again later")
        if self._chunks is not None:
            self._chunks.feed(data, start)
            for first, last in self._chunks.payload:
                self._content += data[first:last]
            done = self._chunks.done
        else:
            piece = data[start : start + self._left]
            self._content += piece
            self._left -= len(piece)
            done = self._left == 0
        if len(self._content) > self._wanted.limit:
            self._wanted.settle(None)
            return True
        if done:
            self._wanted.settle(bytes(self._content))
        return done
