"""The chunked coding, followed while its bytes pass by (RFC 9112, 7.1).

The bytes themselves are forwarded as they are, so the reader is as strict as the strictest backend could be: sizes in
hexadecimal without sign or blank, CRLF and nothing else at line ends, bounded extensions and trailers. A message that
breaks a rule is refused, and nothing after the broken rule is forwarded.

Pure: bytes in, positions out.
"""

import re

from essaim.gateway.codec.message import Refused

from .head import FIELD

SIZE_LINE = re.compile(rb"([0-9A-Fa-f]{1,15})(?:[\t ]*;[\t -~\x80-\xff]*)?\r\n")
PADDED_LINE = re.compile(rb"([0-9A-Fa-f]{1,15})[\t ]*(?:;[\t -~\x80-\xff]*)?\r\n")
"""Of a replica: old servers pad the size with blanks."""
MAX_LINE = 4096
MAX_TRAILERS = 16384
FORBIDDEN_TRAILERS = frozenset(
    {b"content-length", b"transfer-encoding", b"host", b"connection", b"trailer", b"content-encoding", b"content-type"}
)


class ChunkReader:
    """Finds the end of a chunked body. `feed` may be called with any split of the bytes."""

    __slots__ = ("_line", "_remaining", "_state", "_status", "_trailers", "done", "payload", "trailers")

    def __init__(self, status: int = 400) -> None:
        self._status = status
        self._line = b""
        self._remaining = 0
        # size: a size line; data: `_remaining` bytes and their CRLF; trailer: lines until the empty one.
        self._state = "size"
        self._trailers = 0
        self.done = False
        # Ranges of the last fed bytes that are content (for HTTP/1.0 clients, who know no chunks).
        self.payload: list[tuple[int, int]] = []
        # The trailer section's lines, each ended by CRLF; all of them once `done`.
        self.trailers = b""

    def feed(self, data: bytes, start: int = 0) -> int:
        """Follow `data` from `start`; returns the position after the last byte that belongs to the body.

        Sets `done` when the body is complete. Raises Refused.
        """
        self.payload = []
        position, end = start, len(data)
        while position < end and not self.done:
            if self._state == "data":
                position = self._content(data, position, end)
            else:
                position = self._take_line(data, position, end)
        return position

    def _content(self, data: bytes, position: int, end: int) -> int:
        taken = min(self._remaining, end - position)
        if taken:
            self.payload.append((position, position + taken))
            self._remaining -= taken
            position += taken
        if self._remaining == 0:
            self._state = "crlf"
        return position

    def _take_line(self, data: bytes, position: int, end: int) -> int:
        """Collect up to a line feed (across calls if need be) and act on the whole line."""
        feed = data.find(b"\n", position, min(end, position + MAX_LINE))
        if feed < 0:
            self._line += data[position:end]
            if len(self._line) > (2 if self._state == "crlf" else MAX_LINE):
                raise Refused(self._status, "a chunk's line is too long or not ended by CRLF (RFC 9112, 7.1)")
            if self._state == "crlf" and not b"\r\n".startswith(self._line):
                raise Refused(self._status, "a chunk's content is not followed by CRLF (RFC 9112, 7.1)")
            return end
        line = self._line + data[position : feed + 1] if self._line else data[position : feed + 1]
        self._line = b""
        if self._state == "size":
            self._size(line)
        elif self._state == "crlf":
            if line != b"\r\n":
                raise Refused(self._status, "a chunk's content is not followed by CRLF (RFC 9112, 7.1)")
            self._state = "size"
        else:
            self._trailer(line)
        return feed + 1

    def _size(self, line: bytes) -> None:
        found = (SIZE_LINE if self._status == 400 else PADDED_LINE).fullmatch(line)
        if found is None:
            raise Refused(self._status, "a chunk's size line is not valid (RFC 9112, 7.1)")
        self._remaining = int(found[1], 16)
        self._state = "data" if self._remaining else "trailer"

    def _trailer(self, line: bytes) -> None:
        self._trailers += len(line)
        if self._trailers > MAX_TRAILERS:
            raise Refused(431 if self._status == 400 else self._status, "the trailer section is too long")
        if line == b"\r\n":
            self.done = True
            return
        found = FIELD.fullmatch(line[:-2]) if line.endswith(b"\r\n") else None
        if found is None or found[1].lower() in FORBIDDEN_TRAILERS:
            raise Refused(self._status, "a trailer field is not valid (RFC 9110, 6.5)")
        self.trailers += line
