"""One request of an HTTP/2 connection and its response: the exchange's way to the client (`codec/interface.py`).

Bodies of unknown length go on to the exchange in the chunked coding, as its interface wants them; responses come back
without it. What the client's windows do not let through waits here; when it is too much, the exchange is paused.
"""

from collections import deque
from collections.abc import Callable
from typing import Protocol

from essaim.gateway.codec.http2.faults import ErrorCode, StreamFault
from essaim.gateway.codec.http2.frames import DATA, END_STREAM, LARGEST_WINDOW, WINDOW_UPDATE, frame
from essaim.gateway.codec.http2.priority import DEFAULT_URGENCY
from essaim.gateway.codec.http2.response import fields_block, head_block
from essaim.gateway.codec.interface import RequestSink
from essaim.gateway.codec.message import CHUNKED, Request, Response
from essaim.gateway.http.timeouts import SLOWEST, STALLED_SECONDS
from essaim.gateway.runtime.deadlines import NEVER, Deadlines

from .output import Output

WINDOW = 128 << 10
"""Bytes of a request's body that the client may send before the replica has taken them."""
MAX_WAITING = 64 << 10
"""Bytes of a response that wait for the client; with more the replica is not read any further."""
WEBSOCKET_FIELDS = (b"sec-websocket-accept", b"content-length", b"transfer-encoding")
"""What a 101 says and the 200 of extended CONNECT does not (RFC 8441, 5)."""


class Home(Protocol):
    """The connection's streams, as far as one of them knows."""

    deadlines: Deadlines

    def ended(self, stream: "Stream") -> None:
        """Our side has ended, and so has the exchange."""

    def reset(self, stream: "Stream", code: ErrorCode) -> None:
        """End it now."""

    def returned(self, size: int) -> None:
        """Bytes of the request have been taken."""

    def rest(self, idle_timeout: float) -> None:
        """How long the connection may rest, in seconds."""


class Stream:
    __slots__ = (
        "_chunked", "_complete", "_early", "_ends", "_expected", "_home", "_moved", "_output", "_owed", "_paused",
        "_sent_head", "_trailers", "_tunnel", "_waiting", "_waits", "credit", "deadline", "exchange", "id",
        "incremental", "keep_alive", "local_ended", "reading", "remote_ended", "urgency", "window", "write",
    )  # fmt: skip

    def __init__(self, home: Home, output: Output, number: int) -> None:
        self._home = home
        self._output = output
        self.write: Callable[[bytes], object] = self._write
        self.id = number
        self.exchange: RequestSink | None = None
        self.deadline = NEVER
        self.keep_alive = self.reading = True
        self.urgency, self.incremental = DEFAULT_URGENCY, False
        # Whether the client, and we, have ended our side.
        self.remote_ended = self.local_ended = False
        # Bytes that may be sent, and that the client may still send; what it is owed of the latter.
        self.window, self.credit, self._owed = output.settings.window, WINDOW, 0
        # The request's body: what is to come of a known length, None without one, and whether it goes on as chunks.
        self._expected: int | None = None
        self._chunked = False
        # Whether the exchange knows that it has all of the request.
        self._complete = False
        # The response: pieces that wait for windows, their bytes, whether the stream ends behind them, and how.
        self._waiting: deque[memoryview] = deque()
        self._waits = 0
        self._ends = self._sent_head = self._paused = False
        self._trailers = b""
        self._moved = 0
        # WebSocket: None before the replica has agreed, when `early` keeps what the client sends.
        self._tunnel = False
        self._early = b""

    # -- from the client ---------------------------------------------------------------------------------------------

    def begin(self, request: Request, exchange: RequestSink, complete: bool) -> None:
        """Hand the request to its exchange."""
        self.exchange = exchange
        self.remote_ended = complete
        if not complete and not request.upgrade:
            self._chunked = request.length == CHUNKED
            self._expected = None if self._chunked else request.length
        # A WebSocket's bytes are no body; and a body of no bytes need not be waited for.
        self._complete = not request.length
        exchange.head(request, self._complete)
        if not self._complete and self.exchange is exchange:
            exchange.proceed()

    def receive(self, data: bytes, size: int, complete: bool) -> None:
        """A DATA frame: its content, and its payload's size. Raises StreamFault."""
        self.credit -= size
        if self.credit < 0:
            raise StreamFault(ErrorCode.FLOW_CONTROL_ERROR, "more than the stream's window (RFC 9113, 6.9.1)")
        self._owed += size
        if self._expected is not None:
            self._expected -= len(data)
            if self._expected < 0 or (complete and self._expected):
                raise StreamFault(ErrorCode.PROTOCOL_ERROR, "the body is not as long as it said (RFC 9113, 8.1.1)")
        self.remote_ended = complete
        self._pass_on(data, complete, b"")
        if self.reading:
            self._give_credit()
        if complete and self._tunnel:
            self._settle()

    def _pass_on(self, data: bytes, complete: bool, trailers: bytes) -> None:
        exchange = self.exchange
        if exchange is None:
            return
        if self._tunnel:
            if data or complete:
                exchange.data(data, complete)
            return
        if self._complete and self._expected is not None:
            return
        if self._chunked:
            data = b"%x\r\n%b\r\n" % (len(data), data) if data else b""
            if complete:
                data += b"0\r\n%b\r\n" % trailers
        elif self._expected is None:
            # A WebSocket that the replica has not agreed to yet.
            self._early += data
            return
        if data or complete:
            exchange.data(data, complete)

    def receive_trailers(self, lines: bytes) -> None:
        """The end of the request's body. Raises StreamFault."""
        if self._expected:
            raise StreamFault(ErrorCode.PROTOCOL_ERROR, "the body is shorter than it said (RFC 9113, 8.1.1)")
        self.remote_ended = True
        self._pass_on(b"", True, lines)

    def _give_credit(self) -> None:
        """Let the client send as much again as it has sent, once that is worth a frame."""
        if self.remote_ended:
            self._home.returned(self.settle())
        elif self._owed >= WINDOW // 2:
            owed = self.settle()
            self.credit += owed
            self._output.write(frame(WINDOW_UPDATE, 0, self.id, owed.to_bytes(4, "big")))
            self._home.returned(owed)

    def settle(self) -> int:
        """Bytes that the client is owed; from now on none."""
        owed, self._owed = self._owed, 0
        return owed

    def open_window(self, increment: int) -> None:
        """Raises StreamFault."""
        self.window += increment
        if self.window > LARGEST_WINDOW:
            raise StreamFault(ErrorCode.FLOW_CONTROL_ERROR, "a window over 2^31-1 (RFC 9113, 6.9.1)")

    def cancelled(self, orderly: bool) -> None:
        """The client has reset it, or is gone."""
        exchange, self.exchange = self.exchange, None
        self._waiting.clear()
        if exchange is not None:
            exchange.reset(orderly)

    def expire(self) -> None:
        """The deadline has passed."""
        if self.exchange is not None:
            self.exchange.expire()
        elif self._moved > SLOWEST * STALLED_SECONDS:
            self._moved = 0
            self.deadline = self._home.deadlines.now + STALLED_SECONDS
        else:
            self._home.reset(self, ErrorCode.CANCEL)

    # -- from the exchange -------------------------------------------------------------------------------------------

    def respond(self, response: Response, head: bytes | None, data: bytes, body: int, complete: bool) -> None:
        if response.length == CHUNKED and not complete and self.exchange is not None:
            self.exchange.plain_body = True
        self._send_head(head_block(response.head if head is None else head), data[body:], complete)

    def interim(self, response: Response) -> None:
        if not self._sent_head:
            self._output.write(self._output.header_frames(self.id, head_block(response.head), 0))

    def _send_head(self, block: bytes, content: bytes, complete: bool) -> None:
        output = self._output
        self._sent_head = True
        size = len(content)
        if not size:
            self.local_ended = complete
            output.write(output.header_frames(self.id, block, END_STREAM if complete else 0))
        elif size <= self.window and size <= output.room():
            # The usual response: one write.
            self.window -= size
            output.window -= size
            self.local_ended = complete
            output.write(
                output.header_frames(self.id, block, 0) + frame(DATA, END_STREAM if complete else 0, self.id, content)
            )
        else:
            output.write(output.header_frames(self.id, block, 0))
            self._write(content, complete)

    def _write(self, data: bytes, complete: bool = False) -> None:
        if self.local_ended or self._ends or not data:
            return
        output, size = self._output, len(data)
        self._ends = complete
        if not self._waiting and not complete and size <= self.window and size <= output.room():
            self.window -= size
            output.window -= size
            output.write(frame(DATA, 0, self.id, data))
            return
        self._waiting.append(memoryview(data))
        self._waits += size
        output.wait(self)
        if self._waits > MAX_WAITING and not self._paused and self.exchange is not None:
            self._paused = True
            self.deadline = self._home.deadlines.now + STALLED_SECONDS
            self.exchange.pause()

    def send_some(self, most: int) -> int:
        """Send at most so many bytes of what waits; how many. The stream's and the connection's windows are seen to."""
        output = self._output
        size = min(most, self.window, self._waits)
        if size > 0:
            pieces, taken = list[memoryview](), 0
            while taken < size:
                piece = self._waiting.popleft()
                if len(piece) > size - taken:
                    self._waiting.appendleft(piece[size - taken :])
                    piece = piece[: size - taken]
                pieces.append(piece)
                taken += len(piece)
            self._waits -= size
            self._moved += size
            self.window -= size
            output.window -= size
            last = not self._waits and self._ends and not self._trailers
            self.local_ended = last
            output.write_data(self.id, pieces, size, END_STREAM if last else 0)
        if not self._waits and self._ends and not self.local_ended:
            self._finish()
        self._settle()
        if self._paused and self._waits < MAX_WAITING // 4 and self.exchange is not None:
            self._paused = False
            self.exchange.resume()
        return max(size, 0)

    @property
    def has_output(self) -> bool:
        return bool(self._waiting) or (self._ends and not self.local_ended)

    def _finish(self) -> None:
        """The end of our side, with nothing before it any more."""
        output = self._output
        self.local_ended = True
        if self._trailers:
            output.write(output.header_frames(self.id, self._trailers, END_STREAM))
        else:
            output.write(frame(DATA, END_STREAM, self.id))

    def trailers(self, fields: bytes) -> None:
        self._trailers = fields_block(fields)

    def switch(self, response: Response, protocol: bytes, rest: bytes) -> None:
        lines = response.head.partition(b"\r\n")[2].split(b"\r\n")
        kept = [line for line in lines if line.partition(b":")[0].lower() not in WEBSOCKET_FIELDS]
        self._tunnel = True
        self._send_head(head_block(b"HTTP/1.1 200 OK\r\n" + b"\r\n".join(kept)), rest, False)
        early, self._early = self._early, b""
        if self.exchange is not None and (early or self.remote_ended):
            self.exchange.data(early, self.remote_ended)

    def end(self, idle_timeout: float) -> None:
        self.exchange = None
        self._home.rest(idle_timeout)
        self._end()

    def _end(self) -> None:
        if not self.local_ended:
            self._ends = True
            if self._waiting:
                self.deadline = self._home.deadlines.now + STALLED_SECONDS
                return
            self._finish()
        self._home.ended(self)

    def drop(self) -> None:
        """Other streams are not concerned."""
        self.exchange = None
        self._end()

    def reset(self) -> None:
        self.exchange = None
        self._home.reset(self, ErrorCode.INTERNAL_ERROR)

    def abort(self) -> None:
        self._home.reset(self, ErrorCode.CANCEL)

    def tunnel_ended(self) -> None:
        """When both sides have ended it, that is its end."""
        if self._waiting:
            self._ends = True
        elif not self.local_ended:
            self._finish()
        self._settle()

    def _settle(self) -> None:
        """Our side may have been the last that had to end."""
        exchange = self.exchange
        if self.local_ended and (exchange is None or (self._tunnel and self.remote_ended)):
            self.exchange = None
            self._home.ended(self)
            if exchange is not None:
                exchange.reset(True)

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        if not self.reading:
            self.reading = True
            self._give_credit()
