"""TLS in front of the API that knows half-close.

`docker exec -i` ends its input by closing its writing side, over TLS too (close_notify), and goes on reading. asyncio's
and uvloop's TLS transports close both sides then, so the output would be lost. Here TLS ends in a pair of memory
buffers, and the bytes go on to the application through a socket pair, where half-close is what it always was.
"""

import asyncio
import contextlib
import socket
import ssl
from pathlib import Path
from typing import Any

from cryptography import x509

from essaim.api.streams.exchange import CHUNK, Streams

from .accepting import Acceptor
from .admission import Full, Limits
from .connections import HANDSHAKE_SECONDS, Connection, Door, cut_all, local_of, source_of
from .doors import Doors, door_for, tcp_sockets

PLAIN_TEXT = b"""Client sent an HTTP request to an HTTPS server. \
Ask it by TLS: --tlsverify with --tlscacert, --tlscert and --tlskey.
"""
PLAIN_REFUSED = (
    b"HTTP/1.0 400 Bad Request\r\nContent-Type: text/plain\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%b"
    % (len(PLAIN_TEXT), PLAIN_TEXT)
)
"""For who asks in plain: as Go's servers answer, so that every client says why."""


def server_context(certificate: Path, key: Path, client_ca: Path) -> ssl.SSLContext:
    """TLS as a Docker context expects it: 1.2 or newer, and a client certificate that `client_ca` has signed."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(client_ca))
    context.load_cert_chain(certificate, key)
    context.verify_mode = ssl.CERT_REQUIRED
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def names_in(certificate: bytes) -> set[str]:
    """The names and addresses that a certificate (PEM) is for."""
    try:
        extensions = x509.load_pem_x509_certificate(certificate).extensions
        names = extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (ValueError, x509.ExtensionNotFound):
        return set()
    return {*names.get_values_for_type(x509.DNSName), *map(str, names.get_values_for_type(x509.IPAddress))}


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
            except ssl.SSLError as error:
                if error.reason == "HTTP_REQUEST":
                    self._writer.write(PLAIN_REFUSED)
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
    """Accepts TLS clients for an application. Use `start` and `stop`.

    Until a client has shown its certificate it has a place among those that shake hands; then one at `door`.
    """

    def __init__(self, context: ssl.SSLContext, doors: Doors, door: Door, bounds: Limits, log: Any) -> None:
        self._context, self._doors, self._door, self._log = context, doors, door, log
        self._handshakes = door_for(f"{door.name} handshakes", bounds)
        self._acceptors: list[Acceptor] = []
        self._clients: set[asyncio.Task[None]] = set()

    async def start(self, host: str, port: int) -> int:
        """The port that it listens on. Raises OSError."""
        listening = await tcp_sockets(host, port)
        for one in listening:
            acceptor = Acceptor(one, self._welcome, self._relieve, name=self._door.name, log=self._log)
            self._acceptors.append(acceptor)
            acceptor.start()
        return int(listening[0].getsockname()[1])

    async def stop(self) -> None:
        for acceptor in self._acceptors:
            await acceptor.stop()
        clients = list(self._clients)
        for client in clients:
            client.cancel()
        await asyncio.gather(*clients, return_exceptions=True)

    def _welcome(self, connection: socket.socket, address: Any) -> None:
        try:
            held = Connection(self._handshakes, source_of(connection, address), local_of(connection), connection.close)
            held.enter()
        except (OSError, Full):
            connection.close()
            return
        task = asyncio.get_running_loop().create_task(self._serve(connection, held), name="api tls client")
        held.end = task.cancel
        held.expect(HANDSHAKE_SECONDS)
        self._clients.add(task)
        task.add_done_callback(lambda task: self._served(task, connection, held))

    def _served(self, task: "asyncio.Task[None]", connection: socket.socket, held: Connection) -> None:
        self._clients.discard(task)
        held.leave()
        if task.cancelled():
            connection.close()  # it may have been before the first step

    def _relieve(self) -> int:
        return cut_all(self._handshakes.strangers.waiting()) + cut_all(self._door.strangers.waiting())

    async def _serve(self, connection: socket.socket, held: Connection) -> None:
        reader, writer = await asyncio.open_connection(sock=connection)
        session = _Session(self._context, (reader, writer))
        try:
            if await session.handshake():
                held.leave()
                await self._carry(session, held)
        except OSError:
            pass  # the client has gone, or never began
        finally:
            writer.close()

    async def _carry(self, session: _Session, held: Connection) -> None:
        ours, theirs = socket.socketpair()
        theirs.setblocking(False)
        self._doors.take(theirs, self._door, held.source, held.local)
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
