"""The streams of a connection: those that are open, what is remembered of those that are not, and the window that they
share on the way in."""

from typing import Protocol

from essaim.gateway.codec.http2.faults import ConnectionFault, ErrorCode
from essaim.gateway.codec.http2.frames import LARGEST_WINDOW, WINDOW_UPDATE, frame
from essaim.gateway.runtime.deadlines import Deadlines

from .output import Output
from .stream import Stream

CONNECTION_WINDOW = 1 << 20
"""Bytes of requests' bodies on one connection that replicas have not taken yet."""
REMEMBERED = 256
"""Streams that we have reset: what the client had sent before it knew is no fault of the client's."""


class Connection(Protocol):
    """Whose streams they are."""

    idle_timeout: float

    def streams_ended(self) -> None:
        """There is none any more."""


class Streams:
    """`last`: the last that the client has begun; `last_served`: the last that is served, as GOAWAY has said."""

    __slots__ = (
        "_connection",
        "_credit",
        "_output",
        "_owed",
        "_remembered",
        "deadlines",
        "last",
        "last_served",
        "open",
    )

    def __init__(self, connection: Connection, output: Output, deadlines: Deadlines) -> None:
        self._connection = connection
        self._output = output
        self.deadlines = deadlines
        self.open: dict[int, Stream] = {}
        self._remembered: dict[int, None] = {}
        self.last, self.last_served = 0, LARGEST_WINDOW
        # Bytes that the client may still send, and what it is owed of them.
        self._credit, self._owed = CONNECTION_WINDOW, 0

    def begin(self, number: int) -> Stream:
        stream = self.open[number] = Stream(self, self._output, number)
        self._output.many = len(self.open) > 1
        return stream

    def is_idle(self, number: int) -> bool:
        """Whether it has not begun yet (RFC 9113, 5.1)."""
        return number > self.last or not number & 1

    def was_reset(self, number: int) -> bool:
        """Whether the client may not know yet that it is over."""
        return number in self._remembered

    def refuse(self, number: int, code: ErrorCode) -> None:
        """Reset a stream, open or not."""
        stream = self.open.get(number)
        if stream is not None:
            self.reset(stream, code)
            return
        self._remember(number)
        self._output.reset(number, code)

    def reset(self, stream: Stream, code: ErrorCode) -> None:
        """End the stream, whatever is on its way."""
        if stream.id in self.open:
            self._remember(stream.id)
            self._output.reset(stream.id, code)
            self.forget(stream)
        stream.cancelled(False)

    def ended(self, stream: Stream) -> None:
        """Our side has ended, and so has the exchange. A request that is still being sent is not wanted any more
        (RFC 9113, 8.1)."""
        if not stream.remote_ended:
            self.reset(stream, ErrorCode.NO_ERROR)
        else:
            self.forget(stream)

    def forget(self, stream: Stream) -> None:
        if self.open.pop(stream.id, None) is None:
            return
        self._output.forget(stream)
        self._output.many = len(self.open) > 1
        self.returned(stream.settle())
        if not self.open:
            self._connection.streams_ended()

    def _remember(self, number: int) -> None:
        self._remembered[number] = None
        if len(self._remembered) > REMEMBERED:
            del self._remembered[next(iter(self._remembered))]

    def end_all(self, orderly: bool) -> None:
        """The connection is over."""
        streams, self.open = self.open, {}
        self._output.clear()
        for stream in streams.values():
            stream.cancelled(orderly)

    def rest(self, idle_timeout: float) -> None:
        """How long the connection may be without a request after this one (seconds)."""
        self._connection.idle_timeout = idle_timeout

    def receive(self, size: int) -> None:
        """So many bytes of DATA have come. Raises ConnectionFault."""
        self._credit -= size
        if self._credit < 0:
            raise ConnectionFault(ErrorCode.FLOW_CONTROL_ERROR, "more than the connection's window (RFC 9113, 6.9.1)")

    def returned(self, size: int) -> None:
        """So many bytes have been taken, and may be sent again."""
        self._owed += size
        if self._owed >= CONNECTION_WINDOW // 4:
            owed, self._owed = self._owed, 0
            self._credit += owed
            self._output.write(frame(WINDOW_UPDATE, 0, 0, owed.to_bytes(4, "big")))
