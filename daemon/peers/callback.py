"""A manager calls a candidate back before anything about it is written.

A host that joins as a manager, or a node that becomes one, is dialled at the address that it advertises: whom nobody
reaches there would count for the quorum and never answer. While it asks, the candidate listens where its port 2377 is
going to be. It answers managers of the cluster only, and with the very key that it wants certified: whoever else is at
that address (another manager, a stranger) cannot pass for it. Its listener has the bounds of all others of the daemon
(`api/listen/doors.py`), with few places: the managers of one cluster call.

Rejected: asking the candidate to try its own address (it reaches itself where others do not); dialling it once it is a
member of the log (the node's object and its certificate are there by then).
"""

import asyncio
import contextlib
import os
import socket
import ssl
from collections.abc import AsyncIterator
from typing import Any, cast

import structlog
from cryptography import x509

from essaim.api.listen.accepting import Acceptor
from essaim.api.listen.admission import Limits
from essaim.api.listen.connections import Connection, Door, cut_all, local_of, source_of
from essaim.api.listen.doors import door_for, tcp_sockets
from essaim.cluster.errors import Unavailable
from essaim.daemon.addresses import split_host_port
from essaim.daemon.keys import tls
from essaim.daemon.settings import DEFAULT_CLUSTER_PORT
from essaim.secrets.holder import holder_of
from essaim.secrets.nodekey import own_certificate, same_key

GREETING = b"essaim candidate\n"
SECONDS = 5.0
"""For connecting, the handshake and the greeting together."""
PLACES = Limits(64, 16)
"""Connections at once, in all and from one source; the longest waiting goes when there are more."""


class Answering:
    """Whether the candidate listens; if it cannot, `failure` says why, which only a manager-to-be minds."""

    def __init__(self) -> None:
        self.failure = ""


@contextlib.asynccontextmanager
async def answering(listen: str, key: bytes, roots: bytes) -> AsyncIterator[Answering]:
    """Listen at `listen` (host:port) with `key` (PEM) for managers whose certificates `roots` (PEM) vouch for."""
    state = Answering()
    context = await asyncio.to_thread(tls.candidate_context, own_certificate(key), key, roots)
    waiting = _WaitingRoom(door_for(f"{listen} (candidate)", PLACES, context=context))
    try:
        await waiting.open(*split_host_port(listen, DEFAULT_CLUSTER_PORT))
    except OSError as error:
        state.failure = f"cannot listen on {listen} for managers: {error.strerror or error}"
    try:
        yield state
    finally:
        await waiting.close()


class _WaitingRoom:
    """The connections at a door, each until it was greeted or its time is over."""

    def __init__(self, door: Door) -> None:
        self._door = door
        self._log = structlog.get_logger()
        self._acceptors: list[Acceptor] = []
        self._arriving: set[asyncio.Task[None]] = set()

    async def open(self, host: str, port: int) -> None:
        """Raises OSError."""
        for one in await tcp_sockets(host, port):
            acceptor = Acceptor(one, self._welcome, self._relieve, name=self._door.name, log=self._log)
            self._acceptors.append(acceptor)
            acceptor.start()

    async def close(self) -> None:
        for acceptor in self._acceptors:
            await acceptor.stop()
        arriving = list(self._arriving)
        for task in arriving:
            task.cancel()
        await asyncio.gather(*arriving, return_exceptions=True)
        self._relieve()

    def _relieve(self) -> int:
        return cut_all(self._door.strangers.waiting())

    def _welcome(self, connection: socket.socket, address: Any) -> None:
        try:
            held = Connection(self._door, source_of(connection, address), local_of(connection), connection.close)
        except OSError:
            connection.close()  # it has gone already
            return
        held.enter()  # a newcomer always finds a place: nobody here is served, so somebody can be put out
        task = asyncio.create_task(self._arrive(connection, held), name=f"arriving at {self._door.name}")
        held.end = task.cancel
        held.expect(SECONDS)
        self._arriving.add(task)
        task.add_done_callback(self._arriving.discard)

    async def _arrive(self, connection: socket.socket, held: Connection) -> None:
        """Up to the end of the TLS handshake; a stranger's failed one has told it what it needs to know."""
        try:
            await asyncio.get_running_loop().connect_accepted_socket(
                lambda: _Greeter(held), connection, ssl=self._door.context, ssl_handshake_timeout=SECONDS
            )
        except BaseException as error:
            held.leave()
            connection.close()
            if not isinstance(error, OSError | TimeoutError):
                raise


class _Greeter(asyncio.Protocol):
    """Says the greeting to a manager, nothing to anybody else, and hangs up."""

    def __init__(self, held: Connection) -> None:
        self._held = held

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        stream = cast("asyncio.Transport", transport)
        self._held.end = stream.abort
        if not self._held.held:
            stream.abort()  # it was put out while it shook hands
            return
        shown = stream.get_extra_info("ssl_object").getpeercert(binary_form=True)
        with contextlib.suppress(ValueError):
            if holder_of(x509.load_der_x509_certificate(shown)).role == "manager":
                stream.write(GREETING)
        stream.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self._held.leave()


async def call_back(address: str, request: bytes, context: ssl.SSLContext) -> None:
    """Make sure that who has sent `request` (PEM) answers at `address` (host:port). Raises Unavailable."""
    try:
        async with asyncio.timeout(SECONDS):
            reason = await _dial(address, request, context)
    except TimeoutError:
        reason = f"no answer within {SECONDS:g} seconds"
    except ssl.SSLError as error:
        reason = f"no candidate answers there ({error.reason or error})"
    except OSError as error:
        reason = os.strerror(error.errno).lower() if error.errno else str(error)
    if reason:
        raise Unavailable(
            "rpc error: code = Unavailable desc = could not connect to prospective new cluster member using its "
            f"advertised address: {address}: {reason}. Is --advertise-addr right, and its port open for the managers?"
        )


async def _dial(address: str, request: bytes, context: ssl.SSLContext) -> str:
    """Why it is not the candidate; empty if it is."""
    host, port = split_host_port(address, DEFAULT_CLUSTER_PORT)
    reader, writer = await asyncio.open_connection(host, port, ssl=context)
    try:
        shown = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        if not same_key(request, shown):
            return "another host answers there"
        return "" if await reader.read(len(GREETING)) == GREETING else "it does not take this manager's certificate"
    finally:
        writer.transport.abort()
