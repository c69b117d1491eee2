"""One connection to one of our listeners, from the moment it is accepted until it has gone.

It has 10 s for its TLS handshake and 10 s for the head of its first request. While it is not *trusted* (on the port of
managers and agents: without a certificate of a node) it gets one request, whose body has 10 s as well.
"""

import asyncio
import contextlib
import ipaddress
import socket
import ssl
import struct
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, cast

from aiohttp import web

from .admission import Admission, Full, Limits

HANDSHAKE_SECONDS = 10.0
HEAD_SECONDS = 10.0
BODY_SECONDS = 10.0
"""For the body of a stranger's request, and all that is done until `served`."""
_CREDENTIALS = struct.Struct("3i")

Proof = Callable[[asyncio.BaseTransport], str]
"""Who the other side has proven to be, once TLS is through; empty for nobody. It raises nothing."""


@dataclass(frozen=True, slots=True)
class Door:
    """One listener. `hosts`: the names and addresses it may be called by, None for any (no web page reaches it).

    Without `proof` whoever is through TLS is trusted; with it, who is proven moves from `strangers` to `known`.
    """

    name: str
    strangers: Admission["Connection"]
    hosts: frozenset[str] | None = None
    context: ssl.SSLContext | None = None
    proof: Proof | None = None
    known: Admission["Connection"] = field(default_factory=lambda: Admission(Limits(1, 1)))


class Connection:
    """Where it stands in its door's admission. Its methods may be called in any order, also after it has gone."""

    __slots__ = ("_pool", "_timer", "door", "end", "local", "source", "trusted")

    def __init__(self, door: Door, source: str, local: str, end: Callable[[], object]) -> None:
        """`local`: the address of ours that was called, empty for a Unix socket. `end` ends the connection at once."""
        self.door, self.source, self.local, self.end = door, source, local, end
        self.trusted = door.proof is None
        self._pool = door.strangers
        self._timer: asyncio.TimerHandle | None = None

    @property
    def held(self) -> bool:
        """It has its place still."""
        return self in self._pool

    def enter(self) -> None:
        """Raises Full."""
        self._take_place(self._pool, self.source)

    def prove(self, who: str) -> None:
        """It is a node's, and leaves the strangers. Raises Full."""
        self._pool.leave(self)
        self._pool = self.door.known
        self._take_place(self._pool, who)
        self.trusted = True

    def expect(self, seconds: float) -> None:
        """What is to come next has so long."""
        self.at_ease()
        self._timer = asyncio.get_running_loop().call_later(seconds, self.cut)

    def at_ease(self) -> None:
        """No time limit of ours any more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    @contextlib.contextmanager
    def served(self) -> Iterator[None]:
        """Within, it has no time limit and keeps its place."""
        self.at_ease()
        self._pool.served(self)
        try:
            yield
        finally:
            self._pool.waits(self)

    @contextlib.contextmanager
    def reading(self) -> Iterator[None]:
        """Within `served`, while a body is awaited: it may be put out, as whoever does not finish a head."""
        self._pool.waits(self)
        try:
            yield
        finally:
            self._pool.served(self)

    def cut(self) -> None:
        self.leave()
        self.end()

    def leave(self) -> None:
        self.at_ease()
        self._pool.leave(self)

    def _take_place(self, pool: Admission["Connection"], source: str) -> None:
        victim = pool.enter(self, source)
        if victim is not None:
            victim.cut()


CONNECTION = web.RequestKey("connection", Connection)
"""On every request that came through a door."""


class Gate(asyncio.BaseProtocol):
    """Stands in front of aiohttp's protocol to learn when TLS is through and when the connection has gone.

    What comes often is handed over as it is, so that it costs nothing more. Rejected: to be an asyncio.Protocol, whose
    methods are no fields.
    """

    def __init__(self, connection: Connection, inner: web.RequestHandler, gone: Callable[[], None]) -> None:
        self._connection, self._inner, self._gone = connection, inner, gone
        self.data_received = inner.data_received
        self.eof_received = inner.eof_received

    def pause_writing(self) -> None:
        self._inner.pause_writing()

    def resume_writing(self) -> None:
        self._inner.resume_writing()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        connection = self._connection
        stream = cast("asyncio.Transport", transport)
        connection.end = stream.abort
        self._inner.connection_made(transport)
        if not connection.held:
            stream.abort()  # it was put out while it shook hands
            return
        connection.expect(HEAD_SECONDS)
        who = connection.door.proof(transport) if connection.door.proof else ""
        if who:
            try:
                connection.prove(who)
            except Full:
                connection.cut()

    def connection_lost(self, exc: Exception | None) -> None:
        self._gone()
        self._inner.connection_lost(exc)


def cut_all(connections: Iterable[Connection]) -> int:
    """How many there were."""
    found = list(connections)
    for connection in found:
        connection.cut()
    return len(found)


def source_of(connection: socket.socket, address: Any) -> str:
    """Whose connection it is: an IPv4 address, a /64 of IPv6 (what one host can have), a process of this host."""
    if connection.family == socket.AF_UNIX:
        shown = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        return f"process {_CREDENTIALS.unpack(shown)[0]}"
    host = ipaddress.ip_address(str(address[0]).partition("%")[0])
    if isinstance(host, ipaddress.IPv4Address):
        return str(host)
    return str(host.ipv4_mapped or ipaddress.ip_network((host, 64), strict=False))


def local_of(connection: socket.socket) -> str:
    """Our address that the other side has called."""
    if connection.family == socket.AF_UNIX:
        return ""
    host = ipaddress.ip_address(str(connection.getsockname()[0]).partition("%")[0])
    return str(getattr(host, "ipv4_mapped", None) or host)
