"""A session's `Channel` over a WebSocket, from either side."""

import contextlib
from collections.abc import Iterator

import aiohttp
from aiohttp import web

from .liveness import Liveness

MAX_MESSAGE = 64 * 1024 * 1024
"""Bytes: a full assignment with its secrets and configs, or a route table of tens of thousands of endpoints."""


PEERS, PEERS_VERSION = "Essaim-Peers", 1
"""Header of every request between daemons, and the version of their messages that this one speaks."""
REASON = "Essaim-Error"
"""Header of a refused WebSocket: why, percent-encoded."""


WebSocket = web.WebSocketResponse | aiohttp.ClientWebSocketResponse


@contextlib.contextmanager
def watched(socket: WebSocket) -> Iterator[None]:
    """For streams without heartbeats of their own: within, the socket ends when the other host vanishes."""
    connection = socket.get_extra_info("socket")
    liveness = Liveness(connection) if connection is not None and connection.fileno() >= 0 else None
    if liveness is not None:
        liveness.start()
    try:
        yield
    finally:
        if liveness is not None:
            liveness.stop()


class SocketChannel:
    """Messages are binary frames. `receive` gives None once the other side has gone, however it went."""

    def __init__(self, socket: WebSocket) -> None:
        self._socket = socket

    async def send(self, data: bytes) -> None:
        """Raises ConnectionError when the other side has gone."""
        try:
            await self._socket.send_bytes(data)
        except (aiohttp.ClientError, RuntimeError) as error:
            raise ConnectionResetError(str(error)) from error

    async def receive(self) -> bytes | None:
        try:
            message = await self._socket.receive()
        except (aiohttp.ClientError, RuntimeError, ConnectionError):
            return None
        if message.type is aiohttp.WSMsgType.BINARY:
            data: bytes = message.data
            return data
        return None

    async def close(self) -> None:
        await self._socket.close()


class StreamChannel(SocketChannel):
    """A stream's channel; it is watched until it is closed."""

    def __init__(self, socket: WebSocket) -> None:
        super().__init__(socket)
        self._watching = contextlib.ExitStack()

    def watch(self) -> "StreamChannel":
        self._watching.enter_context(watched(self._socket))
        return self

    async def close(self) -> None:
        self._watching.close()
        await super().close()
