"""A manager calls a candidate back before anything about it is written.

A host that joins as a manager, or a node that becomes one, is dialled at the address that it advertises: whom nobody
reaches there would count for the quorum and never answer. While it asks, the candidate listens where its port 2377 is
going to be. It answers managers of the cluster only, and with the very key that it wants certified: whoever else is at
that address (another manager, a stranger) cannot pass for it.

Rejected: asking the candidate to try its own address (it reaches itself where others do not); dialling it once it is a
member of the log (the node's object and its certificate are there by then).
"""

import asyncio
import contextlib
import os
import ssl
from collections.abc import AsyncIterator

from cryptography import x509

from essaim.cluster.errors import Unavailable
from essaim.daemon.addresses import split_host_port
from essaim.daemon.keys import tls
from essaim.daemon.settings import DEFAULT_CLUSTER_PORT
from essaim.secrets.holder import holder_of
from essaim.secrets.nodekey import own_certificate, same_key

GREETING = b"essaim candidate\n"
SECONDS = 5.0
"""For connecting, the handshake and the greeting together."""


class Answering:
    """Whether the candidate listens; if it cannot, `failure` says why, which only a manager-to-be minds."""

    def __init__(self) -> None:
        self.failure = ""


@contextlib.asynccontextmanager
async def answering(listen: str, key: bytes, roots: bytes) -> AsyncIterator[Answering]:
    """Listen at `listen` (host:port) with `key` (PEM) for managers whose certificates `roots` (PEM) vouch for."""
    state = Answering()
    context = await asyncio.to_thread(tls.candidate_context, own_certificate(key), key, roots)
    host, port = split_host_port(listen, DEFAULT_CLUSTER_PORT)
    server: asyncio.Server | None = None
    try:
        server = await asyncio.start_server(_greet, host, port, ssl=context, ssl_handshake_timeout=SECONDS)
    except OSError as error:
        state.failure = f"cannot listen on {listen} for managers: {error.strerror or error}"
    try:
        yield state
    finally:
        if server is not None:
            server.close()
            await server.wait_closed()


async def _greet(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    connection = writer.get_extra_info("ssl_object")
    with contextlib.suppress(OSError, ValueError, TimeoutError):
        shown = connection.getpeercert(binary_form=True)
        if holder_of(x509.load_der_x509_certificate(shown)).role == "manager":
            writer.write(GREETING)
        async with asyncio.timeout(SECONDS):
            await writer.drain()
    writer.close()


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
