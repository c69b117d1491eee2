"""Taking a client's connection over after an upgrade: raw bytes, both ways, whatever protocol they are.

`tcp` is what exec and attach ask for, `h2c` BuildKit's session. The Engine alone decides which it accepts.

Each direction ends by itself (half-close): `docker exec -i` closes its side when its input ends and goes on reading.
"""

import asyncio

from aiohttp import web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.web_request import BaseRequest

from .exchange import CHUNK, Exchange, Head, Streams


class _Tail:
    """Receives what aiohttp read behind the request already."""

    def __init__(self) -> None:
        self.data = b""

    def feed_data(self, data: bytes) -> tuple[bool, bytes]:
        self.data += data
        return False, b""

    def feed_eof(self) -> None:
        pass


class _Taken(asyncio.StreamReaderProtocol):
    """Stands where aiohttp's protocol stood, and tells it when the connection has gone."""

    def __init__(self, reader: asyncio.StreamReader, before: asyncio.BaseProtocol) -> None:
        super().__init__(reader)
        self._before = before

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._before.connection_lost(exc)


class Hijacked(web.StreamResponse):
    """What the handler returns: everything has been written already, and the connection is of no further use."""

    def __init__(self, status: int) -> None:
        super().__init__(status=status)
        self.force_close()

    async def prepare(self, request: BaseRequest) -> AbstractStreamWriter | None:
        return None

    async def write_eof(self, data: bytes = b"") -> None:
        return None


def wanted_protocol(request: web.Request) -> str:
    """What the client asks to upgrade to, as it wrote it; empty when it asks for no upgrade."""
    options = ",".join(request.headers.getall("Connection", []))
    tokens = [token.strip().lower() for token in options.split(",")]
    return request.headers.get("Upgrade", "") if "upgrade" in tokens else ""


def take_over(request: web.Request) -> Streams:
    """The client's connection as a pair of streams."""
    transport = request.transport
    if transport is None:
        raise ConnectionResetError("the client has gone")
    loop = asyncio.get_running_loop()
    tail = _Tail()
    request.protocol.set_parser(tail)  # type: ignore[arg-type]  # only these two methods are called
    reader = asyncio.StreamReader(limit=CHUNK, loop=loop)
    protocol = _Taken(reader, request.protocol)
    transport.set_protocol(protocol)
    protocol.connection_made(transport)
    if tail.data:
        reader.feed_data(tail.data)
    if not transport.is_reading():
        transport.resume_reading()
    return reader, asyncio.StreamWriter(transport, protocol, reader, loop)


async def relay(request: web.Request, head: Head, exchange: Exchange) -> web.StreamResponse:
    """Answer the client with the Engine's `101` and then pass bytes until the Engine has closed."""
    client_reader, client_writer = take_over(request)
    lines = [f"HTTP/1.1 {head.status} {head.reason or 'UPGRADED'}", *(f"{k}: {v}" for k, v in head.headers), "", ""]
    client_writer.write("\r\n".join(lines).encode("latin-1") + exchange.rest)
    upward = asyncio.create_task(_pump(client_reader, exchange.writer), name="hijack upward")
    try:
        await _pump(exchange.reader, client_writer)
    except ConnectionError:
        pass
    finally:
        client_writer.close()
        upward.cancel()
        await asyncio.gather(upward, return_exceptions=True)
    return Hijacked(head.status)


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Copy until the end, then close the writing side only."""
    while data := await reader.read(CHUNK):
        writer.write(data)
        await writer.drain()
    if writer.can_write_eof():
        writer.write_eof()
