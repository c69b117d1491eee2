"""One question to a service of the cluster: the part of a client, played for a connection to one of its replicas.

As for a client's request, the replica is chosen by the service's balancing, a connection that fails is made to another
one, and with no replica ready the question waits in the service's queue; all within ANSWER_SECONDS.
"""

import asyncio
from collections.abc import Callable
from time import perf_counter

from essaim.gateway.codec.message import IDEMPOTENT, Response
from essaim.gateway.http.held_body import Held
from essaim.gateway.routing.call import Verdict
from essaim.gateway.routing.middlewares.forward_auth import Question, end_to_end
from essaim.gateway.runtime.deadlines import Deadlines
from essaim.gateway.upstream.backend import Backend, Endpoint
from essaim.gateway.upstream.connect import RECONNECT_SECONDS, NoEndpoint, connect_any, start
from essaim.gateway.upstream.connection import FRESH_SECONDS, Upstream

ANSWER_SECONDS = 30.0
"""Traefik's limit for the same."""


class ClusterRequest:
    """`answered` is told the verdict once, unless the question is given up (`cancel`)."""

    def __init__(
        self,
        question: Question,
        backend: Backend,
        deadlines: Deadlines,
        held: Held,
        answered: Callable[[Verdict], None],
    ) -> None:
        self._question = question
        self._backend = backend
        self._deadlines = deadlines
        self._held = held
        self._answered = answered
        self._message = question.message
        self._loop = asyncio.get_running_loop()
        self._began = perf_counter()
        self._limit = self.deadline = deadlines.now + ANSWER_SECONDS
        self._over = False
        self._attempts = 0
        self._endpoint: Endpoint | None = None
        self._upstream: Upstream | None = None
        self._connecting: asyncio.Task[None] | None = None
        self._response: Response | None = None
        self._body = bytearray()
        # What a connection to a replica wants to know of its client.
        self.is_head = question.method == b"HEAD"
        self.replayable = question.method in IDEMPOTENT
        self.request_done = True
        self.wants_upgrade = False
        self.plain_body = True

    def begin(self) -> None:
        if not self._over:
            self._deadlines.add(self)
            self._dispatch()

    def cancel(self) -> None:
        """Nobody wants to know any more."""
        self._end()

    def _dispatch(self) -> None:
        if self._over:
            return
        backend = self._backend
        endpoint = backend.pick()
        if endpoint is None:
            if not backend.wait(self, self._deadlines.now):
                self._fail("no replica of the auth server can be reached")
            self.deadline = min(self.deadline, self._limit)
            return
        self.deadline = self._limit
        idle = endpoint.idle
        if idle and (self.replayable or self._deadlines.now - idle[-1].idle_since < FRESH_SECONDS):
            endpoint.open += 1
            self._send(endpoint, idle.pop())
        else:
            self._connecting = start(self._connect, endpoint)

    async def _connect(self, first: Endpoint) -> None:
        def make(endpoint: Endpoint) -> Upstream:
            return Upstream(endpoint, self._deadlines)

        try:
            endpoint, upstream = await connect_any(self._backend, first, make, self._deadlines)
        except NoEndpoint as error:
            self._connecting = None
            if perf_counter() - self._began < self._backend.options.queue_timeout:
                self._loop.call_later(RECONNECT_SECONDS, self._dispatch)
            else:
                self._fail(str(error))
            return
        self._connecting = None
        if upstream.transport is None:
            endpoint.released()
            self._fail("the auth server closed the connection")
            return
        self._send(endpoint, upstream)

    def _send(self, endpoint: Endpoint, upstream: Upstream) -> None:
        self._endpoint, self._upstream = endpoint, upstream
        self._response = None
        self._body.clear()
        upstream.begin(self, self._message)

    # -- what the connection tells its client ------------------------------------------------------------------------

    def respond(self, response: Response, data: bytes, body: int, complete: bool) -> None:
        self._response = response
        self.forward(data[body:])

    def forward(self, data: bytes) -> None:
        if self._over or not data:
            return
        too_long = len(self._body) + len(data) > self._question.limit
        if too_long or not self._held.take(len(data)):
            # The connection is not to carry another request.
            self.request_done = False
            self._fail("the auth server's answer is too long", 401 if too_long else 503)
            return
        self._body += data

    def trailers(self, fields: bytes) -> None:
        """Nothing in them is asked for."""

    def response_done(self) -> None:
        response, endpoint = self._response, self._endpoint
        if self._over or response is None:
            return
        self._upstream = self._endpoint = None
        if endpoint is not None:
            endpoint.count(response.status, perf_counter() - self._began, self._deadlines.now)
            endpoint.released()
        lines = [line.partition(b":") for line in response.head.split(b"\r\n")[1:] if line]
        fields = end_to_end((name, value.strip(b" \t")) for name, _, value in lines)
        self._finish(Verdict(response.status, fields, bytes(self._body)))

    def upstream_failed(self, reason: str, untouched: bool) -> None:
        """The connection broke. `untouched`: before it sent anything."""
        endpoint, upstream = self._endpoint, self._upstream
        self._endpoint = self._upstream = None
        if endpoint is not None:
            endpoint.released()
        self._attempts += 1
        if untouched and self.replayable and self._attempts <= self._backend.options.retries:
            if endpoint is not None:
                endpoint.retries += 1
                if upstream is not None and not upstream.reused:
                    endpoint.failed(reason, self._deadlines.now)
            self._dispatch()
            return
        self._count(endpoint, 502)
        self._fail(f"the auth server's answer is not complete: {reason}")

    def interim(self, response: Response) -> None:
        """Nothing follows from it."""

    def switch(self, response: Response, rest: bytes) -> None:
        """It was not asked for, and is refused before it gets here."""

    def tunnel_ended(self) -> None:
        """There is no tunnel."""

    def pause_sending(self) -> None:
        """The message is whole, and within its limit: the connection may hold it."""

    def resume_sending(self) -> None:
        """It was not paused."""

    # -- what a queue tells, and the clock ---------------------------------------------------------------------------

    def endpoint_ready(self) -> None:
        self._dispatch()

    def refuse_waiting(self, reason: str) -> None:
        self._fail(f"the auth server is not there: {reason}")

    def expire(self) -> None:
        if self in self._backend.waiting:
            self._fail("no replica of the auth server became ready in time")
        else:
            self._count(self._endpoint, 504)
            self._fail("the auth server did not answer in time")

    # -- the end -----------------------------------------------------------------------------------------------------

    def _count(self, endpoint: Endpoint | None, status: int) -> None:
        if endpoint is not None:
            endpoint.count(status, perf_counter() - self._began, self._deadlines.now)

    def _fail(self, reason: str, status: int = 500) -> None:
        self._finish(Verdict(status, failure=reason))

    def _finish(self, verdict: Verdict) -> None:
        if not self._over:
            self._end()
            self._loop.call_soon(self._answered, verdict)

    def _end(self) -> None:
        self._over = True
        self._deadlines.members.discard(self)
        self._backend.forget(self)
        if self._connecting is not None:
            self._connecting.cancel()
            self._connecting = None
        endpoint, upstream = self._endpoint, self._upstream
        self._endpoint = self._upstream = None
        if upstream is not None:
            upstream.close()
        if endpoint is not None:
            endpoint.released()
