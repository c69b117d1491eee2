"""Incoming PROXY headers: read before the connection is handed to layer 4 or 7, from trusted sources only.

A source that is not trusted is served as it is: its bytes are its own, whatever they look like. A trusted one must
begin with a header, or is cut off: otherwise a client could have a proxy in front of us forward a header of its making.
"""

import asyncio
from collections.abc import Callable
from typing import cast

from essaim.gateway.http.listener import Listener
from essaim.gateway.protocol.addresses import plain_address
from essaim.gateway.runtime.deadlines import NEVER
from essaim.gateway.tcp.proxy_protocol import BadHeader, read_header

Peer = tuple[str, int]


class ProxyHeaderReader(asyncio.Protocol):
    """Stands in for the real protocol until the header is read. `make(peer)` gives the real one."""

    def __init__(self, listener: Listener, make: Callable[[Peer | None], asyncio.Protocol]) -> None:
        self._listener = listener
        self._make = make
        self._transport: asyncio.Transport | None = None
        self._data = b""
        self.deadline = NEVER

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        peer = transport.get_extra_info("peername")
        if peer and self._listener.expects_proxy(plain_address(peer[0])):
            self._listener.deadlines.add(self)
            self.deadline = self._listener.deadlines.now + self._listener.backend.options.header_timeout
        else:
            self._hand_over(None, b"")

    def data_received(self, data: bytes) -> None:
        assert self._transport is not None
        self._data += data
        try:
            found = read_header(self._data)
        except BadHeader:
            self._transport.abort()
            return
        if found is not None:
            length, peer = found
            self._hand_over(peer, self._data[length:])

    def _hand_over(self, peer: Peer | None, rest: bytes) -> None:
        assert self._transport is not None
        self._listener.deadlines.members.discard(self)
        protocol = self._make(peer)
        self._transport.set_protocol(protocol)
        protocol.connection_made(self._transport)
        if rest:
            protocol.data_received(rest)

    def spare(self) -> int | None:
        return 0

    def evict(self) -> None:
        self.expire()

    def expire(self) -> None:
        if self._transport:
            self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._listener.deadlines.members.discard(self)
