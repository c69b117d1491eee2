"""Framed log streams: 8 bytes of header (stream, length), then the payload, in pieces of any size.

Pure: bytes to lines.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import unquote

HEADER = 8
STDERR = 2


@dataclass(frozen=True, slots=True)
class Line:
    text: str
    is_error: bool


class Frames:
    """Cuts a stream into lines; keeps what is incomplete."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, chunk: bytes) -> Iterator[Line]:
        """The lines that this chunk completes."""
        self._buffer += chunk
        while len(self._buffer) >= HEADER:
            size = int.from_bytes(self._buffer[4:HEADER], "big")
            if len(self._buffer) < HEADER + size:
                return
            payload = bytes(self._buffer[HEADER : HEADER + size])
            is_error = self._buffer[0] == STDERR
            del self._buffer[: HEADER + size]
            for line in payload.decode(errors="replace").removesuffix("\n").split("\n"):
                yield Line(line, is_error)


def parse_details(text: str) -> dict[str, str]:
    """`a=1,b=2`, percent-encoded."""
    pairs = (item.partition("=") for item in text.split(",") if item)
    return {unquote(key): unquote(value) for key, _, value in pairs}
