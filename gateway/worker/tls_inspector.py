"""Where a connection's first bytes are looked at: TLS or not, for whom, and so who takes it over.

The order is Traefik's. In the clear: a TCP router, else HTTP. With TLS: an ACME server's question; a TCP router for
that very name; an HTTP router for it; a TCP router for any name; HTTP. A TCP router may want the connection untouched
(`tls.passthrough`): then TLS is the replica's business, and the bytes that were looked at are sent on as they came.

A published port (no entry point) that ends TLS speaks nothing else.
"""

import asyncio
from collections.abc import Callable
from typing import cast

from essaim.gateway.http.exchange import Exchange
from essaim.gateway.http.http1.server import ServerConnection
from essaim.gateway.http.http2.server import Http2Connection
from essaim.gateway.http.listener import Listener
from essaim.gateway.http.reply import reply
from essaim.gateway.protocol.addresses import plain_address
from essaim.gateway.protocol.tls_policy import TlsPolicy
from essaim.gateway.routing.tcp import Dialled, TcpRoute
from essaim.gateway.routing.tcp_middlewares import Guard, Guarded
from essaim.gateway.tcp.forward import Front
from essaim.gateway.tls.certificates import CertificateStore
from essaim.gateway.tls.client_hello import BadHello, Hello, HelloReader, NotTls, alert
from essaim.gateway.tls.contexts import HTTP, HTTP2, CannotUse
from essaim.gateway.tls.handshakes import Handshakes
from essaim.gateway.tls.session import secured
from essaim.gateway.tls.transport import TlsTransport
from essaim.gateway.upstream.backend import Backend

from .proxy_header import Peer

INTERNAL_ERROR = 80


def is_needed(listener: Listener, certificate_store: CertificateStore) -> bool:
    """Whether there is anything to decide about the connections of this socket."""
    tcp = listener.tcp
    return listener.backend.tls or (tcp is not None and (tcp.has(secure=False) or _peeks(listener, certificate_store)))


def _peeks(listener: Listener, certificate_store: CertificateStore) -> bool:
    """Whether it takes a client's first bytes. Where it does not, a server may speak first."""
    secure, tcp = listener.secure, listener.tcp
    if tcp is None or secure is None:
        return listener.backend.tls
    return listener.backend.tls or secure.is_used or tcp.has(secure=True) or certificate_store.is_challenged


class TlsInspector(asyncio.Protocol):
    __slots__ = ("_certificate_store", "_handshakes", "_listener", "_peer", "_reader", "_transport", "deadline")

    def __init__(
        self, listener: Listener, peer: Peer | None, certificate_store: CertificateStore, handshakes: Handshakes
    ) -> None:
        self._listener = listener
        self._peer = peer
        self._certificate_store = certificate_store
        self._handshakes = handshakes
        self._reader = HelloReader()
        self._transport: asyncio.Transport | None = None
        self.deadline = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self.deadline = self._listener.deadlines.now + self._listener.backend.options.header_timeout
        self._handshakes.enter(self)
        if not _peeks(self._listener, self._certificate_store):
            self._in_the_clear()

    def data_received(self, data: bytes) -> None:
        try:
            hello = self._reader.feed(data)
        except NotTls:
            self._in_the_clear()
            return
        except BadHello as bad:
            self._refuse(bad.alert)
            return
        if hello is not None:
            self._leave()
            self._secure(hello)

    def _address(self) -> str:
        peer = self._peer or (self._transport.get_extra_info("peername") if self._transport else None)
        return plain_address(peer[0]) if peer else "unknown"

    def _in_the_clear(self) -> None:
        self._leave()
        listener = self._listener
        tcp = listener.tcp
        route = tcp.find(Dialled("", (), self._address()), secure=False) if tcp else None
        if route is not None:
            self._forward(route)
        elif tcp is not None or not listener.backend.tls:
            self._hand_over(ServerConnection(Exchange, listener, self._peer))
        elif listener.backend.mode == "http":
            assert self._transport is not None
            self._transport.write(reply(400, "plain HTTP was sent to a port that speaks HTTPS"))
            self._transport.close()
        else:
            self._abort()

    def _secure(self, hello: Hello) -> None:
        listener, secure = self._listener, self._listener.secure
        try:
            answer = self._certificate_store.answer(hello.name, hello.protocols)
            if answer is not None:
                self._end_tls(answer, lambda tls: None, False)
                return
            route = self._tcp_route(hello)
            if route is not None and route.tls is None:
                self._forward(route)
            elif route is not None and route.tls is not None:
                taken = route
                self._terminate(hello, route.tls, None, lambda tls: self._routed(taken))
            elif secure is None and listener.backend.mode != "http":
                backend = listener.backend
                self._terminate(hello, backend.options.tls.policy, None, lambda tls: self._front(backend))
            else:
                policy = (secure.policy(hello.name) if secure else None) or listener.backend.options.tls.policy
                self._terminate(hello, policy, HTTP, lambda tls: self._client(tls, policy))
        except CannotUse:
            # The reason is known to the supervisor, which shows it on the service.
            self._refuse(INTERNAL_ERROR)

    def _tcp_route(self, hello: Hello) -> TcpRoute | None:
        tcp, secure = self._listener.tcp, self._listener.secure
        if tcp is None or secure is None:
            return None
        route = tcp.find(Dialled(hello.name, hello.protocols, self._address()), secure=True)
        return None if route is not None and route.is_catch_all and secure.names(hello.name) else route

    def _terminate(
        self,
        hello: Hello,
        policy: TlsPolicy,
        protocols: tuple[str, ...] | None,
        ready: Callable[[TlsTransport], asyncio.Protocol | None],
    ) -> None:
        """`protocols`: what is spoken here; None at layer 4, where it is what the replicas are said to speak.

        Raises CannotUse.
        """
        asked = hello.name
        if not asked and self._transport is not None:
            local = self._transport.get_extra_info("sockname")
            asked = plain_address(local[0]) if local else ""
        context = self._certificate_store.context(asked, policy, policy.alpn if protocols is None else protocols)
        self._end_tls(context, ready, protocols is None)

    def _end_tls(self, context: object, ready: Callable[[TlsTransport], asyncio.Protocol | None], strict: bool) -> None:
        assert self._transport is not None
        tls = TlsTransport(self._transport, context, ready, self._handshakes, strict)  # type: ignore[arg-type]
        tls.start(self._reader.data, self.deadline)

    def _client(self, tls: TlsTransport, policy: TlsPolicy) -> asyncio.Protocol:
        make = Http2Connection if tls.tls.selected_alpn_protocol() == HTTP2 else ServerConnection
        return make(Exchange, self._listener, self._peer, secured(tls, policy))

    def _front(self, backend: Backend, guards: tuple[Guard, ...] = ()) -> asyncio.Protocol:
        sources = self._listener.sources
        sources = Guarded(sources, guards) if guards else sources
        return Front(backend, self._listener.deadlines, sources, self._peer)

    def _routed(self, route: TcpRoute) -> asyncio.Protocol | None:
        backend = self._listener.backends.get(route.port_key)
        return self._front(backend, route.guards) if backend else None

    def _forward(self, route: TcpRoute) -> None:
        front = self._routed(route)
        if front is None:
            self._abort()
        else:
            self._hand_over(front)

    def _hand_over(self, protocol: asyncio.Protocol) -> None:
        assert self._transport is not None
        self._transport.set_protocol(protocol)
        protocol.connection_made(self._transport)
        if self._reader.data:
            protocol.data_received(bytes(self._reader.data))

    def _leave(self) -> None:
        self._handshakes.leave(self)

    def _refuse(self, number: int) -> None:
        self._handshakes.failures += 1
        self._leave()
        if self._transport:
            self._transport.write(alert(number))
            self._transport.close()

    def _abort(self) -> None:
        self._leave()
        if self._transport:
            self._transport.abort()

    def spare(self) -> int | None:
        return 0

    def evict(self) -> None:
        self.expire()

    def expire(self) -> None:
        """The ClientHello does not come."""
        self._handshakes.failures += 1
        self._abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._leave()
