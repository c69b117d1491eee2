"""HTTP/2's frames as bytes (RFC 9113, 4 and 6): their heads, their numbers, and the checks that need no state.

Pure: bytes in, values out.
"""

from struct import Struct

from .faults import ConnectionFault, ErrorCode

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
HEAD = Struct("!HBBBL")
"""A frame's head: the length's upper two bytes and its last one, type, flags, stream."""
HEAD_SIZE = 9
DEFAULT_FRAME_SIZE = 16 << 10
LARGEST_FRAME_SIZE = (1 << 24) - 1
DEFAULT_WINDOW = 65_535
LARGEST_WINDOW = (1 << 31) - 1

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)
PRIORITY_UPDATE = 0x10
NAMES = (
    "DATA", "HEADERS", "PRIORITY", "RST_STREAM", "SETTINGS", "PUSH_PROMISE", "PING", "GOAWAY", "WINDOW_UPDATE",
    "CONTINUATION",
)  # fmt: skip

ACK = END_STREAM = 0x1
END_HEADERS = 0x4
PADDED = 0x8
WITH_PRIORITY = 0x20

SIZES = {PRIORITY: 5, RST_STREAM: 4, PING: 8, WINDOW_UPDATE: 4}
"""Types whose payload has one size."""
OF_A_STREAM = frozenset({DATA, HEADERS, PRIORITY, RST_STREAM, PUSH_PROMISE, CONTINUATION})
OF_THE_CONNECTION = frozenset({SETTINGS, PING, GOAWAY, PRIORITY_UPDATE})


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    size = len(payload)
    return HEAD.pack(size >> 8, size & 0xFF, kind, flags, stream) + payload


def check_head(size: int, kind: int, stream: int) -> None:
    """A frame whose size or stream its type does not allow (RFC 9113, 6). Raises ConnectionFault.

    A wrong size of PRIORITY is an error of its stream alone, and left to the receiver.
    """
    if kind in OF_A_STREAM and not stream:
        raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, f"{NAMES[kind]} on stream 0 (RFC 9113, 6)")
    if kind in OF_THE_CONNECTION and stream:
        name = NAMES[kind] if kind < len(NAMES) else "PRIORITY_UPDATE"
        raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, f"{name} on a stream (RFC 9113, 6)")
    if kind != PRIORITY and SIZES.get(kind, size) != size:
        raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, f"{NAMES[kind]} of {size} bytes (RFC 9113, 6)")
    if kind == GOAWAY and size < 8:
        raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, f"GOAWAY of {size} bytes (RFC 9113, 6.8)")
    if kind == PRIORITY_UPDATE and size < 4:
        raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, f"PRIORITY_UPDATE of {size} bytes (RFC 9218, 7.1)")


def without_padding(kind: int, flags: int, payload: bytes) -> bytes:
    """The payload of DATA or HEADERS without padding and without HTTP/2's old priority. Raises ConnectionFault."""
    start, end = 0, len(payload)
    if flags & PADDED:
        if not payload:
            raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, f"{NAMES[kind]} without the length of its padding")
        start, end = 1, end - payload[0]
        if end < start:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, f"{NAMES[kind]} with more padding than payload")
    if kind == HEADERS and flags & WITH_PRIORITY:
        if end - start < 5:
            raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "HEADERS without room for its priority")
        start += 5
    return payload[start:end]
