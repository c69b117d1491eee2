"""One agent's session on the leading manager: what is waiting to be sent, and the one writer that sends it.

Everything goes out through `run_writer`, in an order that agents rely on: Welcome, the full assignments, the route
table, then changes. What is not yet sent is kept as state (which tasks changed, which table is newest), not as a
queue of messages: a slow agent costs no memory and gets the latest of everything.
"""

import asyncio
from collections import deque

from essaim.cluster import wire
from essaim.cluster.node import Node
from essaim.cluster.store import Store
from essaim.cluster.wire import Channel, LogChunk, Managers, NodeChanged, Refused, ToAgent, Welcome

from .assignments import IsHeld, Told

LOG_CHUNKS = 1024
"""Chunks of output that may wait for a reader before the session's own reading waits for it."""

NO_NETWORKS = wire.encode(wire.Networks([]))
"""What a node is taken to know before it is told: its full assignments say so too."""


class Session:
    """Made after the agent proved who it is. `close` may be called at any time, more than once."""

    def __init__(self, node: Node, channel: Channel, store: Store, is_held: IsHeld) -> None:
        self.node_id = node.id
        self._node = node
        self._channel = channel
        self._store = store
        self._is_held = is_held
        self._told = Told(node.id)
        self._dirty: dict[str, None] = {}
        self._direct: deque[ToAgent] = deque()
        self._routes: tuple[int, bytes] | None = None
        self._networks: bytes | None = None
        self._networks_told = NO_NETWORKS
        self._refused: str | None = None
        self._ended = False
        self._wake = asyncio.Event()
        self._log_requests = 0
        self.log_readers: dict[int, asyncio.Queue[LogChunk | None]] = {}

    # -- what is to be sent -------------------------------------------------------------------------------------

    def task_changed(self, task_id: str) -> None:
        self._dirty[task_id] = None
        self._wake.set()

    def send_soon(self, message: ToAgent) -> None:
        self._direct.append(message)
        self._wake.set()

    def set_routes(self, version: int, encoded: bytes) -> None:
        self._routes = (version, encoded)
        self._wake.set()

    def set_networks(self, encoded: bytes) -> None:
        """The encoded `Networks` message; the same one is not sent twice."""
        if encoded != self._networks_told:
            self._networks = self._networks_told = encoded
            self._wake.set()

    def node_changed(self, node: Node) -> None:
        """Only what the node does not know by itself is worth a message."""
        if (node.spec, node.manager_status) != (self._node.spec, self._node.manager_status):
            self.send_soon(NodeChanged(node))
        self._node = node

    def managers_changed(self, managers: list[str]) -> None:
        self.send_soon(Managers(managers))

    def refuse(self, reason: str) -> None:
        """The node was removed: say so and end."""
        self._refused = reason
        self._wake.set()

    def end(self) -> None:
        """End the session without a word: the other side has been silent."""
        self._ended = True
        self._wake.set()

    # -- sending ------------------------------------------------------------------------------------------------

    async def run_writer(self, heartbeat: float, managers: list[str]) -> None:
        """Send until the session ends. Raises OSError when the other side is gone."""
        await self._send(Welcome(heartbeat, self._node, managers))
        await self._send(self._told.full(self._store, self._is_held))
        while not self._ended:
            while self._direct:
                await self._send(self._direct.popleft())
            if self._refused is not None:
                await self._send(Refused(self._refused))
                return
            dirty, self._dirty = list(self._dirty), {}
            if dirty and (message := self._told.changes(self._store, dirty, self._is_held)):
                await self._send(message)
            if self._networks is not None:
                networks, self._networks = self._networks, None
                await self._channel.send(networks)
            if self._routes is not None:
                routes, self._routes = self._routes, None
                await self._channel.send(routes[1])
            if not (self._direct or self._dirty or self._networks or self._routes or self._refused or self._ended):
                await self._wake.wait()
            self._wake.clear()

    async def _send(self, message: ToAgent) -> None:
        await self._channel.send(wire.encode(message))

    # -- logs ---------------------------------------------------------------------------------------------------

    def open_log(self) -> tuple[int, asyncio.Queue[LogChunk | None]]:
        """A number for a request, and where its answer arrives (None at the session's end)."""
        self._log_requests += 1
        queue: asyncio.Queue[LogChunk | None] = asyncio.Queue(LOG_CHUNKS)
        self.log_readers[self._log_requests] = queue
        return self._log_requests, queue

    async def deliver(self, chunk: LogChunk) -> None:
        reader = self.log_readers.get(chunk.request)
        if reader is not None:
            await reader.put(chunk)

    def close_logs(self) -> None:
        for reader in self.log_readers.values():
            while reader.full():
                reader.get_nowait()
            reader.put_nowait(None)

    async def close(self) -> None:
        await self._channel.close()
