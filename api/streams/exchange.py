"""One HTTP/1.1 exchange over a byte stream: with a Docker Engine, by a socket of this host or a tunnel to another node,
and between the command and its daemon.

aiohttp's client is not used here: it can neither hand over a connection after `101` nor talk over a stream that it did
not open itself, and an Engine needs both; and to import it takes 100 ms, most of what a command may take in all.
"""

import asyncio
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, field

import httptools

from essaim.cluster.engine_address import parse_engine
from essaim.cluster.errors import ClusterError

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]

CHUNK = 64 << 10
CONNECT_SECONDS = 10.0


class EngineUnavailable(ClusterError):
    """The Engine cannot be reached, or broke off."""

    status = 502


class Closed(EngineUnavailable):
    """It took the connection, and closed it before it had answered."""


class NotHttp(EngineUnavailable):
    """What answered does not speak HTTP."""


async def connect(url: str) -> Streams:
    """Open a connection to an Engine's address (`cluster/engine_address.py`). Raises EngineUnavailable."""
    try:
        address = parse_engine(url)
        async with asyncio.timeout(CONNECT_SECONDS):
            if address.socket:
                return await asyncio.open_unix_connection(address.socket)
            return await asyncio.open_connection(address.host, address.port)
    except (OSError, TimeoutError, ValueError) as error:
        raise EngineUnavailable(f"Cannot connect to the Docker Engine of this node at {url}: {error}") from error


@dataclass(slots=True)
class Head:
    """Of a response. Header names are in lower case."""

    status: int
    reason: str = ""
    headers: list[tuple[str, str]] = field(default_factory=list)

    def get(self, name: str) -> str:
        return next((value for key, value in self.headers if key == name), "")


class Exchange:
    """One request and its response. `peer` is who answers, in error messages. The stream may carry another exchange
    when this one `may_be_followed`, and raw bytes after an upgrade (`rest`)."""

    def __init__(self, streams: Streams, peer: str = "the Docker Engine") -> None:
        self.reader, self.writer = streams
        self._peer = peer
        self._parser = httptools.HttpResponseParser(self)
        self._head: Head | None = None
        self._reason = ""
        self._headers: list[tuple[str, str]] = []
        self._body: list[bytes] = []
        self._complete = False
        self.may_be_followed = False
        """The response has come whole, and its end does not end the connection."""
        self.rest = b""
        """Bytes that came behind the head of an upgrade."""

    # -- httptools' callbacks -----------------------------------------------------------------------------------

    def on_status(self, status: bytes) -> None:
        self._reason += status.decode("latin-1")

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers.append((name.decode("latin-1").lower(), value.decode("latin-1")))

    def on_headers_complete(self) -> None:
        self._head = Head(self._parser.get_status_code(), self._reason, self._headers)

    def on_body(self, body: bytes) -> None:
        self._body.append(body)

    def on_message_complete(self) -> None:
        self._complete = True
        self.may_be_followed = self._parser.should_keep_alive()

    # -- the exchange -------------------------------------------------------------------------------------------

    async def send_head(self, method: str, target: str, headers: Iterable[tuple[str, str]]) -> None:
        lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in headers), "", ""]
        self.writer.write("\r\n".join(lines).encode("latin-1", "replace"))
        await self.writer.drain()

    async def send_body(self, chunks: AsyncIterator[bytes], *, chunked: bool) -> None:
        """Pass a body on as it comes, no faster than the Engine takes it."""
        async for chunk in chunks:
            if chunk:
                self.writer.write(b"%x\r\n%b\r\n" % (len(chunk), chunk) if chunked else chunk)
                await self.writer.drain()
        if chunked:
            self.writer.write(b"0\r\n\r\n")
            await self.writer.drain()

    async def head(self) -> Head:
        """Raises EngineUnavailable when the Engine closes or speaks no HTTP."""
        while self._head is None:
            if not await self._feed():
                raise Closed(f"{self._peer} closed the connection before it had answered")
        return self._head

    async def body(self) -> AsyncIterator[bytes]:
        """The response's body in pieces as they come. Raises EngineUnavailable when it breaks off."""
        while True:
            pieces, self._body = self._body, []
            for piece in pieces:
                yield piece
            if self._complete:
                return
            if not self._body and not await self._feed() and not self._complete and not self._body:
                if self._head is not None and (self._head.get("content-length") or self._head.get("transfer-encoding")):
                    raise EngineUnavailable(f"{self._peer} closed the connection in the middle of its answer")
                return

    async def _feed(self) -> bool:
        """Read and parse some; False at the end of the stream."""
        try:
            data = await self.reader.read(CHUNK)
            if data:
                self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self.rest = data[upgrade.args[0] :]
            self._complete, self.may_be_followed = True, False
        except httptools.HttpParserError as error:
            raise NotHttp(f"{self._peer} answered with what is not HTTP: {error}") from error
        except OSError as error:
            if self._head is None:
                raise Closed(f"{self._peer} closed the connection before it had answered: {error.strerror}") from error
            raise EngineUnavailable(f"the answer of {self._peer} broke off: {error}") from error
        return bool(data)

    def close(self) -> None:
        """At once: what the Engine has not read by now it need not read any more."""
        self.writer.transport.abort()
