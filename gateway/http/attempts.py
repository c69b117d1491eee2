"""What sending a request takes beyond a connection that is ready: a place in the queue, connecting, trying again.

Rules:
- A request goes to another endpoint when it cannot have had an effect: the connection was refused, or a connection
  broke before it answered and the method is idempotent (RFC 9110, 9.2.2) and all of the request is still here.
- Nobody answers: as with no endpoint at all, the request waits for one, within the same time.
"""

import asyncio
from time import perf_counter
from typing import Protocol

from essaim.gateway.codec.interface import ClientStream
from essaim.gateway.runtime.deadlines import Deadlines
from essaim.gateway.upstream.backend import Backend, Endpoint
from essaim.gateway.upstream.connect import RECONNECT_SECONDS, NoEndpoint, connect_any, start
from essaim.gateway.upstream.connection import Upstream

PAUSE_GROWTH, PAUSE_LONGEST = 1.5, 2.0
"""How the pause between retries grows with each, and to how many times the first at most, as with Traefik."""


class Sending(Protocol):
    """The exchange, as far as its attempts know it."""

    backend: Backend
    deadlines: Deadlines
    stream: ClientStream
    # Seconds of `perf_counter`.
    started: float
    over: bool
    responding: bool

    def proceed(self) -> None:
        """Choose a replica and send the request to it."""

    def connected(self, endpoint: Endpoint, upstream: Upstream) -> None:
        """Send it by this connection, which the endpoint counts already."""

    def answer(self, status: int, reason: str) -> None:
        """The gateway answers instead."""


class Attempts:
    """Made when the first replica has no connection at rest, or there is none. `failed`: attempts so far that did."""

    __slots__ = ("_exchange", "connecting", "failed")

    def __init__(self, exchange: Sending) -> None:
        self._exchange = exchange
        self.connecting: asyncio.Task[None] | None = None
        self.failed = 0

    @property
    def deadline(self) -> float:
        """Loop time: as long as the request is in the queue, when its time there is up."""
        return self._exchange.stream.deadline

    @deadline.setter
    def deadline(self, deadline: float) -> None:
        self._exchange.stream.deadline = deadline

    def queue(self) -> None:
        """Wait until a replica is ready, if there is room."""
        exchange = self._exchange
        if not exchange.backend.wait(self, exchange.deadlines.now):
            exchange.answer(503, "no replica of the service can be reached")

    @property
    def queued(self) -> bool:
        return self in self._exchange.backend.waiting

    def endpoint_ready(self) -> None:
        self._exchange.proceed()

    def refuse_waiting(self, reason: str) -> None:
        self._exchange.answer(503, reason)

    def connect(self, endpoint: Endpoint) -> None:
        self.connecting = start(self._connect, endpoint)

    async def _connect(self, first: Endpoint) -> None:
        exchange = self._exchange
        deadlines = exchange.deadlines
        try:
            endpoint, upstream = await connect_any(
                exchange.backend, first, lambda endpoint: Upstream(endpoint, deadlines), deadlines
            )
        except NoEndpoint as error:
            self.connecting = None
            if perf_counter() - exchange.started < exchange.backend.options.queue_timeout:
                self._later(RECONNECT_SECONDS)
            else:
                exchange.answer(502, str(error))
            return
        self.connecting = None
        if exchange.over or upstream.transport is None:
            endpoint.released()
            upstream.close()
            exchange.answer(502, "the backend closed the connection")
            return
        exchange.connected(endpoint, upstream)

    def again(self, pause: float) -> None:
        """Send the request to another replica: at once, or after the pause (seconds) that its router asks for."""
        if pause:
            self._later(pause * min(PAUSE_GROWTH ** (self.failed - 1), PAUSE_LONGEST))
        else:
            self._exchange.proceed()

    def _later(self, seconds: float) -> None:
        asyncio.get_running_loop().call_later(seconds, self._retry)

    def _retry(self) -> None:
        if not self._exchange.responding:
            self._exchange.proceed()

    def cancel(self) -> None:
        """The request is over: it waits for nobody, and what connecting comes to is not for it."""
        self._exchange.backend.forget(self)
        if self.connecting is not None:
            self.connecting.cancel()
            self.connecting = None
