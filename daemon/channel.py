"""A session's `Channel` over a WebSocket, from either side."""

import aiohttp
from aiohttp import web

MAX_MESSAGE = 64 * 1024 * 1024
"""Bytes: a full assignment with its secrets and configs, or a route table of tens of thousands of endpoints."""


REASON = "Essaim-Error"
"""Header of a refused WebSocket: why, percent-encoded."""


class SocketChannel:
    """Messages are binary frames. `receive` gives None once the other side has gone, however it went."""

    def __init__(self, socket: web.WebSocketResponse | aiohttp.ClientWebSocketResponse) -> None:
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
