"""Who answers: each request of a client's connection is sent to a replica, and the response back.

Rules:
- A request goes to another endpoint when it cannot have had an effect: the connection was refused, or a connection
  broke before it answered and the method is idempotent (RFC 9110, 9.2.2) and all of the request is still here. A
  method that is not idempotent does not ride on a connection that has been idle for more than a second.
- A response that cannot be completed ends the connection, so that the client knows.
"""

import asyncio
from time import perf_counter

from essaim.gateway.codec.fields import cookie
from essaim.gateway.codec.http1.head import without_line
from essaim.gateway.codec.message import CHUNKED, UNTIL_CLOSE, Response
from essaim.gateway.runtime.deadlines import NEVER
from essaim.gateway.runtime.reset import reset
from essaim.gateway.upstream.affinity import request_key, set_cookie
from essaim.gateway.upstream.backend import CLIENT_LEFT, Endpoint
from essaim.gateway.upstream.connect import RECONNECT_SECONDS, NoEndpoint, connect_any, start
from essaim.gateway.upstream.connection import FRESH_SECONDS, Upstream

from .downstream import BODY, CLOSED, HEAD, STALLED_SECONDS, TUNNEL, WAIT
from .reply import reply
from .request import Intake

PAUSE_GROWTH, PAUSE_LONGEST = 1.5, 2.0
"""How the pause between retries grows with each, and to how many times the first at most, as with Traefik."""
SLOWEST = 64
"""Bytes of a request's body a second, averaged over STALLED_SECONDS: below, the client is given up."""


class Client(Intake):
    __slots__ = ()

    def _dispatch(self) -> None:
        if self.state not in (BODY, WAIT):
            return
        backend = self.backend
        endpoint = self._chosen() if self.affine else backend.pick()
        if endpoint is None:
            if not backend.wait(self, self.deadlines.now):
                self._answer(503, "no replica of the service can be reached")
            return
        if self.state == BODY:
            self.deadline = self.deadlines.now + STALLED_SECONDS
        else:
            seconds = backend.options.response_timeout
            self.deadline = self.deadlines.now + seconds if seconds else NEVER
        idle = endpoint.idle
        if idle and (self.replayable or self.deadlines.now - idle[-1].idle_since < FRESH_SECONDS):
            upstream = idle.pop()
            endpoint.open += 1
            self.endpoint = endpoint
            self.upstream = upstream
            # Before the write, which may say that it is enough for now.
            if not self.reading:
                self.resume_reading()
            upstream.begin(self, self.out)
        else:
            self.connecting = start(self._connect, endpoint)
            if self.state == WAIT:
                # Connecting has a time of its own, and moves on to other replicas.
                self.deadline = NEVER

    def _chosen(self) -> Endpoint | None:
        """The endpoint that the request belongs to, by cookie or by hash."""
        backend, request = self.backend, self.request
        options = backend.options
        assert request is not None
        if options.sticky_cookie:
            tag = cookie(request.fields, options.sticky_cookie)
            endpoint = backend.tagged(tag) if tag else None
            if endpoint is not None and not self.attempts:
                return endpoint
        return backend.pick(request_key(options, request, self.called_from) if options.hash_key else 0)

    async def _connect(self, first: Endpoint) -> None:
        backend = self.backend
        try:
            endpoint, upstream = await connect_any(backend, first, self._new_upstream, self.deadlines)
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
        if self.state == WAIT:
            self.deadline = self._response_deadline()
        self.resume_reading()
        upstream.begin(self, self.out)

    def _connect_later(self, reason: str) -> None:
        """Nobody answers: as with no endpoint at all, the request waits for one, within the same time."""
        if perf_counter() - self.started < self.backend.options.queue_timeout:
            self._dispatch_later(RECONNECT_SECONDS)
        else:
            self._answer(502, reason)

    def _new_upstream(self, endpoint: Endpoint) -> Upstream:
        return Upstream(endpoint, self.deadlines)

    def endpoint_ready(self) -> None:
        self._dispatch()

    def refuse_waiting(self, reason: str) -> None:
        self._answer(503, reason)

    def upstream_failed(self, reason: str, untouched: bool) -> None:
        """The connection to the replica broke. `untouched`: before it sent anything."""
        endpoint, reused = self._release()
        if self.responding:
            self._over(502)
            self._count(endpoint, self.status)
            if self.backend.options.access_log:
                self._log(endpoint, self.status)
            if self.transport:
                if self.plain_body:
                    reset(self.transport)
                else:
                    self.state = CLOSED
                    self.transport.close()
            return
        self.attempts += 1
        if untouched and self.replayable and self.attempts <= self._retries():
            if endpoint:
                endpoint.retries += 1
                if not reused:
                    endpoint.failed(reason, self.deadlines.now)
            self._again()
            return
        self._answer_for(endpoint, 502, reason)

    def _again(self) -> None:
        """Send the request to another replica: at once, or after the pause that its router asks for."""
        pause = self.call.retry_pause if self.call else 0.0
        if pause:
            self._dispatch_later(pause * min(PAUSE_GROWTH ** (self.attempts - 1), PAUSE_LONGEST))
        else:
            self._dispatch()

    def _dispatch_later(self, seconds: float) -> None:
        """Unless the request is answered by then: with a time-out, and the connection may be at its next one."""
        asked = self.started

        def dispatch() -> None:
            if self.started == asked and not self.responding:
                self._dispatch()

        asyncio.get_running_loop().call_later(seconds, dispatch)

    def _retries(self) -> int:
        chosen = self.call.retries if self.call else None
        return self.backend.options.retries if chosen is None else chosen

    def respond(self, response: Response, data: bytes, end: int, complete: bool) -> None:
        """The final head (`data[:end]`), and what there is of the body after it."""
        transport = self.transport
        if transport is None:
            return
        self.responding = True
        self.status = response.status
        request = self.request
        if not complete:
            self.deadline = self._streaming_deadline()
            if response.length == UNTIL_CLOSE:
                self.keep_alive = False
                self.plain_body = True
        if self.state == BODY:
            self.keep_alive = False
        if self.keep_alive and request.minor and not self.affine and self.call is None:  # type: ignore[union-attr]
            transport.write(data if response.untouched else response.head + data[end + 2 :])
            return
        transport.write(self._changed_head(response) + data[end + 2 :])

    def _changed_head(self, response: Response) -> bytes:
        """The head to send where it is not the replica's own: other persistence or version, a cookie to set."""
        request, head = self.request, response.head
        assert request is not None
        if self.affine:
            options = self.backend.options
            name, endpoint = options.sticky_cookie, self.endpoint
            if name and endpoint and cookie(request.fields, name) != endpoint.tag:
                head += set_cookie(options, endpoint.tag)
        if self.call:
            for edit in self.call.edits:
                head = edit(head)
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

    def response_done(self) -> None:
        endpoint = self.endpoint
        self.upstream = self.endpoint = None
        if self.call:
            self._over(self.status)
        if endpoint is not None:
            self._count(endpoint, self.status)
            endpoint.released()
            if self.backend.options.access_log:
                self._log(endpoint, self.status)
        self.out = b""
        self._next()

    def _next(self) -> None:
        """After a complete response: the next request, or the end."""
        if self.counted:
            self._uncount()
        if self.transport is None:
            return
        if self.state == BODY:
            self._linger()
        elif not self.keep_alive:
            self.state = CLOSED
            # What is not sent yet must be taken within a time, too.
            self.deadline = self.deadlines.now + STALLED_SECONDS
            self.transport.close()
        else:
            self.state = HEAD
            self.responding = False
            if self.choked:
                self.pause_reading()
                return
            self.deadline = self.deadlines.now + self.backend.options.keepalive_timeout
            if self.buffer:
                asyncio.get_running_loop().call_soon(self._pipelined)
            if not self.reading:
                self.resume_reading()

    def _answer(
        self, status: int, reason: str, lines: bytes = b"", body: bytes | None = None, *, relayed: bool = False
    ) -> None:
        self._answer_for(None, status, reason, lines, body, relayed=relayed)

    def _answer_for(
        self,
        endpoint: Endpoint | None,
        status: int,
        reason: str,
        lines: bytes = b"",
        body: bytes | None = None,
        *,
        relayed: bool = False,
    ) -> None:
        """The same, in place of the replica that has failed to."""
        if self.transport is None or self.state not in (BODY, WAIT):
            return
        self._count(endpoint, status)
        self.status = status
        self._over(status)
        if self.backend.options.access_log:
            self._log(None, status)
        if self.state == BODY or (self.request and self.request.minor == 0):
            self.keep_alive = False
        answer = reply(status, reason, self.keep_alive, is_head=self.is_head, extra=lines, text=body, relayed=relayed)
        if self.call and self.call.edits:
            head, _, content = answer.partition(b"\r\n\r\n")
            head += b"\r\n"
            for edit in self.call.edits:
                head = edit(head)
            answer = head + b"\r\n" + content
        self.transport.write(answer)
        self.out = b""
        self._next()

    def expire(self) -> None:
        """A time-out of the phase that the connection is in."""
        waiting = self.backend.waiting
        if self.state == HEAD and self.buffer:
            self._refuse(408, "the head of the request did not arrive in time")
        elif self.state in (BODY, WAIT) and self in waiting:
            self.backend.forget(self)
            self._answer(503, "no replica of the service became ready in time")
        elif (self.state == BODY and not self.choked) or self.gathering is not None:
            self._expire_body()
        elif self.state == WAIT and not self.responding:
            self._give_up("the replica did not answer in time")
        elif not (self.state == TUNNEL and not self.choked and self._moved()):
            self._abort()
        else:
            self.deadline = self._streaming_deadline()

    def spare(self) -> int | None:
        """Before its first request it is the first to go, between two of them the next (see `admission.py`)."""
        return None if self.state != HEAD else 0 if self.request is None else 1

    def evict(self) -> None:
        self._abort()

    def _expire_body(self) -> None:
        """The request's body is not complete: it must arrive at a rate, or the response that has begun must flow."""
        if self._moved() > SLOWEST * STALLED_SECONDS:
            self.deadline = self.deadlines.now + STALLED_SECONDS
        elif self.responding:
            self._abort()
        elif self.reading:
            self._refuse(408, "the body of the request arrives too slowly")
        else:
            self._give_up("the replica does not take the body of the request")

    def _abort(self) -> None:
        if self.transport:
            self.transport.abort()

    def _give_up(self, reason: str) -> None:
        """The replica is too slow."""
        if self.connecting:
            # What it comes to must not be taken for the connection's next request.
            self.connecting.cancel()
            self.connecting = None
        upstream = self.upstream
        endpoint, _ = self._release()
        if upstream:
            upstream.close()
        self._answer_for(endpoint, 504, reason)

    def connection_lost(self, exc: Exception | None) -> None:
        waited, tunnel = self.state in (BODY, WAIT) and not self.responding, self.state == TUNNEL
        self.transport = None
        self.state = CLOSED
        self.listener.sources.leave(self.address)
        self._uncount()
        self.deadlines.members.discard(self)
        self.listener.connections.discard(self)
        self.backend.forget(self)
        if self.connecting:
            self.connecting.cancel()
        if self.paused:
            self.paused()
            self.paused = None
        self.gathering = None
        self._over(self.status if self.responding else CLIENT_LEFT)
        upstream = self.upstream
        endpoint, _ = self._release()
        if upstream:
            self._count(endpoint, self.status if self.responding else CLIENT_LEFT)
            if self.backend.options.access_log:
                # A tunnel is ended by either side.
                self._log(endpoint, self.status if tunnel else CLIENT_LEFT)
            if tunnel and exc is None:
                upstream.end()
            else:
                upstream.close()
        elif waited:
            self._count(None, CLIENT_LEFT)
            if self.backend.options.access_log:
                self._log(None, CLIENT_LEFT)
