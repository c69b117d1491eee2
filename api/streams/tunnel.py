"""Byte streams to another node's Engine over a channel of messages between the daemons.

A message is a piece of the stream, an empty one the end of its direction (half-close); the channel's end is the end of
both. One side calls `Tunnels.dial` (it is a `DialEngine`), the other serves the same channel with `serve_engine`.
Pieces are sent no faster than the other side takes them, as far as the channel itself holds its sender back.
"""

import asyncio
import socket
from collections.abc import Awaitable, Callable

from essaim.cluster.wire import Channel

from .exchange import CHUNK, Streams, connect

OpenChannel = Callable[[str], Awaitable[Channel]]
"""Opens a channel to a node's daemon, which serves it with `serve_engine`. Raises ClusterError."""


async def serve_engine(channel: Channel, url: str) -> None:
    """Join a channel with the Engine at `url` until both directions have ended. Raises EngineUnavailable."""
    try:
        await _join(channel, await connect(url))
    finally:
        await channel.close()


class Tunnels:
    """The streams that this node has open to other nodes' Engines."""

    def __init__(self, open_channel: OpenChannel) -> None:
        self._open_channel = open_channel
        self._carriers: set[asyncio.Task[None]] = set()

    async def dial(self, node_id: str) -> Streams:
        """A stream to the node's Engine. Raises ClusterError."""
        channel = await self._open_channel(node_id)
        ours, theirs = socket.socketpair()
        inner = await asyncio.open_unix_connection(sock=theirs)
        carrier = asyncio.create_task(self._carry(channel, inner), name=f"tunnel to {node_id}")
        self._carriers.add(carrier)
        carrier.add_done_callback(self._carriers.discard)
        return await asyncio.open_unix_connection(sock=ours)

    @staticmethod
    async def _carry(channel: Channel, inner: Streams) -> None:
        try:
            await _join(channel, inner)
        finally:
            await channel.close()

    async def stop(self) -> None:
        carriers = list(self._carriers)
        for carrier in carriers:
            carrier.cancel()
        await asyncio.gather(*carriers, return_exceptions=True)


async def _join(channel: Channel, streams: Streams) -> None:
    """Until the channel has ended, or the stream's end and the other side's have been passed on."""
    reader, writer = streams
    outward = asyncio.create_task(_outward(reader, channel), name="tunnel outward")
    inward = asyncio.create_task(_inward(channel, writer), name="tunnel inward")
    try:
        done, _ = await asyncio.wait({outward, inward}, return_when=asyncio.FIRST_COMPLETED)
        cut = any(task.exception() or not task.result() for task in done)
        if not cut:
            await asyncio.wait({outward, inward})
    finally:
        writer.transport.abort()
        for task in (outward, inward):
            task.cancel()
        await asyncio.gather(outward, inward, return_exceptions=True)


async def _outward(reader: asyncio.StreamReader, channel: Channel) -> bool:
    while data := await reader.read(CHUNK):
        await channel.send(data)
    await channel.send(b"")
    return True


async def _inward(channel: Channel, writer: asyncio.StreamWriter) -> bool:
    """Whether the direction was ended in good order; otherwise the channel has gone."""
    while data := await channel.receive():
        writer.write(data)
        await writer.drain()
    if data is None:
        return False
    writer.write_eof()
    return True
