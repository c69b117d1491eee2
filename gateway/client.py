"""The client's side of layer 7: the HTTP/1.1 requests of one connection, one after the other, each sent to a replica.

States: HEAD (waiting for, or in the middle of, a request's head), BODY (the request's body is being forwarded), WAIT
(the request is complete, its response is not), TUNNEL (after 101), LINGER (everything is said; what still arrives is
read and dropped, so that the client sees the answer before a reset), CLOSED.

Rules:
- Requests that arrive early (pipelining) are kept, bounded, and served in order.
- A request goes to another endpoint when it cannot have had an effect: the connection was refused, or a connection
  broke before it answered and the method is idempotent (RFC 9110, 9.2.2) and all of the request is still here. A
  method that is not idempotent does not ride on a connection that has been idle for more than a second.
- A response that cannot be completed ends the connection, so that the client knows.
"""

import asyncio
from bisect import bisect_left
from time import perf_counter
from typing import cast

from .affinity import cookie, request_key, set_cookie
from .backend import LATENCY_BUCKETS, Endpoint
from .connect import RECONNECT_SECONDS, NoEndpoint, connect_any
from .http1.chunked import ChunkReader
from .http1.forwarded import extended_lines, field_lines, plain_address
from .http1.head import (
    CHUNKED,
    MAX_TARGET,
    REQUEST_LINE,
    SLASH,
    UNTIL_CLOSE,
    Refused,
    Request,
    Response,
    parse_fields,
    refuse_request_line,
    without_line,
)
from .http1.reply import reply
from .listener import Listener
from .sweeper import NEVER
from .upstream import Upstream

MAX_HEAD = 32 << 10
MAX_EARLY = 64 << 10
MAX_REPLAY = 64 << 10
LINGER_SECONDS = 2.0
FRESH_SECONDS = 1.0
STALLED_SECONDS = 60.0
"""A client that takes nothing of a response for so long, or sends a body at less than SLOWEST, is given up."""
SLOWEST = 64
"""Bytes a second, averaged over STALLED_SECONDS."""
SMOOTHING = 0.1
"""How much one response time moves its endpoint's average."""
IDEMPOTENT = frozenset({b"GET", b"HEAD", b"OPTIONS", b"TRACE", b"PUT", b"DELETE"})

CARRIAGE_RETURN = 0x0D
NO_BLOCK = b"none"
"""Not a block of lines: equals no request's."""

HEAD, BODY, WAIT, TUNNEL, LINGER, CLOSED = range(6)


class Client(asyncio.Protocol):
    __slots__ = (
        "address", "affine", "attempts", "block", "body_left", "body_seen", "buffer", "chunks", "connecting",
        "deadline", "endpoint", "half_closed", "is_head", "keep_alive", "listener", "local_port", "minor", "out",
        "peer", "plain_body", "reading", "replayable", "request", "request_done", "responding", "started", "state",
        "status", "sweeper", "tail", "transport", "trusted", "upstream", "upstream_keeps_alive", "wants_upgrade",
    )  # fmt: skip

    def __init__(self, listener: Listener, peer: tuple[str, int] | None = None) -> None:
        # `peer`: who is behind the proxy that has connected, if that is known.
        self.peer = peer
        self.listener = listener
        self.sweeper = listener.sweeper
        self.transport: asyncio.Transport | None = None
        self.state = HEAD
        self.buffer = b""
        self.deadline = NEVER
        self.reading = True
        self.half_closed = False
        # What the last request's fields were and meant (see `_parse`).
        self.block = NO_BLOCK
        self.minor = self.tail = b""
        # Of the request in progress:
        self.request: Request | None = None
        self.upstream: Upstream | None = None
        self.endpoint: Endpoint | None = None
        self.connecting: asyncio.Task[None] | None = None
        self.chunks: ChunkReader | None = None
        self.out = b""
        self.body_left = self.body_seen = self.attempts = self.status = 0
        self.started = 0.0
        self.affine = self.is_head = self.keep_alive = self.plain_body = self.replayable = False
        self.request_done = self.responding = self.upstream_keeps_alive = self.wants_upgrade = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        peer, local = self.peer or transport.get_extra_info("peername"), transport.get_extra_info("sockname")
        self.address = plain_address(peer[0]) if peer else "unknown"
        self.local_port = local[1] if local else 0
        self.trusted = self.listener.trusts(self.address)
        self.listener.connections.add(self)
        self.sweeper.add(self)
        self.deadline = self.sweeper.now + self.listener.backend.options.header_timeout

    # -- the request ------------------------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        state = self.state
        if state == HEAD:
            self._head(self.buffer + data if self.buffer else data)
        elif state == BODY:
            self._body(data, 0)
        elif state == TUNNEL:
            self._tunnel(data)
        elif state == WAIT:
            self.buffer += data
            if len(self.buffer) > MAX_EARLY and self.reading:
                self.pause_reading()

    def _head(self, data: bytes) -> None:
        end = data.find(b"\r\n\r\n")
        if end <= 0 or data[0] == CARRIAGE_RETURN:
            self._incomplete_head(data)
            return
        if end > MAX_HEAD:
            self._refuse(431, f"the head is longer than {MAX_HEAD} bytes")
            return
        try:
            self._begin(self._parse(data, end), data, end + 4)
        except Refused as refused:
            self._refuse(refused.status, refused.reason)
            return
        self._dispatch()

    def _parse(self, data: bytes, end: int) -> Request:
        """The request whose head is `data[:end]`. Raises Refused.

        A client repeats its fields from request to request: if they are those of its last one, byte by byte, only
        the request line is new (1.9 µs less than parsing them again).
        """
        first = REQUEST_LINE.match(data)
        if first is None:
            raise refuse_request_line(data)
        block = data[first.end() : end + 2]
        request = self.request
        if block != self.block or request is None or first[3] != self.minor:
            request = self.request = parse_fields(first, block)
            # A target that is not a path says something about the host; its meaning is not kept.
            self.block = block if first[2][0] == SLASH else NO_BLOCK
            self.minor = first[3]
            self.tail = self._tail(request)
            return request
        method, target, _ = first.groups()
        if target[0] != SLASH or len(target) > MAX_TARGET:
            self.block = NO_BLOCK
            return self._parse(data, end)
        request.method, request.target = method, target
        return request

    def _incomplete_head(self, data: bytes) -> None:
        """A head of which the end is not here yet, or that begins with an empty line."""
        if data[:2] == b"\r\n":
            # An empty line before the request line, as old clients send, is skipped once (RFC 9112, 2.2).
            data = data[2:]
            if data[:2] == b"\r\n":
                self._refuse(400, "empty lines instead of a request (RFC 9112, 2.2)")
                return
            if data:
                self._head(data)
                return
        elif data[0] == CARRIAGE_RETURN and len(data) > 1:
            self._refuse(400, "a CR without LF before the request line (RFC 9112, 2.2)")
            return
        if not self.buffer and data:
            self.deadline = self.sweeper.now + self.listener.backend.options.header_timeout
        self.buffer = data
        if len(data) > MAX_HEAD:
            self._refuse(431, f"the head is longer than {MAX_HEAD} bytes")
        elif data.count(b"\n") != data.count(b"\r\n"):
            self._refuse(400, "a line is ended by LF alone (RFC 9112, 2.2)")

    def _begin(self, request: Request, data: bytes, body: int) -> None:
        """Take a request in: framing first, then what is to be sent. Raises Refused."""
        self.started = perf_counter()
        self.is_head = request.method == b"HEAD"
        self.keep_alive = request.keep_alive and not self.half_closed and not self.listener.closing
        self.wants_upgrade = bool(request.upgrade)
        self.plain_body = False
        self.status = self.attempts = 0
        options = self.listener.backend.options
        self.affine = bool(options.hash_key or options.sticky_cookie)
        length = request.length
        self.buffer = b""
        if length == 0:
            self.state, self.request_done = WAIT, True
            if len(data) > body:
                self.buffer = data[body:]
            self.out = self._upstream_head(request)
        else:
            self.state, self.request_done = BODY, False
            limit = self.listener.backend.options.max_body
            if limit and length > limit:
                raise Refused(413, f"the body is longer than {limit} bytes")
            self.out = self._upstream_head(request)
            self.chunks = ChunkReader() if length == CHUNKED else None
            self.body_left = length
            self.body_seen = 0
            self._body(data, body)
        self.replayable = request.method in IDEMPOTENT

    def _tail(self, request: Request) -> bytes:
        """What follows the request line on the way to the replica, up to the request id."""
        authority = request.authority or b""
        if self.trusted and request.forwarded:
            lines = extended_lines(self.address, "http", self.local_port, authority, request.forwarded)
        else:
            lines = field_lines(self.address, "http", self.local_port, authority)
        if request.upgrade:
            lines += b"Connection: upgrade\r\nUpgrade: " + request.upgrade + b"\r\n"
        return b" HTTP/1.1\r\n" + request.fields + lines + b"X-Request-Id: "

    def _upstream_head(self, request: Request) -> bytes:
        request_id = request.request_id or self.listener.ids.next()
        return b"%b %b%b%b\r\n\r\n" % (request.method, request.target, self.tail, request_id)

    def _body(self, data: bytes, start: int) -> None:
        """Forward a piece of the request's body. Raises Refused only from within `_begin`."""
        end = len(data)
        if self.chunks is not None:
            try:
                end = self.chunks.feed(data, start)
            except Refused as refused:
                self._refuse(refused.status, refused.reason)
                return
            done = self.chunks.done
        else:
            end = min(end, start + self.body_left)
            self.body_left -= end - start
            done = self.body_left == 0
        self.body_seen += end - start
        limit = self.listener.backend.options.max_body
        if limit and self.body_seen > limit:
            self._refuse(413, f"the body is longer than {limit} bytes")
            return
        piece = data if start == 0 and end == len(data) else data[start:end]
        if done:
            self.state, self.request_done, self.chunks = WAIT, True, None
            self.buffer = data[end:]
            self.deadline = self._response_deadline()
        if self.upstream is None:
            self.out += piece
            if len(self.out) > MAX_EARLY and not done:
                self.pause_reading()
        elif self.upstream.transport is not None:
            if self.replayable and len(self.out) + len(piece) <= MAX_REPLAY:
                self.out += piece
            else:
                self.replayable = False
            self.upstream.transport.write(piece)

    def _response_deadline(self) -> float:
        seconds = self.listener.backend.options.response_timeout
        return self.sweeper.now + seconds if seconds else NEVER

    # -- choosing a replica -----------------------------------------------------------------------------------------

    def _dispatch(self) -> None:
        if self.state not in (BODY, WAIT):
            return
        backend = self.listener.backend
        endpoint = self._chosen() if self.affine else backend.pick()
        if endpoint is None:
            if not backend.wait(self, self.sweeper.now):
                self._answer(503, "no replica of the service can be reached")
            return
        if self.state == BODY:
            self.deadline = self.sweeper.now + STALLED_SECONDS
        else:
            seconds = backend.options.response_timeout
            self.deadline = self.sweeper.now + seconds if seconds else NEVER
        idle = endpoint.idle
        if idle and (self.replayable or self.sweeper.now - idle[-1].idle_since < FRESH_SECONDS):
            upstream = idle.pop()
            endpoint.open += 1
            self.endpoint = endpoint
            self.upstream = upstream
            upstream.begin(self, self.out)
        else:
            self.connecting = asyncio.get_running_loop().create_task(self._connect(endpoint))

    def _chosen(self) -> Endpoint | None:
        """The endpoint that the request belongs to, by cookie or by hash."""
        backend, request = self.listener.backend, self.request
        options = backend.options
        assert request is not None
        if options.sticky_cookie:
            tag = cookie(request.fields, options.sticky_cookie)
            endpoint = backend.tagged(tag) if tag else None
            if endpoint is not None and not self.attempts:
                return endpoint
        return backend.pick(request_key(options, request, self.address) if options.hash_key else 0)

    async def _connect(self, first: Endpoint) -> None:
        backend = self.listener.backend
        try:
            endpoint, upstream = await connect_any(backend, first, self._new_upstream, self.sweeper)
        except NoEndpoint as error:
            self.connecting = None
            self._connect_later(str(error))
            return
        self.connecting = None
        if self.state not in (BODY, WAIT) or upstream.transport is None:
            endpoint.released()
            upstream.close()
            if self.state in (BODY, WAIT):
                self._answer(502, "the backend closed the connection")
            return
        self.endpoint = endpoint
        self.upstream = upstream
        upstream.begin(self, self.out)
        self.resume_reading()

    def _connect_later(self, reason: str) -> None:
        """Nobody answers: as with no endpoint at all, the request waits for one, within the same time."""
        if perf_counter() - self.started < self.listener.backend.options.queue_timeout:
            asyncio.get_running_loop().call_later(RECONNECT_SECONDS, self._dispatch)
        else:
            self._answer(502, reason)

    def _new_upstream(self, endpoint: Endpoint) -> Upstream:
        return Upstream(endpoint, self.sweeper)

    def endpoint_ready(self) -> None:
        self._dispatch()

    def refuse_waiting(self, reason: str) -> None:
        self._answer(503, reason)

    def upstream_failed(self, reason: str, untouched: bool) -> None:
        """The connection to the replica broke. `untouched`: before it sent anything."""
        endpoint, reused = self._release()
        if self.responding:
            self._count(endpoint, self.status)
            if self.transport:
                if self.plain_body:
                    self.transport.abort()
                else:
                    self.state = CLOSED
                    self.transport.close()
            return
        self.attempts += 1
        if untouched and self.replayable and self.attempts <= self.listener.backend.options.retries:
            if endpoint:
                endpoint.retries += 1
                if not reused:
                    endpoint.failed(reason, self.sweeper.now)
            self._dispatch()
            return
        self._count(endpoint, 502)
        self._answer(502, reason)

    def _release(self) -> tuple[Endpoint | None, bool]:
        """Let the replica go; returns it, and whether its connection had served before."""
        endpoint, upstream = self.endpoint, self.upstream
        self.endpoint = self.upstream = None
        if endpoint:
            endpoint.released()
        return endpoint, upstream is not None and upstream.reused

    # -- the response -----------------------------------------------------------------------------------------------

    def respond(self, response: Response, data: bytes, end: int, complete: bool) -> None:
        """The final head (`data[:end]`), and what there is of the body after it."""
        transport = self.transport
        if transport is None:
            return
        self.responding = True
        self.status = response.status
        request = self.request
        if not complete:
            self.deadline = NEVER
            if response.length == UNTIL_CLOSE:
                self.keep_alive = False
        if self.state == BODY:
            self.keep_alive = False
        if self.keep_alive and request.minor and not self.affine:  # type: ignore[union-attr]
            transport.write(data if response.untouched else response.head + data[end + 2 :])
            return
        transport.write(self._changed_head(response) + data[end + 2 :])

    def _changed_head(self, response: Response) -> bytes:
        """The head to send where it is not the replica's own: other persistence or version, a cookie to set."""
        request, head = self.request, response.head
        assert request is not None
        if self.affine:
            options = self.listener.backend.options
            name, endpoint = options.sticky_cookie, self.endpoint
            if name and endpoint and cookie(request.fields, name) != endpoint.tag:
                head += set_cookie(options, endpoint.tag)
        if response.length == CHUNKED and request.minor == 0:
            self.plain_body = True
            self.keep_alive = False
            for line in head.split(b"\r\n"):
                if line[:18].lower() == b"transfer-encoding:":
                    head = without_line(head, line)
        if not self.keep_alive:
            return head + b"Connection: close\r\n"
        return head if request.minor else head + b"Connection: keep-alive\r\n"

    def interim(self, response: Response) -> None:
        """A 1xx response other than 101 goes by; HTTP/1.0 clients know none."""
        if self.transport and self.request and self.request.minor:
            self.transport.write(response.head + b"\r\n")

    def forward(self, data: bytes) -> None:
        """A piece of the response's body, or of a tunnel."""
        if self.transport is not None:
            self.transport.write(data)

    def response_done(self) -> None:
        endpoint = self.endpoint
        self.upstream = self.endpoint = None
        if endpoint is not None:
            self._count(endpoint, self.status)
            endpoint.released()
        self.out = b""
        self._next()

    def _count(self, endpoint: Endpoint | None, status: int) -> None:
        if endpoint is None:
            return
        seconds = perf_counter() - self.started
        endpoint.codes[status // 100] += 1
        endpoint.latency[bisect_left(LATENCY_BUCKETS, seconds)] += 1
        endpoint.latency_sum += seconds
        endpoint.load += (seconds - endpoint.load) * SMOOTHING
        if status >= 500:
            endpoint.server_error(self.sweeper.now)
        elif endpoint.errors:
            endpoint.errors = 0

    def _next(self) -> None:
        """After a complete response: the next request, or the end."""
        if self.transport is None:
            return
        if self.state == BODY:
            self._linger()
        elif not self.keep_alive:
            self.state = CLOSED
            self.transport.close()
        else:
            self.state = HEAD
            self.responding = False
            self.deadline = self.sweeper.now + self.listener.backend.options.keepalive_timeout
            if self.buffer:
                asyncio.get_running_loop().call_soon(self._pipelined)
            if not self.reading:
                self.resume_reading()

    def _pipelined(self) -> None:
        if self.state == HEAD and self.buffer:
            data, self.buffer = self.buffer, b""
            self._head(data)

    def _answer(self, status: int, reason: str) -> None:
        """An answer of the gateway's own to a request that is in order."""
        if self.transport is None or self.state not in (BODY, WAIT):
            return
        self.status = status
        if self.state == BODY or (self.request and self.request.minor == 0):
            self.keep_alive = False
        self.transport.write(reply(status, reason, self.keep_alive, is_head=self.is_head))
        self.out = b""
        self._next()

    def _refuse(self, status: int, reason: str) -> None:
        """Answer a request that is not in order, and close: what follows cannot be trusted to be a request."""
        if self.upstream:
            upstream = self.upstream
            self._release()
            upstream.close()
        if self.connecting:
            self.connecting.cancel()
        if self.transport is None or self.state in (LINGER, CLOSED):
            return
        if self.responding:
            self.transport.abort()
            return
        self.transport.write(reply(status, reason, False))
        self._linger()

    def _linger(self) -> None:
        """Close in a way that the answer arrives: end our side, read on for a moment."""
        self.state = LINGER
        self.buffer = b""
        self.deadline = self.sweeper.now + LINGER_SECONDS
        if self.transport:
            self.resume_reading()
            self.transport.write_eof()

    # -- tunnels ----------------------------------------------------------------------------------------------------

    def switch(self, response: Response, rest: bytes) -> None:
        """101: from here on bytes are bytes."""
        self.status, self.responding = 101, True
        self.state = TUNNEL
        self.body_seen = 0
        self.deadline = self.sweeper.now + (self.listener.backend.options.idle_timeout or NEVER)
        self.forward(
            b"%bConnection: upgrade\r\nUpgrade: %b\r\n\r\n%b"
            % (response.head, response.upgrade or self.request.upgrade, rest)  # type: ignore[union-attr]
        )
        if self.buffer:
            data, self.buffer = self.buffer, b""
            self._tunnel(data)

    def _tunnel(self, data: bytes) -> None:
        self.body_seen += len(data)
        if self.upstream and self.upstream.transport:
            self.upstream.transport.write(data)

    def tunnel_eof(self) -> None:
        if self.transport:
            self.transport.write_eof()

    # -- flow, time and the end -------------------------------------------------------------------------------------

    def pause(self) -> None:
        """The replica cannot take more of the body."""
        self.pause_reading()

    def resume(self) -> None:
        self.resume_reading()

    def pause_reading(self) -> None:
        if self.reading and self.transport:
            self.reading = False
            self.transport.pause_reading()

    def resume_reading(self) -> None:
        if not self.reading and self.transport:
            self.reading = True
            self.transport.resume_reading()

    def pause_writing(self) -> None:
        self.deadline = self.sweeper.now + STALLED_SECONDS
        if self.upstream and self.upstream.transport:
            self.upstream.transport.pause_reading()

    def resume_writing(self) -> None:
        self.deadline = NEVER
        if self.upstream and self.upstream.transport:
            self.upstream.transport.resume_reading()

    def expire(self) -> None:
        """A time-out of the phase that the connection is in."""
        waiting = self.listener.backend.waiting
        if self.state == HEAD and self.buffer:
            self._refuse(408, "the head of the request did not arrive in time")
        elif self.state in (BODY, WAIT) and self in waiting:
            self.listener.backend.forget(self)
            self._answer(503, "no replica of the service became ready in time")
        elif self.state == BODY and not self.responding:
            if self.body_seen > SLOWEST * STALLED_SECONDS:
                self.body_seen = 0
                self.deadline = self.sweeper.now + STALLED_SECONDS
            else:
                self._refuse(408, "the body of the request arrives too slowly")
        elif self.state == WAIT and not self.responding:
            upstream = self.upstream
            endpoint, _ = self._release()
            if upstream:
                upstream.close()
            self._count(endpoint, 504)
            self._answer(504, "the replica did not answer in time")
        elif self.state == TUNNEL and self.body_seen:
            self.body_seen = 0
            self.deadline = self.sweeper.now + self.listener.backend.options.idle_timeout
        elif self.transport:
            self.transport.abort()

    def stop(self) -> None:
        """The worker stops: an idle connection ends now, a busy one after its response."""
        self.keep_alive = False
        if self.state == HEAD and not self.buffer and self.transport:
            self.state = CLOSED
            self.transport.close()

    def eof_received(self) -> bool:
        """A client may close its side and still read: the request in progress is answered."""
        self.half_closed = True
        if self.state == TUNNEL:
            if self.upstream and self.upstream.transport:
                self.upstream.transport.write_eof()
            return True
        if self.state == WAIT:
            self.keep_alive = self.keep_alive and bool(self.buffer)
            return True
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self.transport = None
        self.state = CLOSED
        self.sweeper.members.discard(self)
        self.listener.connections.discard(self)
        self.listener.backend.forget(self)
        if self.connecting:
            self.connecting.cancel()
        upstream = self.upstream
        endpoint, _ = self._release()
        if upstream:
            self._count(endpoint, self.status if self.responding else 499)
            upstream.close()
