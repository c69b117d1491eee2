"""A new connection at a listening socket: whether there is room for it, and who takes it.

That is layer 4 or 7 by what the socket serves, after a look at the first bytes where TLS or a TCP router is possible
(`tls/doorway.py`), and after a PROXY header where one is expected (`greeting.py`).
"""

import asyncio

from essaim.gateway.tls.cabinet import Cabinet
from essaim.gateway.tls.doorway import Doorway, is_needed
from essaim.gateway.tls.handshakes import Handshakes

from .admission import Admission
from .client import Client
from .descriptors import Full
from .greeting import Greeting, Peer
from .l4 import Front
from .listener import Listener
from .sweeper import Sweeper


class Arrival:
    def __init__(self, sweeper: Sweeper, admission: Admission, cabinet: Cabinet, handshakes: Handshakes) -> None:
        self._sweeper = sweeper
        self._admission = admission
        self._cabinet = cabinet
        self._handshakes = handshakes

    def take(self, listener: Listener) -> asyncio.Protocol:
        self._sweeper.wake()
        if not self._admission.admit():
            return Full()
        if is_needed(listener, self._cabinet):
            make = self._new_doorway
        elif listener.router is not None or listener.backend.mode == "http":
            make = self._new_client
        else:
            make = self._new_front
        if listener.accepts_proxy:
            return Greeting(listener, lambda peer: make(listener, peer))
        return make(listener, None)

    def _new_doorway(self, listener: Listener, peer: Peer | None) -> asyncio.Protocol:
        return Doorway(listener, peer, self._cabinet, self._handshakes)

    def _new_client(self, listener: Listener, peer: Peer | None) -> asyncio.Protocol:
        return Client(listener, peer)

    def _new_front(self, listener: Listener, peer: Peer | None) -> asyncio.Protocol:
        return Front(listener.backend, self._sweeper, listener.sources, peer)
