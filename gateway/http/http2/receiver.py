"""What a client's frames mean: requests that begin, go on and end, and what the client says of the connection.

A client that breaks a rule loses the stream or the connection, as RFC 9113 says for each. What costs more than it
brings is paid for out of one budget (`codec/http2/budget.py`).
"""

import os
from base64 import b64encode
from collections.abc import Callable

from essaim.gateway.codec.http2.budget import Budget, Glitch
from essaim.gateway.codec.http2.faults import ConnectionFault, ErrorCode, StreamFault
from essaim.gateway.codec.http2.frames import (
    ACK,
    DATA,
    END_STREAM,
    HEADERS,
    LARGEST_WINDOW,
    PADDED,
    PING,
    PRIORITY,
    PRIORITY_UPDATE,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    frame,
    without_padding,
)
from essaim.gateway.codec.http2.hpack import Decoder, Field, TooLarge
from essaim.gateway.codec.http2.priority import read_priority
from essaim.gateway.codec.http2.request import read_request, trailer_lines
from essaim.gateway.codec.interface import ClientStream, RequestSink
from essaim.gateway.codec.message import Refused, Request
from essaim.gateway.runtime.deadlines import Deadlines

from .output import Output
from .streams import Streams

MAX_STREAMS = 128
"""Requests in progress on one connection; NGINX allows as many, HAProxy and nghttp2 100."""
MAX_FIELDS_SIZE = 64 << 10
SMALL_INCREMENT = 64
KNOWN, LONGEST_KNOWN = 16, 512
"""Requests of one connection that are kept by their blocks, and bytes of such a block."""

Make = Callable[[ClientStream], RequestSink]


class Receiver:
    __slots__ = (
        "_budget", "_deadlines", "_decoder", "_known", "_make", "_output", "_pinged", "_streams", "_takers", "used",
    )  # fmt: skip

    def __init__(
        self, make: Make, streams: Streams, output: Output, deadlines: Deadlines, pinged: Callable[[bytes], None]
    ) -> None:
        """`make` an exchange; `pinged` is told of answers to our own PINGs."""
        self._make = make
        self._streams = streams
        self._output = output
        self._deadlines = deadlines
        self._pinged = pinged
        self._decoder = Decoder(MAX_FIELDS_SIZE)
        self._budget = Budget(deadlines.now)
        self._known: dict[bytes, Request] = {}
        # Whether a request has begun.
        self.used = False

    def spend(self, glitch: Glitch, times: int = 1) -> None:
        """Raises ConnectionFault."""
        if not self._budget.spend(glitch, self._deadlines.now, times):
            raise ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, f"too much of this: {glitch.value}")

    def take(self, kind: int, flags: int, number: int, content: bytes) -> None:
        """A frame, or a header block as one. Raises ConnectionFault."""
        if not self._output.settings.greeted and (kind != SETTINGS or flags & ACK):
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "the first frame is not SETTINGS (RFC 9113, 3.4)")
        try:
            if kind == HEADERS:
                self._headers(flags, number, content)
            elif kind == DATA:
                self._data(flags, number, content)
            elif kind == WINDOW_UPDATE:
                self._window_update(number, int.from_bytes(content, "big") & LARGEST_WINDOW)
            elif kind == RST_STREAM:
                self._cancelled(number)
            else:
                self._about_the_connection(kind, flags, content)
        except StreamFault as fault:
            self._streams.refuse(number, fault.code)
            self.spend(Glitch.STREAM_FAULT)

    def _about_the_connection(self, kind: int, flags: int, content: bytes) -> None:
        if kind == SETTINGS:
            self._settings(flags, content)
        elif kind == PING:
            self._ping(flags, content)
        elif kind == PRIORITY:
            self.spend(Glitch.PRIORITY)
            if len(content) != 5:
                raise StreamFault(ErrorCode.FRAME_SIZE_ERROR, "PRIORITY of a wrong size (RFC 9113, 6.3)")
        elif kind == PRIORITY_UPDATE:
            self._priority_update(content)
        else:
            # GOAWAY too: a client that begins no more streams has nothing else to be told.
            self.spend(Glitch.UNKNOWN)

    # -- requests ----------------------------------------------------------------------------------------------------

    def _headers(self, flags: int, number: int, block: bytes) -> None:
        streams = self._streams
        if number in streams.open:
            self._trailers(number, flags, block)
        elif not streams.is_idle(number):
            self._fields(block)
            if not streams.was_reset(number):
                raise ConnectionFault(ErrorCode.STREAM_CLOSED, "HEADERS on a stream that is closed (RFC 9113, 5.1)")
            self.spend(Glitch.LATE)
        elif not number & 1:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "a client's streams have odd numbers (RFC 9113, 5.1.1)")
        else:
            streams.last = number
            if number > streams.last_served:
                # Said by GOAWAY; the client asks it again elsewhere.
                self._fields(block)
            elif len(streams.open) >= MAX_STREAMS:
                self._fields(block)
                streams.refuse(number, ErrorCode.REFUSED_STREAM)
                self.spend(Glitch.REFUSED)
            else:
                self._begin(number, bool(flags & END_STREAM), block)

    def _begin(self, number: int, complete: bool, block: bytes) -> None:
        request, refused = None, Refused(500, "")
        try:
            request = self._request(block, complete)
        except Refused as error:
            refused = error
        self.used = True
        stream = self._streams.begin(number)
        exchange = stream.exchange = self._make(stream)
        if request is None:
            stream.remote_ended = complete
            exchange.refuse(refused.status, refused.reason)
        else:
            stream.urgency, stream.incremental = request.priority
            stream.begin(request, exchange, complete)

    def _fields(self, block: bytes) -> list[Field] | None:
        """None if they are too large. Raises ConnectionFault."""
        generation = self._decoder.generation
        try:
            return self._decoder.decode(block)
        except TooLarge:
            return None
        finally:
            if self._decoder.generation != generation:
                self._known.clear()

    def _request(self, block: bytes, complete: bool) -> Request:
        """A client asks the same again: a block that means the same as before is the request that it was before, and
        whoever has drawn conclusions from its fields knows them still. Raises Refused, StreamFault, ConnectionFault."""
        request = self._known.get(block) if complete else None
        if request is not None:
            return request
        generation = self._decoder.generation
        fields = self._fields(block)
        if fields is None:
            raise Refused(431, f"the fields are larger than {MAX_FIELDS_SIZE} bytes")
        request = read_request(fields, b64encode(os.urandom(16)), complete=complete)
        if complete and self._decoder.generation == generation and len(block) <= LONGEST_KNOWN:
            if len(self._known) >= KNOWN:
                self._known.clear()
            self._known[block] = request
        return request

    def _trailers(self, number: int, flags: int, block: bytes) -> None:
        fields = self._fields(block)
        stream = self._streams.open[number]
        if stream.remote_ended:
            raise StreamFault(ErrorCode.STREAM_CLOSED, "HEADERS after the end (RFC 9113, 5.1)")
        if fields is None or not flags & END_STREAM:
            raise StreamFault(ErrorCode.PROTOCOL_ERROR, "trailers that do not end the stream, or are too large")
        stream.receive_trailers(trailer_lines(fields))

    def _data(self, flags: int, number: int, content: bytes) -> None:
        size, streams = len(content), self._streams
        streams.receive(size)
        stream = streams.open.get(number)
        if stream is None or stream.remote_ended:
            if streams.is_idle(number):
                raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "DATA on a stream that is idle (RFC 9113, 5.1)")
            streams.returned(size)
            if stream is None and streams.was_reset(number):
                self.spend(Glitch.LATE)
                return
            raise StreamFault(ErrorCode.STREAM_CLOSED, "DATA on a stream that is closed (RFC 9113, 5.1)")
        if flags & PADDED:
            content = without_padding(DATA, flags, content)
        if not content and not flags & END_STREAM:
            self.spend(Glitch.EMPTY_DATA)
        stream.receive(content, size, bool(flags & END_STREAM))

    def _cancelled(self, number: int) -> None:
        stream = self._streams.open.get(number)
        if stream is None:
            if self._streams.is_idle(number):
                raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "RST_STREAM on a stream that is idle (RFC 9113, 6.4)")
            self.spend(Glitch.LATE)
            return
        self._streams.forget(stream)
        stream.cancelled(False)
        self.spend(Glitch.CANCELLED)

    # -- the connection ----------------------------------------------------------------------------------------------

    def _window_update(self, number: int, increment: int) -> None:
        stream = self._streams.open.get(number)
        if stream is None and number:
            if self._streams.is_idle(number):
                raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "WINDOW_UPDATE on an idle stream (RFC 9113, 5.1)")
            self.spend(Glitch.LATE)
            return
        if not increment:
            fault = StreamFault if stream is not None else ConnectionFault
            raise fault(ErrorCode.PROTOCOL_ERROR, "WINDOW_UPDATE of nothing (RFC 9113, 6.9)")
        if increment < SMALL_INCREMENT:
            self.spend(Glitch.SMALL_WINDOW)
        if stream is not None:
            stream.open_window(increment)
        else:
            self._output.open_window(increment)
        self._output.flush()

    def _settings(self, flags: int, content: bytes) -> None:
        settings = self._output.settings
        if flags & ACK:
            if content:
                raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "an acknowledgement of SETTINGS with content")
            self.spend(Glitch.LATE)
            return
        if settings.greeted:
            self.spend(Glitch.SETTINGS)
        change = settings.read(content, of_client=True)
        try:
            for stream in self._streams.open.values() if change else ():
                stream.open_window(change)
        except StreamFault as fault:
            raise ConnectionFault(fault.code, fault.reason) from None
        self._output.write(frame(SETTINGS, ACK, 0))
        self._output.flush()

    def _ping(self, flags: int, content: bytes) -> None:
        self.spend(Glitch.PING)
        if flags & ACK:
            self._pinged(content)
        else:
            self._output.write(frame(PING, ACK, 0, content))

    def _priority_update(self, content: bytes) -> None:
        self.spend(Glitch.PRIORITY)
        number = int.from_bytes(content[:4], "big") & LARGEST_WINDOW
        if not number & 1:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "PRIORITY_UPDATE of no client's stream (RFC 9218, 7.1)")
        stream = self._streams.open.get(number)
        if stream is not None:
            stream.urgency, stream.incremental = read_priority(content[4:])
