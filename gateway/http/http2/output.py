"""What a connection sends: frames that may go at once, and responses that wait for windows, by priority.

While several streams are open, what they write in one turn of the loop leaves in one piece: one record of TLS, one
packet (2 µs less a request with 32 streams behind TLS, where one alone would pay 0.6 for the turn).
"""

import asyncio
from itertools import islice
from typing import Protocol

from essaim.gateway.codec.http2.faults import ConnectionFault, ErrorCode
from essaim.gateway.codec.http2.frames import (
    CONTINUATION,
    DATA,
    DEFAULT_WINDOW,
    END_HEADERS,
    HEAD,
    HEADERS,
    LARGEST_WINDOW,
    RST_STREAM,
    frame,
)
from essaim.gateway.codec.http2.priority import Prioritised, in_order
from essaim.gateway.codec.http2.settings import Settings

QUANTUM = 16 << 10
"""Bytes of one response in a frame, before it may be another one's turn."""
GATHERED = 128 << 10
"""Bytes of DATA that are handed to the transport at once; it then says whether it takes more."""


class Sender(Prioritised, Protocol):
    """A stream with something to send."""

    @property
    def has_output(self) -> bool: ...

    def send_some(self, most: int) -> int:
        """Send so many bytes at most, and what needs no window; how many bytes were sent."""


class Output:
    """`window`: bytes of DATA that the client takes on the connection as a whole; `choked`: the transport takes no
    more for now; `many`: several streams are open."""

    __slots__ = ("_gathered", "_pieces", "_waiting", "choked", "many", "settings", "transport", "window")

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        # The client's.
        self.settings = Settings()
        self.window = DEFAULT_WINDOW
        self.choked = self.many = False
        self._pieces: list[bytes | memoryview] = []
        self._gathered = 0
        self._waiting: dict[int, Sender] = {}

    def write(self, data: bytes) -> None:
        if self._pieces:
            self._pieces.append(data)
        elif self.many:
            self._pieces.append(data)
            asyncio.get_running_loop().call_soon(self.send_written)
        elif self.transport is not None:
            self.transport.write(data)

    def send_written(self) -> None:
        """Hand over what was written."""
        pieces, self._pieces = self._pieces, []
        if pieces and self.transport is not None:
            self.transport.write(b"".join(pieces))

    def write_data(self, number: int, pieces: list[memoryview], size: int, flags: int) -> None:
        """A DATA frame of so many bytes, which are copied once on their way to the transport. `flush` hands it over."""
        self._pieces.append(HEAD.pack(size >> 8, size & 0xFF, DATA, flags, number))
        self._pieces += pieces
        self._gathered += size
        if self._gathered >= GATHERED:
            self._gathered = 0
            self.send_written()

    def reset(self, number: int, code: ErrorCode) -> None:
        self.write(frame(RST_STREAM, 0, number, int(code).to_bytes(4, "big")))

    def header_frames(self, number: int, block: bytes, flags: int) -> bytes:
        """HEADERS, and CONTINUATION where the block is longer than the client's frames may be."""
        size = self.settings.frame_size
        if len(block) <= size:
            return frame(HEADERS, flags | END_HEADERS, number, block)
        pieces = [block[at : at + size] for at in range(0, len(block), size)]
        frames = [frame(HEADERS, flags, number, pieces[0])]
        frames += [frame(CONTINUATION, 0, number, piece) for piece in islice(pieces, 1, len(pieces) - 1)]
        return b"".join([*frames, frame(CONTINUATION, END_HEADERS, number, pieces[-1])])

    def room(self) -> int:
        """Bytes that a stream may send at once, past nobody: none while others wait."""
        if self._waiting or self.choked:
            return -1
        return min(self.window, self.settings.frame_size)

    def wait(self, stream: Sender) -> None:
        """The stream has something to send that did not pass at once."""
        self._waiting[stream.id] = stream
        self.flush()

    def forget(self, stream: Sender) -> None:
        self._waiting.pop(stream.id, None)

    def clear(self) -> None:
        self._waiting.clear()

    def open_window(self, increment: int) -> None:
        """Raises ConnectionFault."""
        self.window += increment
        if self.window > LARGEST_WINDOW:
            raise ConnectionFault(ErrorCode.FLOW_CONTROL_ERROR, "a window over 2^31-1 (RFC 9113, 6.9.1)")

    def flush(self) -> None:
        """Send what waits, as far as the windows go, by priority."""
        turns = in_order(self._waiting.values())
        self._gathered = 0
        while turns and self._goes_on():
            # Those of lower urgency have their turn when nobody above them can send any more.
            urgency = turns[0].urgency
            level = [stream for stream in turns if stream.urgency == urgency]
            again = [stream for stream in level if self._send(stream)]
            turns = [*again, *turns[len(level) :]]
        self.send_written()

    def _goes_on(self) -> bool:
        return self.transport is not None and not self.choked

    def _send(self, stream: Sender) -> bool:
        """Let a stream send: a frame, or all that it may if only the whole is of use. Whether it has more, and may."""
        while self._goes_on() and stream.id in self._waiting:
            sent = stream.send_some(max(0, min(QUANTUM, self.settings.frame_size, self.window)))
            if not stream.has_output:
                self.forget(stream)
                return False
            if not sent:
                return False
            if stream.incremental:
                return True
        return False
