"""A session's `Channel` over a WebSocket, from either side."""

import asyncio
import contextlib
import os
import socket
from collections.abc import Iterator

import aiohttp
from aiohttp import web

from .liveness import Liveness

MAX_MESSAGE = 64 * 1024 * 1024
"""Bytes: a full assignment with its secrets and configs, or a route table of tens of thousands of endpoints."""


CLOSE_SECONDS = 2.0
"""How long a channel's end waits for the other side, which may be gone or not read."""

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
        """Within CLOSE_SECONDS, with what is not sent yet if need be lost."""
        with contextlib.suppress(TimeoutError, ConnectionError):
            async with asyncio.timeout(CLOSE_SECONDS):
                await self._socket.close()
                return
        cut(self._socket)


def cut(web_socket: WebSocket) -> None:
    """End the connection now, for both sides, whatever waits in it."""
    connection = web_socket.get_extra_info("socket")
    if connection is None or connection.fileno() < 0:
        return
    with contextlib.suppress(OSError), socket.socket(fileno=os.dup(connection.fileno())) as ours:
        ours.shutdown(socket.SHUT_RDWR)


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
