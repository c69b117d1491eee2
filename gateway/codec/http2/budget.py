"""What a peer may do that costs more than it brings: one budget a connection, as HAProxy counts glitches.

A well-behaved client does some of each (it cancels, pings, changes its settings); a flood does little else. So each
has a price, time pays back, and a connection whose budget is used up ends with ENHANCE_YOUR_CALM. The size and the
rate are nghttp2's for resets, 1000 and 33 a second.

Pure: numbers and times in, a verdict out.
"""

from enum import Enum

POINTS = 1000.0
PER_SECOND = 33.0


class Glitch(Enum):
    """What costs, and in what words a client that does too much of it is told so."""

    CANCELLED = "requests that were reset before they were answered"  # CVE-2023-44487
    STREAM_FAULT = "streams that had to be reset"  # CVE-2025-8671
    REFUSED = "streams beyond those that are allowed at once"
    PING = "PING"
    SETTINGS = "SETTINGS"
    EMPTY_DATA = "DATA with nothing in it"
    PRIORITY = "priorities"
    SHORT_PIECE = "header blocks in short pieces"  # CVE-2024-24549 and its kind
    SMALL_WINDOW = "windows that are opened by next to nothing"
    LATE = "frames of streams that are over"
    UNKNOWN = "frames that nobody has agreed on"


PRICES = {
    Glitch.CANCELLED: 1.0,
    Glitch.STREAM_FAULT: 5.0,
    Glitch.REFUSED: 1.0,
    Glitch.PING: 1.0,
    Glitch.SETTINGS: 5.0,
    Glitch.EMPTY_DATA: 1.0,
    Glitch.PRIORITY: 0.2,
    Glitch.SHORT_PIECE: 2.0,
    Glitch.SMALL_WINDOW: 0.5,
    # A frame may cross our own on its way.
    Glitch.LATE: 0.05,
    Glitch.UNKNOWN: 0.1,
}


class Budget:
    """`spent`: points that are in use at `_since`."""

    __slots__ = ("_points", "_since", "_spent", "glitches")

    def __init__(self, now: float, points: float = POINTS) -> None:
        """`now`, and all times: seconds of one clock."""
        self._points = points
        self._since = now
        self._spent = 0.0
        self.glitches = 0

    def spend(self, glitch: Glitch, now: float, times: int = 1) -> bool:
        """Whether there was enough left."""
        self.glitches += times
        paid_back = (now - self._since) * PER_SECOND
        self._since = now
        self._spent = max(0.0, self._spent - paid_back) + PRICES[glitch] * times
        return self._spent <= self._points
