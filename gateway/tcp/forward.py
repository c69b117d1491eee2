"""Layer 4: a TCP connection to a published port is joined with one to a replica, byte by byte, both ways.

Rules:
- The bytes that a client sends before its replica is connected are kept (bounded) and sent first.
- Back-pressure: a side whose peer cannot take more is not read. Half-close is passed on; a reset becomes a reset.
- A connection without traffic in either direction for the service's idle time is closed.
- When its replica drains, a connection that rests is closed in order (`timeout.drain` without a byte, the last word the
  replica's), so that clients that keep connections alive reconnect elsewhere instead of being cut at the drain's limit.
  One whose client spoke last is taken for a request that is being worked on, and left alone.
- Waiting for an endpoint is bounded (see `backend.py`); then the client is reset.

Measured against HAProxy in `bench/gateway.py`; the hot code is the two `data_received`, which do nothing but count and
hand on: everything else happens once a connection.
"""

import asyncio
from collections.abc import Callable
from typing import cast

from essaim.gateway.protocol.addresses import plain_address
from essaim.gateway.runtime.deadlines import NEVER, Deadlines
from essaim.gateway.runtime.hashing import hash_key
from essaim.gateway.runtime.keep_alive import keep_alive
from essaim.gateway.runtime.reset import reset
from essaim.gateway.runtime.sources import Sources
from essaim.gateway.upstream.backend import Backend, Endpoint
from essaim.gateway.upstream.connect import RECONNECT_SECONDS, NoEndpoint, connect_any, start

from .proxy_protocol import header

EARLY_BYTES = 64 << 10
"""Bytes that are kept for a replica that is not connected yet; beyond, the client is not read."""

LOOKS = 4
"""A connection is looked at so many times within its idle time: it is closed at most a quarter of it late."""


class _Side(asyncio.Protocol):
    """What both sides of a joined connection share."""

    __slots__ = ("finished", "received", "transport")

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self.received = 0
        self.finished = False


class Front(_Side):
    """The client's side; owns the joined connection."""

    __slots__ = (
        "address",
        "asked",
        "back",
        "backend",
        "connecting",
        "deadline",
        "deadlines",
        "early",
        "endpoint",
        "paused",
        "peer",
        "quiet",
        "since",
        "sources",
    )  # fmt: skip

    def __init__(
        self, backend: Backend, deadlines: Deadlines, sources: Sources, peer: tuple[str, int] | None = None
    ) -> None:
        super().__init__()
        self.sources = sources
        self.address = "unknown"
        # `peer`: who is behind the proxy that has connected, if that is known.
        self.peer = peer
        self.since = 0.0
        self.quiet = 0
        # The client spoke last: an answer may be on its way.
        self.asked = False
        self.backend = backend
        self.deadlines = deadlines
        self.back: Back | None = None
        self.endpoint: Endpoint | None = None
        self.connecting: asyncio.Task[None] | None = None
        self.early: list[bytes] = []
        self.paused = False
        self.deadline = NEVER

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.deadlines.add(self)
        self.since = self.deadlines.now
        peer = self.peer or transport.get_extra_info("peername")
        self.address = plain_address(peer[0]) if peer else "unknown"
        if self.sources.enter(self.address, self.backend.options.max_per_source):
            self.endpoint_ready()
        else:
            self.transport.abort()

    def endpoint_ready(self) -> None:
        if self.transport is None:
            return
        endpoint = self.backend.pick(self._key())
        if endpoint is not None:
            self.deadline = NEVER
            self.connecting = start(self._connect, endpoint)
        elif not self.backend.wait(self, self.deadlines.now):
            self.refuse_waiting("no endpoint")

    def _key(self) -> int:
        """Layer 4 knows of its client nothing but the address."""
        return hash_key(self.address.encode()) if self.backend.options.hash_key else 0

    def refuse_waiting(self, reason: str) -> None:
        if self.transport:
            self.transport.abort()

    async def _connect(self, first: Endpoint) -> None:
        try:
            endpoint, back = await connect_any(self.backend, first, lambda _: Back(self), self.deadlines)
        except NoEndpoint as error:
            loop = asyncio.get_running_loop()
            if loop.time() - self.since < self.backend.options.queue_timeout:
                loop.call_later(RECONNECT_SECONDS, self.endpoint_ready)
            else:
                self.refuse_waiting(str(error))
            return
        finally:
            self.connecting = None
        if self.transport is None or back.transport is None:
            endpoint.released()
            back.abort()
            if self.transport:
                self.transport.abort()
            return
        self.endpoint = endpoint
        self._join(back)

    def _join(self, back: "Back") -> None:
        assert self.transport is not None
        assert back.transport is not None
        self.back = back
        if version := self.backend.options.proxy_protocol:
            source = self.peer or self.transport.get_extra_info("peername")
            destination = self.transport.get_extra_info("sockname")
            back.transport.write(header(version, source, destination))
        for data in self.early:
            back.transport.write(data)
        self.early.clear()
        back.write = back.transport.write
        if self.paused:
            self.paused = False
            self.transport.resume_reading()
        if self.finished:
            back.transport.write_eof()
        back.transport.resume_reading()
        self._look_again()
        if self.endpoint and self.endpoint.draining:
            self.drain()

    def _look_again(self) -> None:
        idle = self.backend.options.idle_timeout
        self.deadline = self.deadlines.now + idle / LOOKS if idle else NEVER

    def drain(self) -> None:
        """The replica is leaving: from now on, look often whether the connection rests."""
        idle = self.backend.options.drain_idle
        if idle and self.back is not None:
            self.back.seen = self.received + self.back.received
            self.deadline = min(self.deadline, self.deadlines.now + idle)

    def data_received(self, data: bytes) -> None:
        self.received += len(data)
        self.asked = True
        if self.back is not None:
            self.back.write(data)
            return
        self.early.append(data)
        if self.received > EARLY_BYTES and not self.paused:
            self.paused = True
            assert self.transport is not None
            self.transport.pause_reading()

    def expire(self) -> None:
        """Idle for too long, judged by the bytes that passed since the last look; or waited too long."""
        if self.back is None:
            self.backend.forget(self)
            self.refuse_waiting("waited too long for an endpoint")
            return
        seen = self.received + self.back.received
        idle = self.backend.options.drain_idle
        if idle and self.endpoint and self.endpoint.draining:
            if seen == self.back.seen and not self.asked and self.transport:
                self.transport.close()
            else:
                self.drain()
                self.deadline = self.deadlines.now + idle
            return
        self.quiet = self.quiet + 1 if seen == self.back.seen else 0
        self.back.seen = seen
        if self.quiet < LOOKS:
            self._look_again()
        elif self.transport:
            self.transport.abort()

    def eof_received(self) -> bool:
        self.finished = True
        if self.back is not None and self.back.transport is not None:
            self.back.transport.write_eof()
            if self.back.finished:
                self.back.transport.close()
                return False
        return True

    def pause_writing(self) -> None:
        if self.back and self.back.transport:
            self.back.transport.pause_reading()

    def resume_writing(self) -> None:
        if self.back and self.back.transport:
            self.back.transport.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        self.transport = None
        self.sources.leave(self.address)
        self.deadlines.members.discard(self)
        self.backend.forget(self)
        if self.connecting:
            self.connecting.cancel()
        if self.back and self.back.transport:
            if exc is not None:
                reset(self.back.transport)
            else:
                self.back.transport.close()
        if self.endpoint:
            endpoint, self.endpoint = self.endpoint, None
            endpoint.bytes_in += self.received
            endpoint.bytes_out += self.back.received if self.back else 0
            endpoint.codes[0] = endpoint.codes.get(0, 0) + 1
            endpoint.released()


class Back(_Side):
    """The replica's side."""

    __slots__ = ("deadline", "front", "seen", "write")

    def __init__(self, front: Front) -> None:
        super().__init__()
        self.front = front
        # The front's deadline is that of both; as a member of the deadlines's it counts among the connections.
        self.deadline = NEVER
        self.seen = 0
        self.write: Callable[[bytes], object] = _discard

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        keep_alive(transport)
        self.front.deadlines.members.add(self)
        self.transport.pause_reading()

    def expire(self) -> None:
        """Never: see `deadline`."""

    def abort(self) -> None:
        if self.transport:
            self.transport.abort()

    def data_received(self, data: bytes) -> None:
        self.received += len(data)
        self.front.asked = False
        client = self.front.transport
        if client is not None:
            client.write(data)

    def eof_received(self) -> bool:
        self.finished = True
        client = self.front.transport
        if client is not None:
            client.write_eof()
            if self.front.finished:
                client.close()
                return False
        return True

    def pause_writing(self) -> None:
        if self.front.transport:
            self.front.transport.pause_reading()

    def resume_writing(self) -> None:
        if self.front.transport:
            self.front.transport.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        self.transport = None
        self.front.deadlines.members.discard(self)
        self.write = _discard
        client = self.front.transport
        if client is not None and self.front.back is self:
            if exc is not None:
                reset(client)
            else:
                client.close()


def _discard(data: bytes) -> None:
    """Stands for the write of a transport that is gone; the client's side is being closed."""
