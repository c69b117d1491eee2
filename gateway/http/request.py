"""What a client asks: the requests of one connection, read, checked and prepared for a replica.

Requests that arrive early (pipelining) are kept, bounded, and served in order. A request that is not in order is
answered and the connection closed: what follows cannot be trusted to be a request.
"""

import asyncio
import re
from time import perf_counter

from essaim.gateway.codec.http1.chunked import ChunkReader
from essaim.gateway.codec.http1.head import MAX_TARGET, REQUEST_LINE, SLASH, parse_fields, parse_request
from essaim.gateway.codec.message import CHUNKED, IDEMPOTENT, Refused, Request
from essaim.gateway.protocol.options import ServiceOptions
from essaim.gateway.protocol.tls_policy import TlsPolicy
from essaim.gateway.routing.call import Answer, BodyWanted, Call, Undecided
from essaim.gateway.routing.matchers import Asked
from essaim.gateway.routing.paths import normal
from essaim.gateway.routing.router import Router
from essaim.gateway.runtime.deadlines import NEVER
from essaim.gateway.runtime.sources import Sources

from .downstream import (
    BODY,
    CLOSED,
    HEAD,
    LINGER,
    LINGER_SECONDS,
    NO_BLOCK,
    STALLED_SECONDS,
    TUNNEL,
    WAIT,
    Downstream,
)
from .forwarded import extended_lines, field_lines
from .held_body import Gathering, Held
from .reply import reply

MAX_HEAD = 64 << 10
MAX_EARLY = 64 << 10
MAX_REPLAY = 64 << 10
CARRIAGE_RETURN = 0x0D
TARGET = re.compile(rb"/[!\"$-~]*")
HTTP_VERSION = b" HTTP/1.1\r\n"
ACME_PATH = b"/.well-known/acme-challenge/"
SCHEMES = {b"http": "http", b"https": "https", b"ws": "http", b"wss": "https"}
"""What a proxy may say that its client spoke, and what that is to rules and middlewares."""


class Intake(Downstream):
    __slots__ = ()

    def _dispatch(self) -> None:
        """Send the request that was taken in to a replica."""
        raise NotImplementedError

    def _answer(
        self, status: int, reason: str, lines: bytes = b"", body: bytes | None = None, *, relayed: bool = False
    ) -> None:
        """An answer of the gateway's own (or one that it relays) to a request that is in order."""
        raise NotImplementedError

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
            if self.gathering is not None:
                self._gathered(data, 0)
            elif len(self.buffer) > MAX_EARLY and self.reading:
                self.pause_reading()
        elif state == LINGER:
            self.deadline = min(self.deadlines.now + LINGER_SECONDS, self.lingers_until)

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
        except Answer as answer:
            self._answer(answer.status, answer.reason, answer.lines, answer.body, relayed=answer.relayed)
            return
        except Undecided as undecided:
            self._pause(undecided, data, end + 4)
            return
        except Exception as error:
            self._broken(error)
            return
        self._dispatch()

    def _broken(self, error: Exception) -> None:
        """A fault of the gateway's own: this request fails, and its connection ends; no other one's does."""
        asyncio.get_running_loop().call_exception_handler(
            {"message": "a request broke the gateway", "exception": error}
        )
        self._refuse(500, "the gateway cannot serve this request")

    def _pause(self, undecided: Undecided, data: bytes, body: int) -> None:
        """Keep everything of the request until its middleware can decide: `data`, of which the head ends at `body`."""
        self.deadline = NEVER
        self.state, self.buffer = WAIT, data
        if isinstance(undecided, BodyWanted):
            self._gather(undecided, data, body)
            return
        self.paused = self.listener.pending.settle(undecided, self._resume)
        if self.paused is None:
            # As if in the middle of the body: what follows is not read as a request.
            self.state = BODY
            self._answer(503, "too many requests are waiting for authorization; try again later")

    def _gather(self, wanted: BodyWanted, data: bytes, body: int) -> None:
        """Wait for the request's whole body; what it is held by is given back when the request is over."""
        request, call = self.request, self.call
        assert request is not None
        assert call is not None
        held = Held(self.listener.pending.auth_servers.room)
        call.after.append(lambda status, seconds: held.release())
        self.gathering = Gathering(wanted, request.length, held)
        self.deadline = self.deadlines.now + STALLED_SECONDS
        self.body_seen = self.taken = self.looked = 0
        if request.expects_continue and len(data) == body and self.transport is not None:
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        self._gathered(data, body)

    def _gathered(self, data: bytes, start: int) -> None:
        """A piece of a body that is wanted whole."""
        gathering = self.gathering
        assert gathering is not None
        self.body_seen += len(data) - start
        try:
            done = gathering.feed(data, start)
        except Refused as refused:
            self._refuse(refused.status, refused.reason)
            return
        if done:
            self.gathering = None
            self.deadline = NEVER
            self._resume()
        elif self.half_closed:
            self._cut_short()

    def _cut_short(self) -> None:
        self._refuse(400, "the connection ended before the body was complete (RFC 9112, 8)")

    def _resume(self) -> None:
        """The middleware can decide now."""
        self.paused = None
        if self.transport is None or self.state != WAIT:
            return
        data, self.buffer = self.buffer, b""
        self.state, self.resuming = HEAD, True
        if not self.reading:
            self.resume_reading()
        self._head(data)

    def _parse(self, data: bytes, end: int) -> Request:
        """The request whose head is `data[:end]`. Raises Refused.

        A client repeats its fields from request to request: if they are those of its last one, byte by byte, only
        the request line is new (1.9 µs less than parsing them again).
        """
        first = REQUEST_LINE.match(data)
        if first is None:
            # Off the beaten track: a target beyond ASCII, or no request.
            self.block = NO_BLOCK
            odd = self.request = parse_request(data[: end + 2])
            self.tail = self._tail(odd)
            return odd
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
            self.deadline = self.deadlines.now + self.backend.options.header_timeout
        self.buffer = data
        if self.half_closed and self.transport:
            # The rest will not come.
            self.state = CLOSED
            self.transport.close()
        elif len(data) > MAX_HEAD:
            self._refuse(431, f"the head is longer than {MAX_HEAD} bytes")
        elif data.count(b"\n") != data.count(b"\r\n"):
            self._refuse(400, "a line is ended by LF alone (RFC 9112, 2.2)")

    def _begin(self, request: Request, data: bytes, body: int) -> None:
        """Take a request in: framing first, then what is to be sent. Raises Refused, Answer and Undecided."""
        if not self.resuming:
            self.started = perf_counter()
        self.backend = self.listener.backend
        self.is_head = request.method == b"HEAD"
        self.keep_alive = request.keep_alive and not self.listener.closing
        self.wants_upgrade = bool(request.upgrade)
        self.plain_body = False
        self.status = self.attempts = 0
        length = request.length
        self.buffer = b""
        self.state = BODY if length else WAIT
        self.request_done = not length
        if not length and len(data) > body:
            self.buffer = data[body:]
        listener, tls = self.listener, self.tls
        router = listener.router if tls is None else listener.secure
        if router is None:
            self.call, self.resuming = None, False
            options = self.backend.options
            self._believe(options, request)
            if tls is not None:
                self._check_guard(tls.policy, options.tls.policy)
            self.out = self._upstream_head(request)
            if self.trusted and (most := options.max_per_source):
                self._count_caller(listener.callers, most)
        else:
            self.out = self._routed_head(request, router)
            # From here on it is the service of the route that says what becomes of the request.
            options = self.backend.options
            if most := options.max_per_source:
                self._count_caller(self.backend.callers, most)
        self.affine = bool(options.hash_key or options.sticky_cookie)
        if length:
            limit = self._body_limit()
            if limit and length > limit:
                raise Refused(413, f"the body is longer than {limit} bytes")
            self.chunks = ChunkReader() if length == CHUNKED else None
            self.body_left = length
            self.body_seen = self.taken = self.looked = 0
            self._body(data, body)
            if self.half_closed and self.state == BODY:
                raise Refused(400, "the connection ended before the body was complete (RFC 9112, 8)")
        self.replayable = request.method in IDEMPOTENT
        # Who has ended its side may have asked for more before.
        self.keep_alive = self.keep_alive and (not self.half_closed or bool(self.buffer))

    def _tail(self, request: Request) -> bytes:
        """What follows the request line on the way to the replica, up to the request id."""
        authority, tls = request.authority or b"", self.tls
        scheme = "http" if tls is None else "https"
        if self.trusted and request.forwarded:
            proven = tls is not None and bool(tls.policy.client_mode)
            claimed = request.forwarded
            self.called_from = client = self.listener.client(self.address, request, self.believed)
            lines = extended_lines(
                self.address, client, scheme, authority, claimed, proven=proven, websocket=request.is_websocket
            )
        elif request.is_websocket:
            self.called_from = self.address
            lines = field_lines(self.address, scheme, authority, websocket=True)
        else:
            self.called_from = self.address
            if authority != self.authority:
                self.authority = authority
                self.lines = field_lines(self.address, scheme, authority)
            lines = self.lines
        if tls is not None:
            lines += tls.lines
        if request.upgrade:
            lines += b"Connection: upgrade\r\nUpgrade: " + request.upgrade + b"\r\n"
        return HTTP_VERSION + request.fields + lines + b"X-Request-Id: "

    def _upstream_head(self, request: Request) -> bytes:
        return b"%b %b%b%b\r\n\r\n" % (request.method, request.target, self.tail, self._request_id(request))

    def _request_id(self, request: Request) -> bytes:
        """A client's own is a claim like any other: it would choose by what its requests are found in everybody's
        logs, and give two requests one name."""
        return (request.request_id if self.trusted else b"") or self.listener.ids.next()

    def _routed_head(self, request: Request, router: Router) -> bytes:
        """Find the request's router and let its middlewares have their way. Raises Answer (and 404 with no router)."""
        if not self.resuming:
            # The last request's has nothing to say to this one.
            self.call = None
        path, _, query = request.target.partition(b"?")
        if self.listener.answers and path.startswith(ACME_PATH):
            self._answer_acme(path[len(ACME_PATH) :])
        path = normal(path)
        listener = self.listener
        if request.forwarded:
            # Rules are asked by whom the entry point trusts, not by whom the last request's service does.
            self._believe(listener.backend.options, request)
        route = router.find(Asked(request, path, query, self.called_from))
        backend = self.listener.backends.get(route.port_key) if route else self.backend
        if backend is not None:
            self._believe(backend.options, request)
        authority = request.authority or b""
        chain = route.chain if route else ()
        call = self.call if self.resuming else None
        self.resuming = False
        if call is None or call.chain is not chain:
            self._over(0)
            call = self.call = Call(
                request, path, query, request.fields, self.called_from, authority, self.started,
                self._scheme(request), self.trusted, self.local_port, self.tls is not None, chain=chain,
                peer=self.address,
            )  # fmt: skip
        if route is not None:
            if backend is None:
                raise Answer(503, "the service of this route is not there")
            self.backend = backend
            if self.tls is not None:
                self._check_guard(self.tls.policy, route.tls)
            call.proceed()
            if chain and not TARGET.fullmatch(call.target):
                raise Answer(500, "a middleware has made a path that is not valid")
        elif self.listener.alone or self.backend.tls != (self.tls is not None):
            raise Answer(404, "no route for this host and path")
        elif self.tls is not None:
            self._check_guard(self.tls.policy, self.backend.options.tls.policy)
        request_id = self._request_id(request)
        # The tail without its own copy of the fields, which the middlewares may have changed.
        tail = self.tail[len(HTTP_VERSION) + len(request.fields) :]
        return b"%b %b%b%b%b%b\r\n\r\n" % (request.method, call.target, HTTP_VERSION, call.fields, tail, request_id)

    def _believe(self, options: ServiceOptions, request: Request) -> None:
        """Whether the peer is believed is for the entry point to say, and for the service that the request is for."""
        if options is self.believed:
            return
        self.believed = options
        trusted = self.listener.trusts(self.address, options)
        # Two services may both believe the peer, but not the same hops before it.
        if trusted != self.trusted or (trusted and request.forwarded):
            self.trusted = trusted
            self.tail = self._tail(request)

    def _count_caller(self, callers: Sources, most: int) -> None:
        """`essaim.limit.source` for a client whose requests come by a proxy, or by a router. Raises Answer."""
        self._uncount()
        self.counted, self.counted_in = self.called_from, callers
        if not callers.enter(self.counted, most):
            raise Answer(429, "too many requests of this address are in progress")

    def _check_guard(self, came_by: TlsPolicy, wanted: TlsPolicy | None) -> None:
        """A connection that was let in by one service's rules does not get at another's, whatever Host it names."""
        if wanted is not None and came_by.guard != wanted.guard:
            self.keep_alive = False
            raise Answer(421, "this connection was not made for this host (RFC 9110, 15.5.20)")

    def _answer_acme(self, token: bytes) -> None:
        """HTTP-01 (RFC 8555, 8.3), before any router and its middlewares: who asks is to be sent nowhere else."""
        answer = self.listener.answers.get(token)
        if answer is not None:
            raise Answer(200, "", b"", answer)

    def _scheme(self, request: Request) -> str:
        """What the client speaks, as far as it is known: a trusted proxy may have ended its TLS."""
        if self.trusted:
            for _, value, line in request.forwarded:
                if line[:18].lower() == b"x-forwarded-proto:" and (spoken := SCHEMES.get(value.lower())):
                    return spoken
        return "http" if self.tls is None else "https"

    def _body_limit(self) -> int:
        """Bytes; 0 is none. The router's limit goes before the service's."""
        return (self.call.max_body if self.call else 0) or self.backend.options.max_body

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
        limit = self._body_limit()
        if limit and self.body_seen > limit:
            self._refuse(413, f"the body is longer than {limit} bytes")
            return
        piece = data if start == 0 and end == len(data) else data[start:end]
        if done:
            self.state, self.request_done, self.chunks = WAIT, True, None
            self.buffer = data[end:]
            if self.upstream is not None:
                self.deadline = self._response_deadline()
            elif self.connecting:
                self.deadline = NEVER
        if self.upstream is None:
            self.out += piece
            if len(self.out) > MAX_EARLY and not done:
                self.pause_reading()
        elif self.upstream.transport is not None:
            if self.replayable and len(self.out) + len(piece) <= MAX_REPLAY:
                self.out += piece
            else:
                self.replayable = False
            self.upstream.endpoint.bytes_in += len(piece)
            self.upstream.transport.write(piece)

    def _response_deadline(self) -> float:
        if self.responding:
            return self._streaming_deadline()
        seconds = self.backend.options.response_timeout
        return self.deadlines.now + seconds if seconds else NEVER

    def _pipelined(self) -> None:
        if self.state == HEAD and self.buffer:
            data, self.buffer = self.buffer, b""
            self._head(data)

    def _refuse(self, status: int, reason: str) -> None:
        """Answer a request that is not in order, and close: what follows cannot be trusted to be a request."""
        self.gathering = None
        self._over(status)
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
        if self.state == HEAD:
            # Before its head is read, a request is for whom the socket is.
            self.backend = self.listener.backend
            if self.backend.options.access_log:
                self._log_unread(status)
        elif self.backend.options.access_log:
            self._log(None, status)
        self._count(None, status)
        self.transport.write(reply(status, reason, False))
        self._linger()
