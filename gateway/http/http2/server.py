"""A client's HTTP/2 connection (RFC 9113): its beginning, its time-outs and its end. For each request an exchange is
made, as HTTP/1.1's connection makes one; nothing is known here of what becomes of it.

- `receiver.py` has what the client's frames mean, `output.py` what is sent and when, `streams.py` what is open.
- The end: GOAWAY that forbids nothing yet; a round trip or LAST_CALL_SECONDS later GOAWAY with the last stream that is
  served; the connection ends with that stream (RFC 9113, 6.8). A request that comes later may be asked again elsewhere.
"""

import asyncio
from collections.abc import Callable
from typing import cast

from essaim.gateway.codec.http2.budget import Glitch
from essaim.gateway.codec.http2.faults import ConnectionFault, ErrorCode
from essaim.gateway.codec.http2.frames import (
    DEFAULT_WINDOW,
    GOAWAY,
    LARGEST_WINDOW,
    PING,
    PREFACE,
    SETTINGS,
    WINDOW_UPDATE,
    frame,
)
from essaim.gateway.codec.http2.reader import FrameReader
from essaim.gateway.codec.http2.settings import (
    ENABLE_CONNECT_PROTOCOL,
    INITIAL_WINDOW_SIZE,
    MAX_CONCURRENT_STREAMS,
    MAX_HEADER_LIST_SIZE,
    NO_RFC7540_PRIORITIES,
    payload,
)
from essaim.gateway.codec.interface import ClientStream, RequestSink
from essaim.gateway.http.client import Client
from essaim.gateway.http.listener import Listener
from essaim.gateway.http.timeouts import STALLED_SECONDS
from essaim.gateway.protocol.addresses import plain_address
from essaim.gateway.runtime.deadlines import NEVER
from essaim.gateway.runtime.faults import report
from essaim.gateway.tls.session import Secured

from .output import Output
from .receiver import MAX_FIELDS_SIZE, MAX_STREAMS, Receiver
from .stream import WINDOW
from .streams import CONNECTION_WINDOW, Streams

LAST_CALL_SECONDS = 2.0
GREETING = frame(SETTINGS, 0, 0, payload({
    MAX_CONCURRENT_STREAMS: MAX_STREAMS, INITIAL_WINDOW_SIZE: WINDOW, MAX_HEADER_LIST_SIZE: MAX_FIELDS_SIZE,
    ENABLE_CONNECT_PROTOCOL: 1, NO_RFC7540_PRIORITIES: 1,
})) + frame(WINDOW_UPDATE, 0, 0, (CONNECTION_WINDOW - DEFAULT_WINDOW).to_bytes(4, "big"))  # fmt: skip
LAST_PING = b"the last"

Make = Callable[[Client, ClientStream], RequestSink]
Peer = tuple[str, int]


class Http2Connection(asyncio.Protocol):
    __slots__ = (
        "_choked_until", "_closed", "_make", "_output", "_peer", "_preface", "_reader", "_receiver", "_stopping",
        "_streams", "_tls", "_unfinished_until", "client", "deadline", "deadlines", "idle_timeout", "listener",
        "transport",
    )  # fmt: skip

    def __init__(self, make: Make, listener: Listener, peer: Peer | None = None, tls: Secured | None = None) -> None:
        """As HTTP/1.1's."""
        self._make = make
        self._peer = peer
        self._tls = tls
        self.listener = listener
        self.deadlines = listener.deadlines
        self.transport: asyncio.Transport | None = None
        # Loop time, in seconds: when this connection is looked at; and until when the client must take what is sent,
        # and must have sent the rest of a frame.
        self.deadline = self._choked_until = self._unfinished_until = NEVER
        self.idle_timeout = listener.backend.options.keepalive_timeout
        # What is still to come of it.
        self._preface = PREFACE
        self._reader = FrameReader(MAX_FIELDS_SIZE)
        self._output = Output()
        self._streams = Streams(self, self._output, self.deadlines)
        self._receiver = Receiver(self._exchange, self._streams, self._output, self.deadlines, self._pinged)
        self._closed = self._stopping = False

    def _exchange(self, stream: ClientStream) -> RequestSink:
        # As long as there are streams each pass of the deadlines looks at theirs.
        self.deadline = 0.0
        return self._make(self.client, stream)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        listener = self.listener
        self.transport = self._output.transport = cast("asyncio.Transport", transport)
        peer = self._peer or transport.get_extra_info("peername")
        port = listener.port or transport.get_extra_info("sockname", ("", 0))[1]
        client = self.client = Client(listener, plain_address(peer[0]) if peer else "unknown", port, self._tls)
        client.many = True
        listener.connections.add(self)
        self.deadlines.add(self)
        options = listener.backend.options
        self.deadline = self.deadlines.now + options.header_timeout
        self.transport.write(GREETING)
        if not listener.sources.enter(client.address, 0 if client.trusted else options.max_per_source):
            self.transport.abort()

    def data_received(self, data: bytes) -> None:
        if self._closed:
            return
        receiver, reader, progress = self._receiver, self._reader, False
        try:
            if self._preface:
                data = self._greet(data)
            for kind, flags, stream, content in reader.feed(data):
                progress = True
                receiver.take(kind, flags, stream, content)
                if self.is_over:
                    return
            if reader.pieces:
                pieces, reader.pieces = reader.pieces, 0
                receiver.spend(Glitch.SHORT_PIECE, pieces)
        except ConnectionFault as fault:
            self._fail(fault.code, fault.reason)
        except Exception as error:
            report("an HTTP/2 connection broke the gateway", error)
            self._fail(ErrorCode.INTERNAL_ERROR, "the gateway cannot go on with this connection")
        else:
            self._look_at_unfinished(progress)

    @property
    def is_over(self) -> bool:
        """Whether the client has been told that nothing more is served."""
        return self._closed

    def _greet(self, data: bytes) -> bytes:
        """What follows the preface. Raises ConnectionFault."""
        expected = self._preface[: len(data)]
        if data[: len(expected)] != expected:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "no HTTP/2 preface (RFC 9113, 3.4)")
        self._preface = self._preface[len(expected) :]
        return data[len(expected) :]

    def _look_at_unfinished(self, progress: bool) -> None:
        """A frame, or a header block, that has begun must end in time."""
        if not self._reader.waits:
            self._unfinished_until = NEVER
        elif progress or self._unfinished_until == NEVER:
            self._unfinished_until = self.deadlines.now + self.listener.backend.options.header_timeout
        if not self._streams.open and self._output.settings.greeted:
            self.deadline = min(self.deadlines.now + self.idle_timeout, self._unfinished_until)

    def eof_received(self) -> bool:
        """A client that ends its side can open no window, and acknowledge nothing: that is its end."""
        return False

    def pause_writing(self) -> None:
        self._output.choked = True
        self._choked_until = self.deadlines.now + STALLED_SECONDS

    def resume_writing(self) -> None:
        self._output.choked = False
        self._choked_until = NEVER
        self._output.flush()

    def connection_lost(self, exc: Exception | None) -> None:
        self.transport = self._output.transport = None
        self._closed = True
        self.listener.sources.leave(self.client.address)
        self.deadlines.members.discard(self)
        self.listener.connections.discard(self)
        self._streams.end_all(exc is None)

    def expire(self) -> None:
        now = self.deadlines.now
        if now >= min(self._choked_until, self._unfinished_until):
            self.evict()
        elif self._streams.open:
            for stream in [stream for stream in self._streams.open.values() if stream.deadline <= now]:
                stream.expire()
        else:
            self._fail(ErrorCode.NO_ERROR, "nothing was asked for a while")

    def evict(self) -> None:
        if self.transport is not None:
            self.transport.abort()

    def spare(self) -> int | None:
        """See `worker/admission.py`."""
        return None if self._streams.open else int(self._receiver.used)

    def stop(self) -> None:
        """The socket was closed: what is open, and what is on its way, is served."""
        if self._stopping or self._closed:
            return
        self._stopping = True
        forbids_nothing = LARGEST_WINDOW.to_bytes(4, "big") + bytes(4)
        self._output.write(frame(GOAWAY, 0, 0, forbids_nothing) + frame(PING, 0, 0, LAST_PING))
        asyncio.get_running_loop().call_later(LAST_CALL_SECONDS, self._last_call)

    def _pinged(self, content: bytes) -> None:
        if self._stopping and content == LAST_PING:
            self._last_call()

    def _last_call(self) -> None:
        """From here on no further stream is served."""
        streams = self._streams
        if self._closed or streams.last_served != LARGEST_WINDOW:
            return
        streams.last_served = streams.last
        self._output.write(frame(GOAWAY, 0, 0, streams.last.to_bytes(4, "big") + bytes(4)))
        if not streams.open:
            self._close()

    def streams_ended(self) -> None:
        self.deadline = min(self.deadlines.now + self.idle_timeout, self._unfinished_until)
        if self._streams.last_served != LARGEST_WINDOW:
            self._close()

    def _fail(self, code: ErrorCode, reason: str) -> None:
        if self._closed:
            return
        said = self._streams.last.to_bytes(4, "big") + int(code).to_bytes(4, "big") + reason.encode()
        self._output.write(frame(GOAWAY, 0, 0, said))
        self._close()

    def _close(self) -> None:
        """End our side. What still comes is read and dropped for a moment, so that the client sees the end before a
        reset."""
        self._output.send_written()
        self._closed, self._output.transport = True, None
        self._streams.end_all(False)
        self.deadline = self._choked_until = self.deadlines.now + LAST_CALL_SECONDS
        if self.transport is not None:
            self.transport.write_eof()
