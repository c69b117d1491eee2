"""The backend's side of layer 7: one kept-alive HTTP/1.1 connection to a replica.

It follows the response's framing, hands the bytes to the request's exchange as they come (`codec/interface.py`: it is
a ReplicaStream, and knows its exchange as a Requester), and goes back to its endpoint's pool when request and response
are both complete. A response that breaks the rules ends the connection, and is never forwarded past the point where it
broke them.

Hot path (see `bench/gateway.py`): a small response arrives whole in one `data_received` and leaves in one write, the
head unchanged where it may be; that costs one find, one split and no copy.
"""

import asyncio
from typing import Protocol, cast

from essaim.gateway.codec.http1.chunked import ChunkReader
from essaim.gateway.codec.http1.head import parse_response
from essaim.gateway.codec.interface import Requester
from essaim.gateway.codec.message import CHUNKED, UNTIL_CLOSE, Refused, Response
from essaim.gateway.runtime.deadlines import NEVER, Deadlines
from essaim.gateway.runtime.keep_alive import UNACKNOWLEDGED_MS, keep_alive, limit_unacknowledged

IDLE_SECONDS = LAST_WORDS_SECONDS = 60.0
FRESH_SECONDS = 1.0
"""A request that may not be sent again rides on no connection that has been idle for longer."""
MAX_IDLE = 256
"""Kept-alive connections to one endpoint, by worker."""
MAX_HEAD = 64 << 10

IDLE, HEAD, BODY, TUNNEL, CLOSED = range(5)


class Home(Protocol):
    """The endpoint that a connection leads to, as far as the connection knows it."""

    idle: "list[Upstream]"
    usable: bool
    bytes_in: int
    bytes_out: int


class Upstream(asyncio.Protocol):
    __slots__ = (
        "body_left",
        "buffer",
        "chunks",
        "client",
        "deadline",
        "deadlines",
        "ended",
        "endpoint",
        "held",
        "idle_since",
        "keeps_alive",
        "last_head",
        "last_response",
        "reused",
        "state",
        "transport",
    )  # fmt: skip

    def __init__(self, endpoint: Home, deadlines: Deadlines) -> None:
        self.endpoint = endpoint
        self.deadlines = deadlines
        self.transport: asyncio.Transport | None = None
        self.client: Requester | None = None
        self.state = HEAD
        self.buffer = b""
        self.body_left = 0
        self.chunks: ChunkReader | None = None
        self.reused = False
        self.held = False
        # The connection outlives the response that it is in the middle of.
        self.keeps_alive = False
        # The replica has ended its side of a tunnel.
        self.ended = False
        # A replica that answers the same thing again is parsed once.
        self.last_head = b""
        self.last_response = Response(0, 1, b"")
        self.idle_since = 0.0
        self.deadline = NEVER

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        keep_alive(transport)
        limit_unacknowledged(transport, UNACKNOWLEDGED_MS)
        self.deadlines.add(self)

    def close(self) -> None:
        """End the connection. The client's side, if any, is not told: it is the one that calls."""
        self.client = None
        self._leave_pool()
        if self.transport:
            self.transport.abort()

    def end(self) -> None:
        """The same in order: what is still to be sent is, unless the replica does not take it."""
        self.client = None
        self._leave_pool()
        if self.transport:
            self.deadline = self.deadlines.now + LAST_WORDS_SECONDS
            self.transport.close()

    def _leave_pool(self) -> None:
        if self.state == IDLE and self in self.endpoint.idle:
            self.endpoint.idle.remove(self)
        self.state = CLOSED

    def expire(self) -> None:
        self.close()

    def forsake(self) -> None:
        """The replica is no more, perhaps with its host: what it has not begun to answer is asked of another one. The
        end of the connection may never be told; a response that has begun is left to come, or not."""
        client = self.client
        if client is not None and self.state == HEAD and not self.buffer and client.replayable:
            self.close()
            client.upstream_failed("the replica is gone", True)

    def begin(self, client: Requester, data: bytes) -> None:
        """Send a request's head (and what there is of its body)."""
        self.client = client
        self.state = HEAD
        self.deadline = NEVER
        self.endpoint.bytes_in += len(data)
        self.transport.write(data)  # type: ignore[union-attr]

    def send(self, data: bytes) -> None:
        """More of the request's body, or of the tunnel."""
        if self.transport is not None:
            self.endpoint.bytes_in += len(data)
            self.transport.write(data)

    def send_end(self) -> bool:
        """End this side of the tunnel; False if the replica has ended the other already."""
        if self.transport is None or self.ended:
            return False
        self.transport.write_eof()
        return True

    def data_received(self, data: bytes) -> None:
        client = self.client
        self.endpoint.bytes_out += len(data)
        if client is None:
            self.close()
        elif self.state == HEAD:
            self._head(client, self.buffer + data if self.buffer else data)
        elif self.state == BODY:
            self._body(client, data, 0)
        elif self.state == TUNNEL:
            client.forward(data)

    def _wait_for_head(self, client: Requester, data: bytes) -> None:
        self.buffer = data
        if len(data) > MAX_HEAD:
            self._fail(client, "the backend's head is too long")
        elif b"\n\n" in data:
            self._fail(client, "the backend ends its lines with LF alone (RFC 9112, 2.2)")

    def _head(self, client: Requester, data: bytes) -> None:
        end = data.find(b"\r\n\r\n")
        if end < 0:
            self._wait_for_head(client, data)
            return
        head = data[: end + 2]
        if head == self.last_head:
            response = self.last_response
        else:
            try:
                response = parse_response(head)
            except Refused as refused:
                self._fail(client, refused.reason)
                return
            self.last_head, self.last_response = head, response
        if self.buffer:
            self.buffer = b""
        if response.status < 200:
            self._interim(client, response, data, end)
            return
        length = response.length
        if response.status in (204, 304) or client.is_head:
            length = 0
        body = end + 4
        if length >= 0:
            left = length - (len(data) - body)
            if left < 0:
                # More than was announced: the rest is not part of any response that was asked for.
                response.keep_alive = False
                data = data[: body + length]
                left = 0
            if not left:
                client.respond(response, data, body, True)
                self._done(client, response.keep_alive)
                return
            self.body_left = left
        elif length == CHUNKED:
            self._begin_chunked(client, response, data, end)
            return
        else:
            self.body_left = UNTIL_CLOSE
            response.keep_alive = False
        self.state = BODY
        self.keeps_alive = response.keep_alive
        client.respond(response, data, body, False)

    def _begin_chunked(self, client: Requester, response: Response, data: bytes, end: int) -> None:
        self.chunks = ChunkReader(502)
        self.body_left = CHUNKED
        self.state = BODY
        self.keeps_alive = response.keep_alive
        body = end + 4
        client.respond(response, data[:body], body, False)
        if len(data) > body and self.client is client:
            self._body(client, data, body)

    def _interim(self, client: Requester, response: Response, data: bytes, end: int) -> None:
        """1xx: 101 turns the connection into a tunnel, the others go by and the final head follows."""
        rest = data[end + 4 :]
        if response.status == 101:
            if not client.wants_upgrade:
                self._fail(client, "the backend switched protocols without being asked")
                return
            self.state = TUNNEL
            limit_unacknowledged(self.transport, 0)  # type: ignore[arg-type]
            client.switch(response, rest)
            return
        client.interim(response)
        if rest and self.client is client:
            self._head(client, rest)

    def _body(self, client: Requester, data: bytes, start: int) -> None:
        if self.body_left >= 0:
            size = len(data) - start
            if size < self.body_left:
                self.body_left -= size
                client.forward(data)
                return
            extra = size > self.body_left
            client.forward(data[: self.body_left] if extra else data)
            self._done(client, self.keeps_alive and not extra)
        elif self.body_left == UNTIL_CLOSE:
            client.forward(data)
        else:
            self._chunked(client, data, start)

    def _chunked(self, client: Requester, data: bytes, start: int) -> None:
        assert self.chunks is not None
        try:
            end = self.chunks.feed(data, start)
        except Refused as refused:
            self._fail(client, refused.reason)
            return
        if client.plain_body:
            for first, last in self.chunks.payload:
                client.forward(data[first:last])
            if self.chunks.trailers:
                client.trailers(self.chunks.trailers)
        else:
            client.forward(data if start == 0 and end == len(data) else data[start:end])
        if self.chunks.done:
            self.chunks = None
            self._done(client, self.keeps_alive and end == len(data))

    def _done(self, client: Requester, keep_alive: bool) -> None:
        """The response is complete: back to the pool if the connection can carry another request."""
        endpoint = self.endpoint
        if keep_alive and client.request_done and endpoint.usable and len(endpoint.idle) < MAX_IDLE:
            self.client = None
            self.state = IDLE
            self.reused = True
            now = self.idle_since = self.deadlines.now
            self.deadline = now + IDLE_SECONDS
            # The end of a response may have been too much for its client; the next one's is another matter.
            if self.held:
                self.release()
            endpoint.idle.append(self)
        else:
            self.close()
        client.response_done()

    def _fail(self, client: Requester, reason: str) -> None:
        self.close()
        client.upstream_failed(reason, False)

    def hold(self) -> None:
        """The client cannot take more of the response."""
        if not self.held and self.transport:
            self.held = True
            self.transport.pause_reading()

    def release(self) -> None:
        if self.held and self.transport:
            self.held = False
            self.transport.resume_reading()

    def pause_writing(self) -> None:
        if self.client:
            self.client.pause_sending()

    def resume_writing(self) -> None:
        if self.client:
            self.client.resume_sending()

    def eof_received(self) -> bool:
        """The end of an HTTP connection, but in a tunnel only of one direction."""
        if self.state == TUNNEL and self.client:
            self.ended = True
            self.client.tunnel_ended()
            return True
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self.transport = None
        self.deadlines.members.discard(self)
        client, self.client = self.client, None
        body, state, buffered = self.body_left, self.state, self.buffer
        self._leave_pool()
        if client is None:
            return
        if state == BODY and body == UNTIL_CLOSE and exc is None:
            client.response_done()
        else:
            client.upstream_failed("the backend closed the connection", state == HEAD and not buffered)
