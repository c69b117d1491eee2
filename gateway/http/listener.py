"""What all connections of one listening socket share."""

import asyncio
import os
import socket
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from itertools import count
from typing import Protocol

from essaim.gateway.codec.message import Request
from essaim.gateway.http.forward_auth.client import AuthServers
from essaim.gateway.protocol.addresses import Networks
from essaim.gateway.protocol.entry_points import NO_ENTRY_POINT
from essaim.gateway.protocol.options import ServiceOptions
from essaim.gateway.routing.router import Router
from essaim.gateway.routing.tcp import TcpRouter
from essaim.gateway.runtime.access_log import AccessLog
from essaim.gateway.runtime.deadlines import Deadlines
from essaim.gateway.runtime.sources import Sources
from essaim.gateway.upstream.backend import Backend

from .authorization import Authorization
from .client_address import client_address
from .forwarded import hops_of

BACKLOG = 4096
NO_BACKENDS: Mapping[str, Backend] = {}


class RequestIds:
    """`X-Request-Id` for requests that bring none, or whose sender is not believed: unique by worker (random prefix)
    and request (count)."""

    __slots__ = ("next",)

    def __init__(self) -> None:
        form = os.urandom(8).hex().encode() + b"-%x"
        # Without a function of our own: one is made for nearly every request.
        self.next: Callable[[], bytes] = map(form.__mod__, count(1)).__next__


@lru_cache(maxsize=256)
def _networks(texts: tuple[str, ...]) -> Networks:
    return Networks(texts)


def _is_among(address: str, networks: Sequence[str]) -> bool:
    return bool(networks) and address in _networks(tuple(networks))


class Stoppable(Protocol):
    def stop(self) -> None:
        """End when what is in progress is done."""


class Listener:
    """One listening socket of a worker and where its connections go. `backend` changes when the port is re-routed."""

    def __init__(
        self,
        key: str,
        backend: Backend,
        deadlines: Deadlines,
        ids: RequestIds,
        backends: Mapping[str, Backend] = NO_BACKENDS,
        log: AccessLog | None = None,
        auth_servers: AuthServers | None = None,
        sources: Sources | None = None,
    ) -> None:
        self.key = key
        # All ports by their keys, for the routers.
        self.backends = backends
        self.backend = backend
        self.deadlines = deadlines
        self.ids = ids
        # The routers that are asked first, if the socket is an entry point: in the clear, behind TLS, and for
        # connections; `alone`: nothing is published there;
        # `point`: what is said of the entry point.
        self.router: Router | None = None
        self.secure: Router | None = None
        self.tcp: TcpRouter | None = None
        self.alone = False
        self.point = NO_ENTRY_POINT
        # Answers to an ACME server's questions (HTTP-01) by token.
        self.answers: Mapping[bytes, bytes] = {}
        self.sources = sources or Sources()
        # Who has requests in progress on connections of trusted proxies.
        self.callers = Sources()
        # What its requests' middlewares wait for.
        self.pending = Authorization(auth_servers or AuthServers(deadlines))
        self.log = log
        self.closing = False
        self.socket: socket.socket | None = None
        # 0 while there is no socket.
        self.port = 0
        self.close_socket: Callable[[], None] = lambda: None
        # HTTP connections, to be told when the socket closes.
        self.connections: set[Stoppable] = set()

    def trusts(self, address: str, options: ServiceOptions | None = None) -> bool:
        """Whether what this source says about earlier hops is believed: by the entry point, or by the service whose
        `options` these are (label `essaim.trusted`); by default the one that is published here."""
        options = options or self.backend.options
        return _is_among(address, self.point.trusted) or _is_among(address, options.trusted)

    def client(self, peer: str, request: Request, options: ServiceOptions) -> str:
        """Who called, as far as the entry point and the service with these options believe the peer."""
        trusted = (self.point.trusted, options.trusted)
        return client_address(peer, hops_of(request), [_networks(tuple(one)) for one in trusted if one])

    @property
    def accepts_proxy(self) -> bool:
        """Whether there are sources whose connections begin with a PROXY header."""
        return self.point.proxy_protocol or self.backend.options.accept_proxy

    def expects_proxy(self, address: str) -> bool:
        """Whether a connection from there must begin with one."""
        options = self.backend.options
        return (self.point.proxy_protocol and _is_among(address, self.point.trusted)) or (
            options.accept_proxy and _is_among(address, options.trusted)
        )

    def accept(self, sock: socket.socket, make: "Callable[[Listener], asyncio.Protocol]") -> None:
        """Serve the connections of a socket that listens already."""
        self.socket = sock
        self.port = sock.getsockname()[1]
        loop = asyncio.get_running_loop()
        starting = loop.create_task(loop.create_server(lambda: make(self), sock=sock, backlog=BACKLOG))

        def close() -> None:
            if starting.done() and not starting.cancelled():
                starting.result().close()
            else:
                starting.cancel()
                sock.close()

        self.close_socket = close

    def stop(self) -> None:
        self.closing = True
        for connection in list(self.connections):
            connection.stop()
