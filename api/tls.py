"""TLS in front of the API that knows half-close.

`docker exec -i` ends its input by closing its writing side, over TLS too (close_notify), and goes on reading. asyncio's
and uvloop's TLS transports close both sides then, so the output would be lost. Here TLS ends in a pair of memory
buffers, and the bytes go on to the application through a socket pair, where half-close is what it always was.
"""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Awaitable, Callable
from pathlib import Path

from .upstream import CHUNK, Streams

HANDSHAKE_SECONDS = 10.0

Accept = Callable[[socket.socket], Awaitable[object]]
"""Hands a connected socket to the application's server."""


def server_context(certificate: Path, key: Path, client_ca: Path) -> ssl.SSLContext:
    """TLS as a Docker context expects it: 1.2 or newer, and a client certificate that `client_ca` has signed."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(client_ca))
    context.load_cert_chain(certificate, key)
    context.verify_mode = ssl.CERT_REQUIRED
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


class _Session:
    """One client's TLS: plain bytes on one side, the network's streams on the other."""

    def __init__(self, context: ssl.SSLContext, outside: Streams) -> None:
        self._reader, self._writer = outside
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)

    async def handshake(self) -> bool:
        """Whether the client is one of ours; otherwise it has been told why not."""
        while True:
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                await self._flush()
                if not await self._fill():
                    return False
            except ssl.SSLError:
                await self._flush()
                return False
            else:
                await self._flush()
                return True

    async def read(self) -> bytes:
        """Plain bytes; empty once the client has closed its side."""
        while True:
            try:
                return self._tls.read(CHUNK)
            except ssl.SSLWantReadError:
                await self._flush()
                if not await self._fill():
                    return b""
            except ssl.SSLError:
                return b""

    async def write(self, data: bytes) -> None:
        self._tls.write(data)
        await self._flush()

    async def close(self) -> None:
        """Say that nothing more comes."""
        with contextlib.suppress(ssl.SSLError):
            self._tls.unwrap()
        await self._flush()

    async def _fill(self) -> bool:
        data = await self._reader.read(CHUNK)
        self._incoming.write(data)
        return bool(data)

    async def _flush(self) -> None:
        if data := self._outgoing.read():
            self._writer.write(data)
            await self._writer.drain()


class TlsListener:
    """Accepts TLS clients for an application. Use `start` and `stop`."""

    def __init__(self, context: ssl.SSLContext, accept: Accept) -> None:
        self._context = context
        self._accept = accept
        self._server: asyncio.Server | None = None
        self._clients: set[asyncio.Task[None]] = set()

    async def start(self, host: str, port: int, backlog: int) -> int:
        """The port that it listens on."""
        self._server = await asyncio.start_server(self._connected, host, port, backlog=backlog)
        return int(self._server.sockets[0].getsockname()[1])

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
        clients = list(self._clients)
        for client in clients:
            client.cancel()
        await asyncio.gather(*clients, return_exceptions=True)

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(self._serve(reader, writer), name="api tls client")
        self._clients.add(task)
        task.add_done_callback(self._clients.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        session = _Session(self._context, (reader, writer))
        try:
            async with asyncio.timeout(HANDSHAKE_SECONDS):
                welcome = await session.handshake()
            if welcome:
                await self._carry(session)
        except (OSError, TimeoutError):
            pass  # the client has gone, or never began
        finally:
            writer.close()

    async def _carry(self, session: _Session) -> None:
        ours, theirs = socket.socketpair()
        try:
            await self._accept(theirs)
        except BaseException:
            ours.close()
            theirs.close()
            raise
        inner_reader, inner_writer = await asyncio.open_unix_connection(sock=ours)
        inward = asyncio.create_task(_inward(session, inner_writer), name="api tls inward")
        try:
            while data := await inner_reader.read(CHUNK):
                await session.write(data)
            await session.close()
        finally:
            inner_writer.transport.abort()
            inward.cancel()
            await asyncio.gather(inward, return_exceptions=True)


async def _inward(session: _Session, writer: asyncio.StreamWriter) -> None:
    while data := await session.read():
        writer.write(data)
        await writer.drain()
    writer.write_eof()
