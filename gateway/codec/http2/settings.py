"""SETTINGS: what a peer says of itself, and what is said to it (RFC 9113, 6.5; RFC 8441, 3; RFC 9218, 2.1).

Pure: bytes in, values out.
"""

from collections.abc import Mapping
from struct import Struct

from .faults import ConnectionFault, ErrorCode
from .frames import DEFAULT_FRAME_SIZE, DEFAULT_WINDOW, LARGEST_FRAME_SIZE, LARGEST_WINDOW

(
    HEADER_TABLE_SIZE, ENABLE_PUSH, MAX_CONCURRENT_STREAMS, INITIAL_WINDOW_SIZE, MAX_FRAME_SIZE, MAX_HEADER_LIST_SIZE,
) = range(1, 7)  # fmt: skip
ENABLE_CONNECT_PROTOCOL = 8
NO_RFC7540_PRIORITIES = 9
_ENTRY = Struct("!HL")


class Settings:
    """A peer's. `window`: bytes that a stream may be sent at first; `frame_size`: bytes of a frame's payload at most;
    `streams`: how many at once, None without a limit; `greeted`: it has said anything yet."""

    __slots__ = ("connect", "frame_size", "greeted", "streams", "window")

    def __init__(self) -> None:
        self.window = DEFAULT_WINDOW
        self.frame_size = DEFAULT_FRAME_SIZE
        self.streams: int | None = None
        self.connect = self.greeted = False

    def read(self, payload: bytes, *, of_client: bool) -> int:
        """Take in a SETTINGS frame; how much further the streams' windows are than before. Raises ConnectionFault."""
        if len(payload) % _ENTRY.size:
            raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "SETTINGS of a wrong size (RFC 9113, 6.5)")
        before = self.window
        self.greeted = True
        for name, value in _ENTRY.iter_unpack(payload):
            if name == INITIAL_WINDOW_SIZE:
                if value > LARGEST_WINDOW:
                    raise ConnectionFault(ErrorCode.FLOW_CONTROL_ERROR, "SETTINGS_INITIAL_WINDOW_SIZE over 2^31-1")
                self.window = value
            elif name == MAX_FRAME_SIZE:
                if not DEFAULT_FRAME_SIZE <= value <= LARGEST_FRAME_SIZE:
                    raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "SETTINGS_MAX_FRAME_SIZE out of its range")
                self.frame_size = value
            elif name == MAX_CONCURRENT_STREAMS:
                self.streams = value
            elif name == ENABLE_PUSH and (value > 1 or (value and not of_client)):
                raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, f"SETTINGS_ENABLE_PUSH of {value}")
            elif name == ENABLE_CONNECT_PROTOCOL:
                if value > 1 or (self.connect and not value):
                    raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "SETTINGS_ENABLE_CONNECT_PROTOCOL (RFC 8441, 3)")
                self.connect = bool(value)
            elif name == NO_RFC7540_PRIORITIES and value > 1:
                raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "SETTINGS_NO_RFC7540_PRIORITIES (RFC 9218, 2.1)")
        return self.window - before


def payload(values: Mapping[int, int]) -> bytes:
    return b"".join(_ENTRY.pack(name, value) for name, value in values.items())
