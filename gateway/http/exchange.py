"""One request and its response: which replica answers it, how often it is tried, for how long, and what is said of it.

Made by the client's codec for each request, and over with its response (`codec/interface.py` has what the two say to
each other, and what it says to the replica's codec). It knows no framing. What not every request needs is in objects of
its own, made when they are: `Call` (a router's middlewares), `Pending` (they cannot decide yet), `Attempts` (the queue,
connecting, trying again).

Rules:
- A method that is not idempotent does not ride on a connection that has been idle for more than a second.
- A request of which a part was sent is sent again only if all of it is still here (MAX_REPLAY).
- Each request is counted once: for the replica that had it last, or as the gateway's own answer.
"""

from time import perf_counter

from essaim.gateway.codec.interface import ClientStream
from essaim.gateway.codec.message import IDEMPOTENT, Refused, Request, Response
from essaim.gateway.routing.call import Answer, Call, Undecided
from essaim.gateway.runtime.deadlines import NEVER
from essaim.gateway.runtime.faults import report
from essaim.gateway.runtime.sources import Sources
from essaim.gateway.upstream.affinity import choose, cookie_line
from essaim.gateway.upstream.backend import CLIENT_LEFT, Endpoint
from essaim.gateway.upstream.connection import FRESH_SECONDS, Upstream

from .attempts import Attempts
from .client import Client
from .outcome import log_request
from .pending import MAX_EARLY, Pending
from .reply import gateway_answer, send_answer
from .routed import Routed, body_limit
from .timeouts import STALLED_SECONDS, expire, response_deadline, streaming_deadline

MAX_REPLAY = 64 << 10


class Exchange:
    __slots__ = (
        "affine", "attempts", "backend", "begun", "call", "called_from", "client", "counted", "deadlines", "endpoint",
        "held", "is_head", "looked", "out", "over", "pending", "plain_body", "received", "replayable", "request",
        "request_done", "responding", "sent", "started", "status", "stream", "tunnel", "upstream", "wants_upgrade",
    )  # fmt: skip

    def __init__(self, client: Client, stream: ClientStream) -> None:
        listener = client.listener
        self.client, self.stream = client, stream
        self.called_from = client.address
        # Whose replicas answer.
        self.backend = listener.backend
        self.deadlines = listener.deadlines
        self.started = perf_counter()
        self.request: Request | None = None
        # What a router and its middlewares made of it, and what they wait for.
        self.call: Call | None = None
        self.pending: Pending | None = None
        # Where and for whom it counts among the requests in progress of one client, if that is limited.
        self.counted: tuple[Sources, str] | None = None
        self.attempts: Attempts | None = None
        self.endpoint: Endpoint | None = None
        self.upstream: Upstream | None = None
        # What is sent to a replica, as long as it may have to be sent (again).
        self.out = b""
        # Bytes of the request's and the response's body (of a tunnel: each way); their sum when it was last looked at.
        self.received = self.sent = self.looked = self.status = 0
        # `held`: the client does not take what it is sent. `begun`: what has come with the head is here.
        self.over = self.begun = self.responding = self.tunnel = self.held = self.affine = self.plain_body = False

    # -- what the client's codec says --------------------------------------------------------------------------------

    def head(self, request: Request, complete: bool) -> None:
        self.request, self.request_done, self.begun, method = request, complete, complete, request.method
        self.is_head, self.replayable = method == b"HEAD", method in IDEMPOTENT
        self.wants_upgrade = bool(request.upgrade)
        self.decide()

    def data(self, piece: bytes, complete: bool) -> None:
        self.received += len(piece)
        if self.tunnel:
            _tunnel(self, piece, complete)
            return
        if self.over:
            return
        if complete:
            self.request_done = True
        if self.pending is not None:
            self.pending.feed(piece)
            return
        limit = body_limit(self.call, self.backend.options)
        upstream = self.upstream
        if limit and self.received > limit:
            self.refuse(413, f"the body is longer than {limit} bytes")
        elif upstream is None:
            _keep(self, piece)
        else:
            if complete:
                self.stream.deadline = response_deadline(self, self.backend.options, self.deadlines.now)
            if self.replayable and len(self.out) + len(piece) <= MAX_REPLAY:
                self.out += piece
            else:
                self.replayable = False
            upstream.send(piece)

    def proceed(self) -> None:
        """Send the request to a replica: once what has come with its head is here, and whenever it may be tried."""
        self.begun = True
        if self.over:
            return
        if self.pending is not None:
            self.pending.invite()
            return
        backend, stream, now = self.backend, self.stream, self.deadlines.now
        if self.affine and self.request is not None:
            again = self.attempts is not None and self.attempts.failed > 0
            endpoint = choose(backend, self.request, self.called_from, again=again)
        else:
            endpoint = backend.pick()
        if endpoint is None:
            self.attempts = self.attempts or Attempts(self)
            self.attempts.queue()
            return
        if self.request_done:
            seconds = backend.options.response_timeout
            stream.deadline = now + seconds if seconds else NEVER
        else:
            stream.deadline = now + STALLED_SECONDS
        idle = endpoint.idle
        if idle and (self.replayable or now - idle[-1].idle_since < FRESH_SECONDS):
            upstream = idle.pop()
            endpoint.open += 1
            self.endpoint, self.upstream = endpoint, upstream
            # Before the write, which may say that it is enough for now.
            if not stream.reading:
                stream.resume_reading()
            upstream.begin(self, self.out)
        else:
            # Connecting has a time of its own, and moves on to other replicas.
            stream.deadline = NEVER if self.request_done else stream.deadline
            self.attempts = self.attempts or Attempts(self)
            self.attempts.connect(endpoint)

    def refuse(self, status: int, reason: str) -> None:
        if self.over:
            return
        endpoint = self._give_back()
        if self.responding:
            self._finish(endpoint, self.status, endpoint)
            self.stream.abort()
            return
        self._finish(None, status)
        self.stream.keep_alive = False
        send_answer(self.stream, status, *gateway_answer(status, reason))
        self.stream.drop()

    def reset(self, orderly: bool) -> None:
        if self.over:
            return
        status = self.status if self.responding else CLIENT_LEFT
        upstream, self.upstream = self.upstream, None
        endpoint = self._give_back()
        # A tunnel is ended by either side.
        self._finish(endpoint, status, endpoint, status if self.tunnel else CLIENT_LEFT)
        if upstream is not None and self.tunnel and orderly:
            upstream.end()
        elif upstream is not None:
            upstream.close()

    def pause(self) -> None:
        self.held = True
        if self.upstream is not None:
            self.upstream.hold()

    def resume(self) -> None:
        self.held = False
        self.stream.deadline = streaming_deadline(self, self.backend.options, self.deadlines.now)
        if self.upstream is not None:
            self.upstream.release()

    def expire(self) -> None:
        queued = bool(self.attempts and self.attempts.queued)
        gathering = bool(self.pending and self.pending.gathering)
        expire(self, self.backend.options, self.deadlines.now, queued=queued, gathering=gathering)

    # -- what the replica's codec says -------------------------------------------------------------------------------

    def respond(self, response: Response, data: bytes, body: int, complete: bool) -> None:
        self.responding = True
        self.status = response.status
        if not complete:
            self.stream.deadline = streaming_deadline(self, self.backend.options, self.deadlines.now)
        head = None
        if self.affine or self.call is not None:
            head = response.head
            if self.affine and self.endpoint and self.request:
                head += cookie_line(self.backend.options, self.request, self.endpoint.tag)
            if self.call is not None:
                head = self.call.edit(head)
        self.stream.respond(response, head, data, body, complete)

    def forward(self, data: bytes) -> None:
        self.sent += len(data)
        self.stream.write(data)

    def trailers(self, fields: bytes) -> None:
        self.stream.trailers(fields)

    def response_done(self) -> None:
        endpoint = self.endpoint
        self.upstream = self.endpoint = None
        self._finish(endpoint, self.status, endpoint)
        if endpoint is not None:
            endpoint.released()
        self.stream.end(self.backend.options.keepalive_timeout)

    def interim(self, response: Response) -> None:
        self.stream.interim(response)

    def switch(self, response: Response, rest: bytes) -> None:
        self.status = 101
        self.responding = self.tunnel = True
        self.sent += len(rest)
        self.stream.deadline = streaming_deadline(self, self.backend.options, self.deadlines.now)
        protocol = response.upgrade or (self.request.upgrade if self.request else b"")
        self.stream.switch(response, protocol, rest)

    def tunnel_ended(self) -> None:
        self.stream.tunnel_ended()

    def upstream_failed(self, reason: str, untouched: bool) -> None:
        if self.responding:
            if self.call is not None:
                self.call.end(502, perf_counter() - self.started)
            endpoint = self._give_back()
            self._finish(endpoint, self.status, endpoint)
            self.stream.reset()
            return
        attempts = self.attempts = self.attempts or Attempts(self)
        attempts.failed += 1
        retries = self.backend.options.retries if self.call is None or self.call.retries is None else self.call.retries
        if not (untouched and self.replayable and attempts.failed <= retries):
            self.answer(502, reason)
            return
        reused = self.upstream is not None and self.upstream.reused
        endpoint = self._give_back()
        if endpoint is not None:
            endpoint.retries += 1
            if not reused:
                endpoint.failed(reason, self.deadlines.now)
        attempts.again(self.call.retry_pause if self.call else 0.0)

    def pause_sending(self) -> None:
        self.stream.pause_reading()

    def resume_sending(self) -> None:
        self.stream.resume_reading()

    def decide(self) -> None:
        """Find out who is to answer, and let the middlewares pass the request, or go on where they could not decide."""
        request, self.pending = self.request, None
        if self.over or request is None:
            return
        try:
            _admit(self, request)
        except Answer as said:
            self.stream.keep_alive = self.stream.keep_alive and not said.last
            self.answer(said.status, said.reason, said.lines, said.body, relayed=said.relayed)
        except Undecided as undecided:
            assert self.call is not None
            pending = self.pending = Pending(self, request)
            if not pending.settle(undecided, self.call, self.client.listener.pending):
                self.answer(503, "too many requests are waiting for authorization; try again later")
            return
        except Refused as refused:
            self.refuse(refused.status, refused.reason)
        except Exception as error:
            # This request fails, and its connection ends; no other one's does.
            report("a request broke the gateway", error)
            self.refuse(500, "the gateway cannot serve this request")
        if self.begun:
            self.proceed()

    def connected(self, endpoint: Endpoint, upstream: Upstream) -> None:
        self.endpoint, self.upstream = endpoint, upstream
        if self.request_done:
            self.stream.deadline = response_deadline(self, self.backend.options, self.deadlines.now)
        self.stream.resume_reading()
        upstream.begin(self, self.out)

    def answer(
        self, status: int, reason: str, lines: bytes = b"", body: bytes | None = None, *, relayed: bool = False
    ) -> None:
        """The gateway's own answer (or one that it relays), also in place of a replica that fails to."""
        if self.over:
            return
        self._finish(self._give_back(), status)
        head, content = gateway_answer(status, reason, lines, body, relayed=relayed)
        if self.call is not None:
            head = self.call.edit(head)
        send_answer(self.stream, status, head, b"" if self.is_head else content)
        self.stream.end(self.backend.options.keepalive_timeout)

    def _give_back(self) -> Endpoint | None:
        """Wait for nothing any more, and let the replica go, which is returned."""
        endpoint, upstream = self.endpoint, self.upstream
        self.endpoint = self.upstream = None
        if self.pending is not None:
            self.pending.cancel()
            self.pending = None
        if self.attempts is not None:
            self.attempts.cancel()
        if upstream is not None:
            upstream.close()
        if endpoint is not None:
            endpoint.released()
        return endpoint

    def _finish(self, counts: Endpoint | None, status: int, answered: Endpoint | None = None, logged: int = 0) -> None:
        """Count and log it. `counts`: whose request it was; `answered`: who has; None: the gateway. `logged`: the
        status in the log, if it is another one."""
        self.over = True
        seconds = perf_counter() - self.started
        if self.call is not None:
            self.call.end(status, seconds)
        if self.counted is not None:
            callers, caller = self.counted
            callers.leave(caller)
        if counts is not None:
            counts.count(status, seconds, self.deadlines.now)
        else:
            answers = self.backend.answers
            answers[status] = answers.get(status, 0) + 1
        if self.backend.options.access_log:
            log_request(
                self.client.listener.log, self.backend, self.request, answered, logged or status, seconds,
                self.called_from, self.call.user if self.call else b"",
            )  # fmt: skip


def _admit(exchange: Exchange, request: Request) -> None:
    """What is sent to the replica, and whose it is. Raises Refused, Answer and Undecided."""
    client = exchange.client
    listener = client.listener
    if request is not client.request:
        client.introduce(request)
    router = listener.router if client.tls is None else listener.secure
    if router is None:
        options = exchange.backend.options
        if options is not client.believed:
            client.believe(options, request)
        exchange.called_from = client.called_from
        if client.tls is not None:
            client.check_guard(options.tls.policy)
        head = client.head(request)
        callers = listener.callers if client.trusted or client.many else None
    else:
        routed = Routed(client, router, request)
        exchange.called_from = client.called_from
        call = exchange.call = routed.call(client, request, exchange.started, exchange.call)
        exchange.backend = routed.backend or exchange.backend
        routed.admit(client, call)
        head = client.changed_head(request, call.target, call.fields)
        # From here on it is the service of the route that says what becomes of the request.
        options = exchange.backend.options
        callers = exchange.backend.callers
    exchange.out = head + exchange.out
    most = options.max_per_source
    if most and callers is not None:
        exchange.counted = callers, exchange.called_from
        if not callers.enter(exchange.called_from, most):
            raise Answer(429, "too many requests of this address are in progress")
    exchange.affine = bool(options.hash_key or options.sticky_cookie)
    if request.length:
        limit = body_limit(exchange.call, options)
        if limit and (request.length > limit or exchange.received > limit):
            raise Refused(413, f"the body is longer than {limit} bytes")


def _tunnel(exchange: Exchange, piece: bytes, complete: bool) -> None:
    """Bytes from the client on their way to the replica; `complete`: its side of the tunnel has ended."""
    upstream = exchange.upstream
    if upstream is not None and piece:
        upstream.send(piece)
    if complete and (upstream is None or not upstream.send_end()):
        exchange.stream.tunnel_ended()


def _keep(exchange: Exchange, piece: bytes) -> None:
    """A piece of a body that no replica takes yet."""
    exchange.out += piece
    if not exchange.request_done:
        if len(exchange.out) > MAX_EARLY:
            exchange.stream.pause_reading()
    elif exchange.attempts is not None and exchange.attempts.connecting:
        exchange.stream.deadline = NEVER
