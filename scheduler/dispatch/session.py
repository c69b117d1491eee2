"""One agent's session on the leading manager: what is waiting to be sent, and the one writer that sends it.

Everything goes out through `run_writer`, in an order that agents rely on: Welcome, the full assignments, the route
table, then changes. What is not yet sent is kept as state (which tasks changed, which table is newest), not as a
queue of messages: a slow agent costs no memory and gets the latest of everything. Only requests are queued, and an
agent that leaves DIRECT of them unread is cut off.
"""

import asyncio
from collections import deque
from collections.abc import Callable

from essaim.cluster import wire
from essaim.cluster.certificates import CertificateBook
from essaim.cluster.node import Node
from essaim.cluster.store import Store
from essaim.cluster.walls import Faults, Walls
from essaim.cluster.wire import SESSION, Channel, Managers, NodeChanged, Refused, ToAgent, Welcome

from .assignments import UNREADABLE, IsHeld, Told
from .certificate_spread import BookSince
from .log_readers import LogReaders

DIRECT = 1000
"""Requests that may wait for an agent."""

VERDICTS_BEHIND = 32
"""Changes of verdicts that may wait for a slow agent; beyond, it gets the whole."""

ALIVE = wire.encode(wire.HeartbeatAck())

NO_NETWORKS = wire.encode(wire.Networks([]))
"""What a node is taken to know before it is told: its full assignments say so too."""

RoutesSince = Callable[[int | None], tuple[int, bytes] | None]
"""From the version of the table that an agent has to the newest: that one's version, and the encoded message."""


class Session:
    """Made after the agent proved who it is; `version` is what it understands. `close` may be called at any time, more
    than once."""

    def __init__(
        self,
        node: Node,
        channel: Channel,
        store: Store,
        is_held: IsHeld,
        version: int = SESSION,
        faults: Faults | None = None,
    ) -> None:
        self.node_id = node.id
        self.version = version
        self.is_leaving = False
        """The agent has said goodbye."""
        self.problem = ""
        """Why no task can start on the node at present, in the agent's words; empty for none."""
        self._node = node
        self._channel = channel
        self._store = store
        self._is_held = is_held
        self._told = Told(node.id, Walls(UNREADABLE, faults))
        self._dirty: dict[str, None] = {}
        self._direct: deque[ToAgent] = deque()
        self._is_beating = False
        self._latest: dict[type[ToAgent], ToAgent] = {}
        self._routes: RoutesSince | None = None
        self._routes_told: int | None = None
        self._certificates: BookSince | None = None
        self._book_told: CertificateBook | None = None
        self._networks: bytes | None = None
        self._verdicts: deque[bytes] = deque()
        self._whole_verdicts: Callable[[], bytes] | None = None
        self._all_verdicts: Callable[[], bytes] | None = None
        self._networks_told = NO_NETWORKS
        self._refused: str | None = None
        self.ended = asyncio.Event()
        self._wake = asyncio.Event()
        self.logs = LogReaders(self.send_soon, version)

    # -- what is to be sent -------------------------------------------------------------------------------------

    def task_changed(self, task_id: str) -> None:
        self._dirty[task_id] = None
        self._wake.set()

    def look_again(self) -> None:
        """Changes were missed: every task that the agent was told of, or is to be told of, may have changed."""
        for task_id in self._told.tasks:
            self._dirty[task_id] = None
        for task in self._store.tasks.by("node", self.node_id):
            self._dirty[task.id] = None
        self._wake.set()

    def send_soon(self, message: ToAgent) -> None:
        """A request: each one is sent."""
        self._direct.append(message)
        if len(self._direct) > DIRECT:
            self.end()
        self._wake.set()

    def send_latest(self, message: ToAgent) -> None:
        """Something of which only the newest of its kind matters."""
        self._latest[type(message)] = message
        self._wake.set()

    def heartbeat(self) -> None:
        """The agent is to hear that this manager lives."""
        self._is_beating = True
        self._wake.set()

    def set_routes(self, since: RoutesSince) -> None:
        """There may be news: ask when the time to send has come."""
        self._routes = since
        self._wake.set()

    def set_certificates(self, since: BookSince) -> None:
        """There may be news: ask when the time to send has come."""
        self._certificates = since
        self._wake.set()

    def begin_verdicts(self, full: Callable[[], bytes]) -> None:
        """Send all verdicts first, then changes; all again when it cannot follow them."""
        self._all_verdicts = self._whole_verdicts = full
        self._wake.set()

    def add_verdicts(self, encoded: bytes) -> None:
        """The encoded change of verdicts."""
        if self._all_verdicts is None:
            self._verdicts.append(encoded)
            if len(self._verdicts) > VERDICTS_BEHIND:
                self._verdicts.clear()
                self._all_verdicts = self._whole_verdicts
            self._wake.set()

    def set_networks(self, encoded: bytes) -> None:
        """The encoded `Networks` message; the same one is not sent twice."""
        if encoded != self._networks_told:
            self._networks = self._networks_told = encoded
            self._wake.set()

    def node_changed(self, node: Node) -> None:
        """Only what the node does not know by itself is worth a message."""
        if node is self._node:
            return
        if (node.spec, node.manager_status) != (self._node.spec, self._node.manager_status):
            self.send_latest(NodeChanged(node))
        self._node = node

    def managers_changed(self, managers: list[str]) -> None:
        self.send_latest(Managers(managers))

    def refuse(self, reason: str) -> None:
        """The node was removed: say so and end."""
        self._refused = reason
        self._wake.set()

    def end(self) -> None:
        """End the session without a word: the other side does not read, or has been silent."""
        self.ended.set()
        self._wake.set()

    # -- sending ------------------------------------------------------------------------------------------------

    async def run_writer(self, heartbeat: float, managers: list[str]) -> None:
        """Send until the session ends. Raises OSError when the other side is gone."""
        await self._send(Welcome(heartbeat, self._node, managers, SESSION))
        await self._send(self._told.full(self._store, self._is_held))
        while not self.ended.is_set():
            if self._is_beating:
                self._is_beating = False
                await self._channel.send(ALIVE)
            while self._latest:
                await self._send(self._latest.pop(next(iter(self._latest))))
            while self._direct and not self.ended.is_set():
                await self._send(self._direct.popleft())
            if self._refused is not None:
                await self._send(Refused(self._refused))
                return
            dirty, self._dirty = list(self._dirty), {}
            if dirty and (message := self._told.changes(self._store, dirty, self._is_held)):
                await self._send(message)
            if self._has_tables():
                await self._send_tables()
            if not self._has_more():
                await self._wake.wait()
            self._wake.clear()

    def _has_more(self) -> bool:
        messages = self._is_beating or self._direct or self._latest or self._dirty
        return bool(messages or self._refused or self.ended.is_set()) or self._has_tables()

    def _has_tables(self) -> bool:
        tables = self._networks or self._routes or self._certificates
        return bool(tables or self._verdicts or self._all_verdicts)

    async def _send_tables(self) -> None:
        if self._networks is not None:
            networks, self._networks = self._networks, None
            await self._channel.send(networks)
        if self._routes is not None:
            news, self._routes = self._routes(self._routes_told), None
            if news is not None:
                self._routes_told, encoded = news
                await self._channel.send(encoded)
        await self._send_certificates()
        await self._send_verdicts()

    async def _send_certificates(self) -> None:
        if self._certificates is not None:
            news, self._certificates = self._certificates(self._book_told), None
            if news is not None:
                self._book_told, messages = news
                for encoded in messages:
                    await self._channel.send(encoded)

    async def _send_verdicts(self) -> None:
        if self._all_verdicts is not None:
            full, self._all_verdicts = self._all_verdicts, None
            await self._channel.send(full())
        while self._verdicts and not self.ended.is_set():
            await self._channel.send(self._verdicts.popleft())

    async def _send(self, message: ToAgent) -> None:
        await self._channel.send(wire.encode(message))

    async def close(self) -> None:
        await self._channel.close()
