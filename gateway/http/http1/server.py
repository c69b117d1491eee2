"""A client's HTTP/1.1 connection: where requests begin and end, what their bodies are, and how responses are framed.

States: HEAD (waiting for, or in the middle of, a request's head), BODY (the request's body is arriving), WAIT (the
request is complete, its response is not), TUNNEL (after 101), LINGER (everything is said; what still arrives is read
and dropped, so that the client sees the answer before a reset), CLOSED.

For each request an exchange is made, which is told the request and says the response (`codec/interface.py`); nothing is
known here of what becomes of it. Requests that arrive early (pipelining) are kept, bounded, and served in order. A
request that is not in order is answered and the connection closed: what follows cannot be trusted to be a request.
"""

import asyncio
from collections.abc import Callable
from typing import cast

from essaim.gateway.codec.http1.body import BodyReader
from essaim.gateway.codec.http1.head import framed
from essaim.gateway.codec.http2.frames import PREFACE
from essaim.gateway.codec.interface import ClientStream, RequestSink
from essaim.gateway.codec.message import CHUNKED, UNTIL_CLOSE, Refused, Request, Response
from essaim.gateway.http.client import Client
from essaim.gateway.http.http2.server import Http2Connection
from essaim.gateway.http.listener import Listener
from essaim.gateway.http.timeouts import STALLED_SECONDS
from essaim.gateway.protocol.addresses import plain_address
from essaim.gateway.runtime.deadlines import NEVER
from essaim.gateway.runtime.faults import report
from essaim.gateway.runtime.reset import reset
from essaim.gateway.tls.session import Secured

from .reader import MAX_HEAD, RequestReader, after_empty_line, check_unfinished

LINGER_SECONDS, LINGER_LONGEST = 2.0, 30.0
"""A client that is still sending when all is said is read from until it pauses for so long; in all for so long."""
LAST_CALL_SECONDS = 2.0
"""How long a connection that is idle when its socket closes may still begin a request."""
MAX_EARLY = 64 << 10
PREFACE_LINE = PREFACE[:18]
HTTP_VERSION_NOT_SUPPORTED = 505
CARRIAGE_RETURN = 0x0D
CUT_SHORT = "the connection ended before the body was complete (RFC 9112, 8)"

HEAD, BODY, WAIT, TUNNEL, LINGER, CLOSED = range(6)

Make = Callable[[Client, ClientStream], RequestSink]
Peer = tuple[str, int]


def _nowhere(data: bytes) -> None:
    """The client is gone."""


class ServerConnection(asyncio.Protocol):
    __slots__ = (
        "_body", "_half_closed", "_idle_timeout", "_lingers_until", "_make", "_minor", "_peer",
        "_reader", "_tls", "_until_close", "buffer", "choked", "client", "deadline", "deadlines", "exchange",
        "keep_alive", "listener", "reading", "state", "transport", "used", "write",
    )  # fmt: skip

    def __init__(self, make: Make, listener: Listener, peer: Peer | None = None, tls: Secured | None = None) -> None:
        """`make` an exchange. `peer`: who is behind the proxy that has connected, if that is known. `tls`: what the
        connection is behind."""
        self._make = make
        self._peer = peer
        self._tls = tls
        self.listener = listener
        self.deadlines = listener.deadlines
        self.transport: asyncio.Transport | None = None
        self.write: Callable[[bytes], object] = _nowhere
        self.state, self.buffer = HEAD, b""
        self.deadline = self._lingers_until = NEVER
        # `choked`: the client has not taken what was written; no further request of its begins until it has.
        self.reading, self.choked, self._half_closed = True, False, False
        self._idle_timeout = 0.0
        self._reader = RequestReader()
        # Whether a request has begun on it.
        self.used = False
        # Of the request in progress: its exchange, its minor version, whether the connection outlives it, whether its
        # response ends with the connection, and what is to come of its body.
        self.exchange: RequestSink | None = None
        self._minor = 1
        self.keep_alive = self._until_close = False
        self._body: BodyReader | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        listener = self.listener
        self.transport = cast("asyncio.Transport", transport)
        self.write = self.transport.write
        peer = self._peer or transport.get_extra_info("peername")
        # What the connection was made to is asked of the kernel once a socket, not once a connection (1.5 µs).
        port = listener.port or transport.get_extra_info("sockname", ("", 0))[1]
        client = self.client = Client(listener, plain_address(peer[0]) if peer else "unknown", port, self._tls)
        listener.connections.add(self)
        self.deadlines.add(self)
        options = listener.backend.options
        self.deadline = self.deadlines.now + options.header_timeout
        # A trusted proxy's connections are its clients' requests, which are counted by client (see `exchange.py`).
        if not listener.sources.enter(client.address, 0 if client.trusted else options.max_per_source):
            self.transport.abort()

    def data_received(self, data: bytes) -> None:
        state = self.state
        if state == HEAD:
            self._head(self.buffer + data if self.buffer else data)
        elif state == BODY:
            self._read_body(data, 0)
        elif state == TUNNEL:
            if self.exchange is not None:
                self.exchange.data(data, False)
        elif state == WAIT:
            self.buffer += data
            if len(self.buffer) > MAX_EARLY:
                self.pause_reading()
        elif state == LINGER:
            self.deadline = min(self.deadlines.now + LINGER_SECONDS, self._lingers_until)

    def _head(self, data: bytes) -> None:
        request = None
        try:
            if data[0] == CARRIAGE_RETURN:
                data = after_empty_line(data)
            end = data.find(b"\r\n\r\n")
            if 0 < end <= MAX_HEAD:
                request = self._reader.read(data, end)
            else:
                check_unfinished(data, end)
        except Refused as refused:
            if refused.status == HTTP_VERSION_NOT_SUPPORTED and self._become_http2(data):
                return
            self._make(self.client, self).refuse(refused.status, refused.reason)
            return
        except Exception as error:
            report("a request's head broke the gateway", error)
            self._make(self.client, self).refuse(500, "the gateway cannot serve this request")
            return
        if request is not None:
            self._begin(request, data, end + 4)
            return
        if not self.buffer and data:
            self.deadline = self.deadlines.now + self.listener.backend.options.header_timeout
        self.buffer = data
        if self._half_closed and self.transport:
            # The rest will not come.
            self.state = CLOSED
            self.transport.close()

    def _become_http2(self, data: bytes) -> bool:
        """A client that knows that HTTP/2 is spoken here begins with its preface, in the clear too (RFC 9113, 3.3)."""
        transport = self.transport
        if self.used or transport is None or not data.startswith(PREFACE_LINE):
            return False
        self._leave()
        self.state, self.transport = CLOSED, None
        protocol = Http2Connection(self._make, self.listener, self._peer, self._tls)
        transport.set_protocol(protocol)
        protocol.connection_made(transport)
        protocol.data_received(data)
        return True

    def _begin(self, request: Request, data: bytes, body: int) -> None:
        """A request of which the head ends, and the body (or what follows) begins, at `data[body]`."""
        exchange = self.exchange = self._make(self.client, self)
        self.used = True
        self._minor = request.minor
        self.keep_alive = request.keep_alive and not self.listener.closing
        if request.length:
            self.state, self.buffer = BODY, b""
            self._body = BodyReader(request.length)
            exchange.head(request, False)
            if self.exchange is exchange:
                self._read_body(data, body)
                if self._half_closed and self.state == BODY:
                    exchange.refuse(400, CUT_SHORT)
            exchange.proceed()
        else:
            self.state = WAIT
            self.buffer = data[body:]
            if self._half_closed:
                # Who has ended its side may have asked for more before.
                self.keep_alive = self.keep_alive and bool(self.buffer)
            exchange.head(request, True)

    def _read_body(self, data: bytes, start: int) -> None:
        exchange, body = self.exchange, self._body
        if exchange is None or body is None:
            return
        try:
            end = body.feed(data, start)
        except Refused as refused:
            exchange.refuse(refused.status, refused.reason)
            return
        if body.done:
            self.state, self._body = WAIT, None
            self.buffer = data[end:]
            if self._half_closed:
                self.keep_alive = self.keep_alive and bool(self.buffer)
        if end > start or body.done:
            exchange.data(data if start == 0 and end == len(data) else data[start:end], body.done)

    def _pipelined(self) -> None:
        """Take up a request that has arrived early."""
        if self.state == HEAD and self.buffer:
            data, self.buffer = self.buffer, b""
            self._head(data)

    def eof_received(self) -> bool:
        """A client may close its side and still read: the request in progress is answered."""
        self._half_closed = True
        exchange = self.exchange
        if exchange is None:
            # Between two requests the next one may be here as a whole, about to be taken up.
            return self.state == HEAD and b"\r\n\r\n" in self.buffer
        if self.state == TUNNEL:
            exchange.data(b"", True)
        elif self.state == WAIT:
            self.keep_alive = self.keep_alive and bool(self.buffer)
        elif exchange.pending is not None:
            exchange.refuse(400, CUT_SHORT)
        else:
            return False
        return True

    def pause_writing(self) -> None:
        """The client does not take what is written: nothing more is read for it until it does."""
        self.choked = True
        self.deadline = self.deadlines.now + STALLED_SECONDS
        if self.exchange is not None:
            self.exchange.pause()

    def resume_writing(self) -> None:
        self.choked = False
        if self.exchange is not None:
            self.exchange.resume()
        elif self.state == HEAD:
            self.deadline = self.deadlines.now + self._idle_timeout
            self.resume_reading()
            self._pipelined()

    def connection_lost(self, exc: Exception | None) -> None:
        self.transport, self.write = None, _nowhere
        self.state = CLOSED
        self._leave()
        exchange, self.exchange = self.exchange, None
        if exchange is not None:
            exchange.reset(exc is None)

    def _leave(self) -> None:
        """It is no connection of the listener's any more."""
        self.listener.sources.leave(self.client.address)
        self.deadlines.members.discard(self)
        self.listener.connections.discard(self)

    def respond(self, response: Response, head: bytes | None, data: bytes, body: int, complete: bool) -> None:
        length = response.length
        if self.state == BODY:
            self.keep_alive = False
        if not complete and (length == UNTIL_CLOSE or (length == CHUNKED and not self._minor)):
            self.keep_alive, self._until_close = False, True
            if length == CHUNKED and self.exchange is not None:
                # HTTP/1.0 knows no chunks.
                self.exchange.plain_body = True
        if head is None:
            head = response.head
            if self.keep_alive and self._minor:
                self.write(data if response.untouched else b"%b\r\n%b" % (head, data[body:]))
                return
        self.write(framed(head, self._minor, self.keep_alive, length) + data[body:])

    def interim(self, response: Response) -> None:
        """HTTP/1.0 clients know none."""
        if self._minor:
            self.write(response.head + b"\r\n")

    def switch(self, response: Response, protocol: bytes, rest: bytes) -> None:
        self.state = TUNNEL
        self.write(b"%bConnection: upgrade\r\nUpgrade: %b\r\n\r\n%b" % (response.head, protocol, rest))
        if self.buffer and self.exchange is not None:
            data, self.buffer = self.buffer, b""
            self.exchange.data(data, False)

    def trailers(self, fields: bytes) -> None:
        """HTTP/1.0 has none."""

    def end(self, idle_timeout: float) -> None:
        self.exchange = None
        if self.transport is None:
            return
        if self.state == BODY:
            self.drop()
        elif not self.keep_alive:
            self.state = CLOSED
            # What is not sent yet must be taken within a time, too.
            self.deadline = self.deadlines.now + STALLED_SECONDS
            self.transport.close()
        else:
            self.state = HEAD
            self._idle_timeout = idle_timeout
            if self.choked:
                self.pause_reading()
                return
            self.deadline = self.deadlines.now + idle_timeout
            if self.buffer:
                asyncio.get_running_loop().call_soon(self._pipelined)
            if not self.reading:
                self.resume_reading()

    def drop(self) -> None:
        """Close in a way that the answer arrives: end our side, read on for a moment."""
        self.exchange = None
        self.state, self.buffer = LINGER, b""
        self.deadline = self.deadlines.now + LINGER_SECONDS
        self._lingers_until = self.deadlines.now + LINGER_LONGEST
        if self.transport:
            self.resume_reading()
            self.transport.write_eof()

    def reset(self) -> None:
        self.exchange = None
        if self.transport is not None and self._until_close:
            reset(self.transport)
        elif self.transport is not None:
            self.state = CLOSED
            self.transport.close()

    def abort(self) -> None:
        if self.transport:
            self.transport.abort()

    evict = abort

    def tunnel_ended(self) -> None:
        """When both sides have ended it, that is its end."""
        if self.transport is not None and self._half_closed:
            self.deadline = self.deadlines.now + STALLED_SECONDS
            self.transport.close()
        elif self.transport is not None:
            self.transport.write_eof()

    def pause_reading(self) -> None:
        if self.reading and self.transport:
            self.reading = False
            self.transport.pause_reading()

    def resume_reading(self) -> None:
        if not self.reading and self.transport:
            self.reading = True
            self.transport.resume_reading()

    def expire(self) -> None:
        """The deadline of the phase that the connection is in has passed."""
        if self.exchange is not None:
            self.exchange.expire()
        elif self.state == HEAD and self.buffer:
            self._make(self.client, self).refuse(408, "the head of the request did not arrive in time")
        else:
            self.abort()

    def spare(self) -> int | None:
        """Before its first request it is the first to go, between two of them the next (see `admission.py`)."""
        return None if self.state != HEAD else int(self.used)

    def stop(self) -> None:
        """The socket was closed: one more request is served, then the connection ends.

        Not at once, even if it is idle: a request may be on its way, and a new connection's always is.
        """
        self.keep_alive = False
        if self.state == HEAD:
            self.deadline = min(self.deadline, self.deadlines.now + LAST_CALL_SECONDS)
