"""Streams to the Engines of other nodes, by way of the leader: what `docker exec` on another node's task goes through.

The leader tells the node, in its agent's session, to open a connection of its own for the stream; so nodes need no open
port, and a large copy does not stand before heartbeats. A manager that does not lead asks the leader, which joins both.

- A key admits one connection, once, within `ARRIVE_SECONDS`.
- The leader cuts a node's streams when the node's session ends, as it does when the node falls silent.

Rejected: carrying the bytes in the session itself; dialling the node, which may have no address that managers reach.
"""

import asyncio
import secrets as chance_source
from collections.abc import Callable

from essaim.cluster.errors import NotFound, Unavailable
from essaim.cluster.wire import Channel

ARRIVE_SECONDS = 10.0


class Held:
    """A channel that its connection's handler waits for the end of."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self.closed = asyncio.Event()

    async def send(self, data: bytes) -> None:
        await self._channel.send(data)

    async def receive(self) -> bytes | None:
        return await self._channel.receive()

    async def close(self) -> None:
        self.closed.set()
        await self._channel.close()


class TunnelDesk:
    """On the leader. `ask(node_id, key)` tells the node to connect, or raises Unavailable."""

    def __init__(self, ask: Callable[[str, str], None]) -> None:
        self._ask = ask
        self._expected: dict[str, asyncio.Future[Held]] = {}
        self._open: dict[str, set[Held]] = {}

    async def open(self, node_id: str) -> Channel:
        """A channel to the node's Engine. Raises Unavailable when the node does not answer."""
        key = chance_source.token_hex(32)
        arrived: asyncio.Future[Held] = asyncio.get_running_loop().create_future()
        self._expected[key] = arrived
        try:
            self._ask(node_id, key)
            async with asyncio.timeout(ARRIVE_SECONDS):
                held = await arrived
        except TimeoutError as error:
            raise Unavailable(
                f"node {node_id} did not open a connection to its Engine within {ARRIVE_SECONDS:g} s: it may be "
                "overloaded, or have no Docker Engine"
            ) from error
        except BaseException:
            if arrived.done() and not arrived.cancelled():
                # It came at the moment when its user went.
                await arrived.result().close()
            raise
        finally:
            self._expected.pop(key, None)
        self._open.setdefault(node_id, set()).add(held)
        return held

    def expects(self, key: str) -> bool:
        return key in self._expected

    async def hold(self, key: str, channel: Channel) -> None:
        """A node has connected: returns when the stream has ended. Raises NotFound for a key that nobody expects."""
        arrived = self._expected.pop(key, None)
        if arrived is None or arrived.done():
            raise NotFound("nobody expects this connection (any more)")
        held = Held(channel)
        arrived.set_result(held)
        try:
            await held.closed.wait()
        finally:
            for streams in self._open.values():
                streams.discard(held)

    async def cut(self, node_id: str) -> None:
        """The node is gone: end its streams."""
        held = self._open.pop(node_id, set())
        await asyncio.gather(*(one.close() for one in held), return_exceptions=True)


async def bridge(one: Channel, other: Channel) -> None:
    """Pass on every message until either side has gone; both are closed then."""
    passing = [asyncio.ensure_future(_pass(one, other)), asyncio.ensure_future(_pass(other, one))]
    try:
        await asyncio.wait(passing, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in passing:
            task.cancel()
        await asyncio.gather(*passing, return_exceptions=True)
        await asyncio.gather(one.close(), other.close(), return_exceptions=True)


async def _pass(source: Channel, sink: Channel) -> None:
    while (data := await source.receive()) is not None:
        await sink.send(data)
