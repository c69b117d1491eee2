"""The output of a container as the Engine sends it: frames of `[stream,0,0,0,length]` and payload, or raw with a TTY.

An Engine cuts a line that is longer than PIECE, and puts a time stamp before each piece: a piece that goes on a line is
known by its frame (its place in the line, with a TTY), and its stamp is taken out.

Pure: no I/O, no clock; bytes in, lines out.
"""

import re
from collections.abc import Iterator

from essaim.agent.runtime.interface import LogLine

HEADER = 8
PIECE = 16 << 10
"""Bytes of output in a piece of a line, without its time stamp."""
LINE_MOST = 1 << 20
"""Bytes of a line that are kept until its end comes; what is longer is handed on in parts."""
STAMP = re.compile(rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}(?:Z|[+-]\d\d:\d\d) ")
STAMP_MOST = 36
"""Bytes of the longest time stamp with its space."""


class LogFrames:
    """Cuts what arrives into lines. Every line begins with its time stamp (`timestamps=1`)."""

    def __init__(self, *, tty: bool) -> None:
        self._tty = tty
        self._buffer = b""
        self._rest = {1: b"", 2: b""}

    def feed(self, data: bytes) -> Iterator[LogLine]:
        if self._tty:
            yield from self._raw(data)
            return
        data, at = self._buffer + data, 0
        while len(data) - at >= HEADER:
            end = at + HEADER + int.from_bytes(data[at + 4 : at + HEADER], "big")
            if len(data) < end:
                break
            stream, piece = 2 if data[at] == 2 else 1, data[at + HEADER : end]
            if self._rest[stream] and (stamp := STAMP.match(piece)):
                piece = piece[stamp.end() :]
            yield from self._lines(stream, piece)
            at = end
        self._buffer = data[at:]

    def end(self) -> Iterator[LogLine]:
        """What is left without a line feed."""
        if self._tty:
            yield from self._lines(1, self._buffer)
        for stream, rest in self._rest.items():
            if rest:
                yield _line(stream, rest)

    def _raw(self, data: bytes) -> Iterator[LogLine]:
        """Without frames: after each PIECE of a line that goes on a stamp is to be expected."""
        data = self._buffer + data
        while data:
            rest = self._rest[1]
            first = STAMP.match(rest or data)
            stamp = first.end() if first else 0
            length = len(rest) - stamp if rest else 0
            if rest and length and length % PIECE == 0:
                if len(data) < STAMP_MOST and b"\n" not in data:
                    break  # it may be the beginning of a stamp
                if within := STAMP.match(data):
                    data = data[within.end() :]
            room = (PIECE - length % PIECE) + (0 if rest else stamp)
            feed = data.find(b"\n", 0, room)
            end = feed + 1 if feed >= 0 else min(room, len(data))
            yield from self._lines(1, data[:end])
            data = data[end:]
        self._buffer = data

    def _lines(self, stream: int, data: bytes) -> Iterator[LogLine]:
        *whole, rest = (self._rest[stream] + data).split(b"\n")
        for line in whole:
            yield _line(stream, line)
        while len(rest) > LINE_MOST:
            stamp = STAMP.match(rest)
            begin = stamp[0] if stamp else b""
            # In whole pieces, so that the places of further stamps stay what they are.
            kept = len(begin) + (LINE_MOST - len(begin)) // PIECE * PIECE
            yield _line(stream, rest[:kept])
            rest = begin + rest[kept:]
        self._rest[stream] = rest


def _line(stream: int, line: bytes) -> LogLine:
    stamp, _, text = line.partition(b" ")
    return LogLine(stream, stamp.decode("ascii", "replace"), text.removesuffix(b"\r"))
