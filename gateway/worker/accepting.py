"""A new connection at a listening socket: whether there is room for it, and who takes it.

That is layer 4 or 7 by what the socket serves, after a look at the first bytes where TLS or a TCP router is possible
(`worker/tls_inspector.py`), and after a PROXY header where one is expected (`proxy_header.py`).
"""

import asyncio

from essaim.gateway.http.exchange import Exchange
from essaim.gateway.http.http1.server import ServerConnection
from essaim.gateway.http.listener import Listener
from essaim.gateway.runtime.deadlines import Deadlines
from essaim.gateway.runtime.descriptors import Full
from essaim.gateway.tcp.forward import Front
from essaim.gateway.tls.certificates import CertificateStore
from essaim.gateway.tls.handshakes import Handshakes

from .admission import Admission
from .proxy_header import Peer, ProxyHeaderReader
from .tls_inspector import TlsInspector, is_needed


class Acceptor:
    def __init__(
        self, deadlines: Deadlines, admission: Admission, certificate_store: CertificateStore, handshakes: Handshakes
    ) -> None:
        self._deadlines = deadlines
        self._admission = admission
        self._certificate_store = certificate_store
        self._handshakes = handshakes

    def take(self, listener: Listener) -> asyncio.Protocol:
        self._deadlines.wake()
        if not self._admission.admit():
            return Full()
        if is_needed(listener, self._certificate_store):
            make = self._new_inspector
        elif listener.router is not None or listener.backend.mode == "http":
            make = self._new_client
        else:
            make = self._new_front
        if listener.accepts_proxy:
            return ProxyHeaderReader(listener, lambda peer: make(listener, peer))
        return make(listener, None)

    def _new_inspector(self, listener: Listener, peer: Peer | None) -> asyncio.Protocol:
        return TlsInspector(listener, peer, self._certificate_store, self._handshakes)

    def _new_client(self, listener: Listener, peer: Peer | None) -> asyncio.Protocol:
        return ServerConnection(Exchange, listener, peer)

    def _new_front(self, listener: Listener, peer: Peer | None) -> asyncio.Protocol:
        return Front(listener.backend, self._deadlines, listener.sources, peer)
