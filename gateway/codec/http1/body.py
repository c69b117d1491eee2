"""The body of a message whose head gives a length or says that it is chunked: where it ends among the bytes.

Pure: bytes in, positions out.
"""

from essaim.gateway.codec.message import CHUNKED

from .chunked import ChunkReader


class BodyReader:
    """`feed` may be called with any split of the bytes; `done` when the body is complete."""

    __slots__ = ("_chunks", "_left", "done")

    def __init__(self, length: int) -> None:
        """`length`: bytes, more than none; or CHUNKED."""
        self._left = length
        self._chunks = ChunkReader() if length == CHUNKED else None
        self.done = False

    def feed(self, data: bytes, start: int) -> int:
        """Follow `data` from `start`; returns the position after the last byte that belongs to the body.

        Raises Refused.
        """
        if self._chunks is not None:
            end = self._chunks.feed(data, start)
            self.done = self._chunks.done
            return end
        end = min(len(data), start + self._left)
        self._left -= end - start
        self.done = self._left == 0
        return end
