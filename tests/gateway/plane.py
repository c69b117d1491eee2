"""The L7 plane without sockets: a client's and a replica's connection whose bytes the test hands over itself."""

from typing import Any

from essaim.gateway.http.exchange import Exchange
from essaim.gateway.http.http1.server import ServerConnection
from essaim.gateway.http.listener import Listener, RequestIds
from essaim.gateway.protocol.messages import EndpointPlan, PortPlan, ServicePlan
from essaim.gateway.protocol.options import ServiceOptions
from essaim.gateway.runtime.deadlines import Deadlines
from essaim.gateway.upstream.backend import Backend
from essaim.gateway.upstream.connection import HEAD, Upstream


class FakeTransport:
    """Keeps what is written; closing calls the protocol at once, as nothing is ever in flight."""

    def __init__(self, protocol: Any) -> None:
        self.written = b""
        self.closed = self.aborted = self.ended = False
        self.reading = True
        self._protocol = protocol

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return {"peername": ("192.0.2.7", 4711), "sockname": ("192.0.2.1", 80)}.get(name, default)

    def write(self, data: bytes) -> None:
        assert not self.ended, "written after the end"
        if not self.closed:
            self.written += data

    def write_eof(self) -> None:
        self.ended = True

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            self._protocol.connection_lost(None)

    def abort(self) -> None:
        self.aborted = True
        self.close()

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True


class Plane:
    """One client connection, and replicas that are connected already (the pool holds `connections` of them)."""

    def __init__(self, connections: int = 1, **options: Any) -> None:
        self.deadlines = Deadlines()
        self.options = ServiceOptions(**options)
        ready = EndpointPlan("e", "t", "n", "192.0.2.9", 80, True, False, None, 0)
        plan = PortPlan("p", "http", 0, 80, [ready])
        turns = memoryview(bytearray(4)).cast("I")
        self.backend = Backend(plan, turns, ("n", None), lambda endpoint, reason: None, lambda: None)
        self.backend.update(ServicePlan("s", "s", self.options, [plan]), plan, {}, 0.0)
        self.endpoint = self.backend.endpoints["e"]
        self.listener = Listener("l", self.backend, self.deadlines, RequestIds())
        self.connection = ServerConnection(Exchange, self.listener)
        self.near = FakeTransport(self.connection)
        self.connection.connection_made(self.near)  # type: ignore[arg-type]
        self.upstreams = [Upstream(self.endpoint, self.deadlines) for _ in range(connections)]
        for upstream in self.upstreams:
            upstream.connection_made(FakeTransport(upstream))  # type: ignore[arg-type]
            upstream.state, upstream.reused = 0, True
            self.endpoint.idle.insert(0, upstream)

    @property
    def exchange(self) -> Any:
        """The request in progress, if there is one."""
        return self.connection.exchange

    @property
    def far(self) -> Any:
        """The transport of the first replica connection."""
        return self._transports()[0]

    def _transports(self) -> list[Any]:
        return [upstream.transport for upstream in self.upstreams]

    def ask(self, *pieces: bytes) -> None:
        for piece in pieces:
            if not (self.near.closed or self.near.ended):
                self.connection.data_received(piece)

    def answer(self, *pieces: bytes) -> None:
        """From the first replica connection, as long as it is open."""
        for piece in pieces:
            if self.upstreams[0].transport is not None:
                self.upstreams[0].data_received(piece)

    @property
    def waiting_for_answer(self) -> bool:
        return self.upstreams[0].state == HEAD
