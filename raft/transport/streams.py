"""The two ends of a stream between members: an HTTP request that is upgraded to frames in one direction.

After the `101` answer both ends are plain asyncio protocols: no HTTP parsing, chunking or masking per message. (A
WebSocket and a chunked request body were rejected: 20 to 100 us more per message and hop.)
"""

import asyncio
import socket
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import cast

import structlog
from aiohttp import web

from .wire import FrameReader, WireMessage

PATH = "/raft/stream"
UPGRADE = "essaim-raft"
FROM, ADDRESS, TO = "Essaim-From", "Essaim-Address", "Essaim-To"
PROTOCOL, VERSION = "Essaim-Raft", 1  # of the messages; a member refuses a newer one than its own
BUFFER_BYTES = 8 << 20  # unsent, beyond which a peer counts as stuck
SILENCE_MS = 3000  # unacknowledged data for so long closes the connection: TCP alone would wait for many minutes
HANDSHAKE_SECONDS = 2.0
_log = structlog.get_logger("raft")


def _anyone(_: web.BaseRequest, __: int) -> bool:
    return True


def _no_name(_: int) -> str | None:
    return None


@dataclass(frozen=True)
class Access:
    """Who may talk to whom: the one place where TLS, or tokens, plug in.

    `headers` go with every request to a peer; `allows(request, member)` judges every request from one that says to be
    that member; `client_ssl` gives the context for connections to peers (None: plain TCP), `server_name` the name that
    a member's certificate must have. The server's context belongs to the server that mounts the routes.
    """

    headers: Callable[[], Mapping[str, str]] = dict
    allows: Callable[[web.BaseRequest, int], bool] = _anyone
    client_ssl: Callable[[], ssl.SSLContext | None] = lambda: None
    server_name: Callable[[int], str | None] = _no_name


class HandshakeFailed(ConnectionError):
    """The peer answered, and not with 101."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


class Outbound(asyncio.Protocol):
    """The sending end. `opened` is done after the handshake, `closed` after the end."""

    def __init__(self, request: bytes) -> None:
        loop = asyncio.get_running_loop()
        self._request = request
        self._answer = bytearray()
        self._transport: asyncio.Transport | None = None
        self._paused = False
        self.opened: asyncio.Future[None] = loop.create_future()
        self.closed: asyncio.Future[None] = loop.create_future()

    @property
    def writable(self) -> bool:
        return not self._paused and self.opened.done() and not self.closed.done()

    def write(self, frame: bytearray) -> None:
        assert self._transport is not None
        self._transport.write(frame)

    def close(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's are none by class
        self._transport.set_write_buffer_limits(high=BUFFER_BYTES)
        _set_timeout(self._transport)
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        if self.opened.done():
            return
        self._answer += data
        if b"\r\n\r\n" in self._answer:
            status = self._answer.split(b"\r\n", 1)[0].split(b" ", 2)
            if status[1:2] == [b"101"]:
                self.opened.set_result(None)
            else:
                code = int(status[1]) if len(status) > 1 and status[1].isdigit() else 0
                self.opened.set_exception(HandshakeFailed(code, f"the member answered {bytes(status[-1])!r}"))

    def pause_writing(self) -> None:
        self._paused = True

    def resume_writing(self) -> None:
        self._paused = False

    def connection_lost(self, error: Exception | None) -> None:
        if not self.opened.done():
            self.opened.set_exception(ConnectionResetError("the connection was closed during the handshake"))
        if not self.closed.done():
            self.closed.set_result(None)


async def open_stream(address: str, headers: Mapping[str, str], access: Access, member: int) -> Outbound:
    """Connect and upgrade. Raises `OSError` (`HandshakeFailed` if the peer refuses) or `TimeoutError`."""
    context = access.client_ssl()
    name = access.server_name(member) if context else None
    host, _, port = address.rpartition(":")
    lines = [f"GET {PATH} HTTP/1.1", f"Host: {address}", "Connection: Upgrade", f"Upgrade: {UPGRADE}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    request = "\r\n".join([*lines, "", ""]).encode()
    stream: Outbound | None = None
    try:
        async with asyncio.timeout(HANDSHAKE_SECONDS):
            loop = asyncio.get_running_loop()
            _, stream = await loop.create_connection(
                lambda: Outbound(request), host.strip("[]"), int(port), ssl=context, server_hostname=name
            )
            await stream.opened
    except BaseException:
        if stream is not None:
            stream.close()
        raise
    return stream


class Inbound(asyncio.Protocol):
    """The receiving end: takes a connection over from aiohttp's server, and tells it when the connection is gone."""

    def __init__(self, former: asyncio.BaseProtocol, receive: Callable[[list[WireMessage]], None]) -> None:
        self._former, self._receive = former, receive
        self._reader = FrameReader()
        self._transport: asyncio.Transport | None = None
        self.closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def take_over(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        _set_timeout(transport)
        transport.set_protocol(self)
        transport.resume_reading()

    def close(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def data_received(self, data: bytes) -> None:
        try:
            messages = self._reader.feed(data)
        except ValueError as error:  # msgspec's errors are ValueErrors
            _log.warning("a member sent what this version of essaim cannot decode", error=str(error))
            self.close()
            return
        if messages:
            self._receive(messages)

    def connection_lost(self, error: Exception | None) -> None:
        self._former.connection_lost(error)
        if not self.closed.done():
            self.closed.set_result(None)


def _set_timeout(transport: asyncio.Transport) -> None:
    connection = transport.get_extra_info("socket")
    if connection is not None and connection.family in (socket.AF_INET, socket.AF_INET6):
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, SILENCE_MS)
