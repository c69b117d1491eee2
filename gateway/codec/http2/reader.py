"""A connection's bytes as frames, and header blocks as wholes, whatever the bytes' splits (RFC 9113, 4).

Between HEADERS and the end of its block nothing else may come (4.3), and a block has a size; so what waits here is one
frame and one block at most.

Pure: bytes in, frames out.
"""

from collections.abc import Iterator

from .faults import ConnectionFault, ErrorCode
from .frames import (
    CONTINUATION,
    DEFAULT_FRAME_SIZE,
    END_HEADERS,
    HEAD,
    HEAD_SIZE,
    HEADERS,
    LARGEST_WINDOW,
    PADDED,
    PUSH_PROMISE,
    WITH_PRIORITY,
    check_head,
    without_padding,
)

Frame = tuple[int, int, int, bytes]
"""Type, flags, stream, payload. A header block comes as one HEADERS frame with END_HEADERS, less its padding and
priority; all others as they came."""
SHORT_PIECE = 1024
"""A header block's pieces are expected to be longer, but for the last."""


class FrameReader:
    """`pieces`: how many short pieces of header blocks have come, which cost more than they bring."""

    __slots__ = ("_block", "_buffer", "_flags", "_size", "_stream", "max_block", "pieces")

    def __init__(self, max_block: int) -> None:
        """`max_block`: bytes of a header block as it is sent."""
        self._buffer = b""
        # The block that has begun: its stream and its HEADERS frame's flags.
        self._stream = self._flags = 0
        self._block: list[bytes] = []
        self._size = 0
        self.max_block = max_block
        self.pieces = 0

    @property
    def in_block(self) -> bool:
        """Whether a header block has begun and not ended."""
        return bool(self._stream)

    @property
    def waits(self) -> bool:
        """Whether a frame or a block is here in part."""
        return bool(self._stream or self._buffer)

    def feed(self, data: bytes) -> Iterator[Frame]:
        """Frames that are whole now. Raises ConnectionFault."""
        if self._buffer:
            data = self._buffer + data
            self._buffer = b""
        at, end = 0, len(data)
        while end - at >= HEAD_SIZE:
            upper, lower, kind, flags, stream = HEAD.unpack_from(data, at)
            size = upper << 8 | lower
            if size > DEFAULT_FRAME_SIZE:
                raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, f"a frame of {size} bytes (RFC 9113, 4.2)")
            stream &= LARGEST_WINDOW
            stop = at + HEAD_SIZE + size
            if stop > end:
                # What is wrong with a head is said before its payload is here.
                check_head(size, kind, stream)
                break
            if kind or not stream:
                check_head(size, kind, stream)
            payload = data[at + HEAD_SIZE : stop]
            at = stop
            if kind in (HEADERS, CONTINUATION) or self._stream:
                whole = self._headers(kind, flags, stream, payload)
                if whole is not None:
                    yield whole
            elif kind == PUSH_PROMISE:
                raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "a client cannot push (RFC 9113, 8.4)")
            else:
                yield kind, flags, stream, payload
        self._buffer = data[at:]

    def _headers(self, kind: int, flags: int, stream: int, payload: bytes) -> Frame | None:
        if self._stream:
            if kind != CONTINUATION or stream != self._stream:
                raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "a header block is interrupted (RFC 9113, 4.3)")
            if len(payload) < SHORT_PIECE and not flags & END_HEADERS:
                self.pieces += 1
        elif kind == CONTINUATION:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "CONTINUATION without HEADERS (RFC 9113, 6.10)")
        else:
            if flags & (PADDED | WITH_PRIORITY):
                payload = without_padding(HEADERS, flags, payload)
            if flags & END_HEADERS:
                return kind, flags, stream, payload
            self._stream, self._flags = stream, flags
        self._block.append(payload)
        self._size += len(payload)
        if self._size > self.max_block:
            raise ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, f"a header block of more than {self.max_block} bytes")
        if not flags & END_HEADERS:
            return None
        whole = (HEADERS, self._flags | END_HEADERS, stream, b"".join(self._block))
        self._stream, self._size, self._block = 0, 0, []
        return whole
