"""The output of a container as the Engine sends it: frames of `[stream,0,0,0,length]` and payload, or raw with a TTY.

Pure: no I/O, no clock; bytes in, lines out.
"""

from collections.abc import Iterator

from essaim.agent.runtime import LogLine

HEADER = 8


class LogFrames:
    """Cuts what arrives into lines. Every line begins with its time stamp (`timestamps=1`)."""

    def __init__(self, *, tty: bool) -> None:
        self._tty = tty
        self._buffer = b""
        self._rest = {1: b"", 2: b""}

    def feed(self, data: bytes) -> Iterator[LogLine]:
        if self._tty:
            yield from self._lines(1, data)
            return
        data, at = self._buffer + data, 0
        while len(data) - at >= HEADER:
            end = at + HEADER + int.from_bytes(data[at + 4 : at + HEADER], "big")
            if len(data) < end:
                break
            yield from self._lines(2 if data[at] == 2 else 1, data[at + HEADER : end])
            at = end
        self._buffer = data[at:]

    def end(self) -> Iterator[LogLine]:
        """What is left without a line feed."""
        for stream, rest in self._rest.items():
            if rest:
                yield _line(stream, rest)

    def _lines(self, stream: int, data: bytes) -> Iterator[LogLine]:
        *whole, self._rest[stream] = (self._rest[stream] + data).split(b"\n")
        for line in whole:
            yield _line(stream, line)


def _line(stream: int, line: bytes) -> LogLine:
    stamp, _, text = line.partition(b" ")
    return LogLine(stream, stamp.decode("ascii", "replace"), text.removesuffix(b"\r"))
