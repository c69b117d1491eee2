"""The client's connection at layer 7, as far as it does not matter what is said on it: states, flow, tunnels, the end.

States: HEAD (waiting for, or in the middle of, a request's head), BODY (the request's body is being forwarded), WAIT
(the request is complete, its response is not), TUNNEL (after 101), LINGER (everything is said; what still arrives is
read and dropped, so that the client sees the answer before a reset), CLOSED.

`Downstream` is continued by `Intake` (what the client asks, `request.py`) and `Client` (who answers, `proxying.py`):
one object, as each request touches all three and a call from object to object costs as much as parsing a line.
"""

import asyncio
from time import perf_counter
from typing import cast

from essaim.gateway.codec.http1.chunked import ChunkReader
from essaim.gateway.codec.message import Request, Response
from essaim.gateway.protocol.addresses import plain_address
from essaim.gateway.routing.call import Call
from essaim.gateway.runtime.access_log import Entry, now
from essaim.gateway.runtime.deadlines import NEVER
from essaim.gateway.tls.session import Secured
from essaim.gateway.upstream.backend import Endpoint
from essaim.gateway.upstream.connection import Upstream

from .authorization import Cancel
from .held_body import Gathering
from .listener import Listener

LINGER_SECONDS, LINGER_LONGEST = 2.0, 30.0
"""A client that is still sending when all is said is read from until it pauses for so long; in all for so long."""
LAST_CALL_SECONDS = 2.0
"""How long a connection that is idle when its socket closes may still begin a request."""
STALLED_SECONDS = 60.0
"""A client that takes nothing of a response for so long, or sends a body at less than SLOWEST, is given up."""
NO_BLOCK = b"none"
"""Not a block of lines: equals no request's."""

HEAD, BODY, WAIT, TUNNEL, LINGER, CLOSED = range(6)


class Downstream(asyncio.Protocol):
    __slots__ = (
        "address",
        "affine",
        "attempts",
        "authority",
        "backend",
        "believed",
        "block",
        "body_left",
        "body_seen",
        "buffer",
        "call",
        "called_from",
        "choked",
        "chunks",
        "connecting",
        "counted",
        "counted_in",
        "deadline",
        "deadlines",
        "endpoint",
        "gathering",
        "half_closed",
        "is_head",
        "keep_alive",
        "lines",
        "lingers_until",
        "listener",
        "local_port",
        "looked",
        "minor",
        "out",
        "paused",
        "peer",
        "plain_body",
        "reading",
        "replayable",
        "request",
        "request_done",
        "responding",
        "resuming",
        "started",
        "state",
        "status",
        "tail",
        "taken",
        "tls",
        "transport",
        "trusted",
        "upstream",
        "upstream_keeps_alive",
        "wants_upgrade",
    )  # fmt: skip

    def __init__(self, listener: Listener, peer: tuple[str, int] | None = None, tls: Secured | None = None) -> None:
        # `peer`: who is behind the proxy that has connected, if that is known. `tls`: what the connection is behind.
        self.peer = peer
        self.tls = tls
        self.listener = listener
        # Whose replicas answer the request in progress.
        self.backend = listener.backend
        self.deadlines = listener.deadlines
        self.transport: asyncio.Transport | None = None
        self.state = HEAD
        self.buffer = b""
        self.deadline = self.lingers_until = NEVER
        self.reading = True
        # The client has not taken what was written; no further request of its begins until it has.
        self.choked = False
        self.half_closed = False
        # By whose options it was last asked whether the peer is believed.
        self.believed = listener.backend.options
        # What the last request's fields were and meant (see `_parse`).
        self.block = NO_BLOCK
        self.minor = self.tail = b""
        # What the replica is told about an untrusted client that asks for this authority.
        self.authority: bytes | None = None
        self.lines = b""
        # Of the request in progress:
        self.request: Request | None = None
        # What a router and its middlewares made of it.
        self.call: Call | None = None
        # For whom it counts among the requests in progress of trusted proxies' clients; "" where that is not limited.
        self.counted = ""
        self.counted_in = listener.callers
        # The call was interrupted (see `Intake._pause`) and goes on where it stopped.
        self.resuming = False
        # What gives up the wait while it is, and what there is of a body that a middleware wants to have whole.
        self.paused: Cancel | None = None
        self.gathering: Gathering | None = None
        self.upstream: Upstream | None = None
        self.endpoint: Endpoint | None = None
        self.connecting: asyncio.Task[None] | None = None
        self.chunks: ChunkReader | None = None
        self.out = b""
        # `body_seen` and `taken`: bytes of the request's and the response's body (of a tunnel: each way) so far;
        # `looked`: their sum when the time-out was last looked at.
        self.body_left = self.body_seen = self.taken = self.looked = self.attempts = self.status = 0
        self.started = 0.0
        self.affine = self.is_head = self.keep_alive = self.plain_body = self.replayable = False
        self.request_done = self.responding = self.upstream_keeps_alive = self.wants_upgrade = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        peer = self.peer or transport.get_extra_info("peername")
        # Whose connection it is, and who calls by it: a trusted proxy's connection has requests of many clients.
        self.address = self.called_from = plain_address(peer[0]) if peer else "unknown"
        # What the connection was made to is asked of the kernel once a socket, not once a connection (1.5 µs).
        self.local_port = self.listener.port or transport.get_extra_info("sockname", ("", 0))[1]
        self.trusted = self.listener.trusts(self.address)
        self.listener.connections.add(self)
        self.deadlines.add(self)
        # A trusted proxy's connections are its clients' requests, which are counted by client (see `Intake._begin`).
        limit = 0 if self.trusted else self.backend.options.max_per_source
        if not self.listener.sources.enter(self.address, limit):
            self.transport.abort()
        self.deadline = self.deadlines.now + self.backend.options.header_timeout

    def expire(self) -> None:
        """The deadline of the phase that the connection is in has passed."""
        raise NotImplementedError

    def forward(self, data: bytes) -> None:
        """A piece of the response's body, or of a tunnel."""
        self.taken += len(data)
        if self.transport is not None:
            self.transport.write(data)

    def _moved(self) -> int:
        """Bytes of both directions since this was last asked."""
        seen = self.body_seen + self.taken
        moved, self.looked = seen - self.looked, seen
        return moved

    def _release(self) -> tuple[Endpoint | None, bool]:
        """Let the replica go; returns it, and whether its connection had served before."""
        endpoint, upstream = self.endpoint, self.upstream
        self.endpoint = self.upstream = None
        if endpoint:
            endpoint.released()
        return endpoint, upstream is not None and upstream.reused

    def _count(self, endpoint: Endpoint | None, status: int) -> None:
        """The request is over; None: no replica had it, the gateway has answered."""
        if endpoint is None:
            answers = self.backend.answers
            answers[status] = answers.get(status, 0) + 1
            return
        endpoint.count(status, perf_counter() - self.started, self.deadlines.now)

    def _over(self, status: int) -> None:
        """Tell the middlewares that the request has ended, however it has."""
        if self.call:
            self.call.end(status, perf_counter() - self.started)

    def _log(self, endpoint: Endpoint | None, status: int) -> None:
        """A line in the access log, if the service wants one; server errors are never left out of a sample."""
        options, log, request = self.backend.options, self.listener.log, self.request
        if log is None or request is None or not log.wants(status, options.access_sample):
            return
        log.add(
            options.access_log,
            Entry(
                time=now(),
                client=self.called_from,
                method=request.method.decode("latin-1"),
                target=request.target.decode("latin-1"),
                host=request.host.decode("latin-1"),
                status=status,
                seconds=round(perf_counter() - self.started, 6),
                service=self.backend.service_name,
                task=endpoint.task_id if endpoint else "",
                protocol=f"HTTP/1.{request.minor}",
                user=self.call.user.decode("latin-1") if self.call else "",
            ),
        )

    def _log_unread(self, status: int) -> None:
        """The same for a request that was refused before it was understood."""
        options, log = self.backend.options, self.listener.log
        if log is not None and log.wants(status, options.access_sample):
            entry = Entry(now(), self.address, "", "", "", status, 0.0, self.backend.service_name, "", "")
            log.add(options.access_log, entry)

    def _uncount(self) -> None:
        """The request in progress counts for its client no more."""
        if self.counted:
            self.counted_in.leave(self.counted)
            self.counted = ""

    def _linger(self) -> None:
        """Close in a way that the answer arrives: end our side, read on for a moment."""
        self.state = LINGER
        self.buffer = b""
        self.deadline = self.deadlines.now + LINGER_SECONDS
        self.lingers_until = self.deadlines.now + LINGER_LONGEST
        if self.transport:
            self.resume_reading()
            self.transport.write_eof()

    def switch(self, response: Response, rest: bytes) -> None:
        """101: from here on bytes are bytes."""
        self.status, self.responding = 101, True
        self.state = TUNNEL
        self.deadline = self._streaming_deadline()
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
        """The replica has ended its side of the tunnel; when both have, that is its end."""
        if self.transport is None:
            return
        if self.half_closed:
            self.deadline = self.deadlines.now + STALLED_SECONDS
            self.transport.close()
        else:
            self.transport.write_eof()

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
        """The client does not take what is written: nothing more is read for it until it does."""
        self.choked = True
        self.deadline = self.deadlines.now + STALLED_SECONDS
        if self.upstream:
            self.upstream.hold()

    def resume_writing(self) -> None:
        self.choked = False
        if self.state in (LINGER, CLOSED):
            return
        self.deadline = self._streaming_deadline()
        if self.upstream:
            self.upstream.release()
        elif self.state == HEAD:
            self.deadline = self.deadlines.now + self.backend.options.keepalive_timeout
            self.resume_reading()
            self._pipelined()

    def _streaming_deadline(self) -> float:
        """While a response (or a tunnel) is on its way: what the client has yet to send must move, or what it gets."""
        if self.state == TUNNEL:
            return self.deadlines.now + (self.backend.options.idle_timeout or NEVER)
        return self.deadlines.now + STALLED_SECONDS if self.state == BODY or self.choked else NEVER

    def _cut_short(self) -> None:
        """The client has ended its side in the middle of a body that is being gathered."""
        raise NotImplementedError

    def _pipelined(self) -> None:
        """Take up a request that has arrived early."""
        raise NotImplementedError

    def stop(self) -> None:
        """The socket was closed: one more request is served, then the connection ends.

        Not at once, even if it is idle: a request may be on its way, and a new connection's always is.
        """
        self.keep_alive = False
        if self.state == HEAD:
            self.deadline = min(self.deadline, self.deadlines.now + LAST_CALL_SECONDS)

    def eof_received(self) -> bool:
        """A client may close its side and still read: the request in progress is answered."""
        self.half_closed = True
        if self.state == TUNNEL:
            if self.upstream is None or self.upstream.transport is None or self.upstream.ended:
                self.deadline = self.deadlines.now + STALLED_SECONDS
                return False
            self.upstream.transport.write_eof()
            return True
        if self.state == WAIT:
            self.keep_alive = self.keep_alive and bool(self.buffer)
            if self.gathering is not None:
                self._cut_short()
            return True
        # Between two requests the next one may be here as a whole, about to be taken up.
        return self.state == HEAD and b"\r\n\r\n" in self.buffer
