"""The dispatcher: one session with every node's agent, on the leading manager.

It tells nodes their tasks and gateways the routes, takes in their reports, and notices when a node falls silent.
On a manager that does not lead, `serve` only says who does.

Each part has a file: who is connected (`sessions.py`), what agents say (`incoming.py`), the nodes' health
(`node_states.py`), what all are told (`broadcast.py`, `cluster_news.py`), and the tasks' output (`task_logs.py`). Here
they are started, fed with the store's events and with the passing of time.

- Nothing here waits for an agent, a reader or the log: what a session has to send is kept as state (`session.py`).
- `check` compares what is so with what is stored and told, and repairs it: no event is the only chance of anything.
"""

import asyncio
from collections.abc import Awaitable, Callable

import msgspec

from essaim.cluster import wire
from essaim.cluster.node import Node
from essaim.cluster.store import Store
from essaim.cluster.task import Task
from essaim.cluster.walls import Faults
from essaim.cluster.watch import Event, Lagged
from essaim.cluster.wire import Channel, Hello, Redirect, Refused
from essaim.cluster.writer import Writer
from essaim.scheduler.loop import BACKLOG, RETRY, Logger

from .broadcast import Broadcast
from .cluster_news import ClusterNews
from .incoming import Incoming
from .node_states import NodeStates
from .reports import ReportWriter
from .session import Session
from .sessions import Sessions
from .task_logs import TaskLogs

TABLES = ("nodes", "tasks", "services", "clusters", "networks")
REMOVED = "this node was removed from the cluster"
TICK = 0.25
"""Seconds between looks at drain limits and silent nodes."""


class Dispatcher:
    """`start` and `stop` with the leadership. `monotonic` is a clock in seconds.

    `leader_address` and `manager_addresses` (host:port) are what agents are told to connect to; `reachable` tells of
    managers, by node id, whether the log reaches them; `on_session_end` hears of nodes whose session has ended.
    """

    def __init__(
        self,
        store: Store,
        writer: Writer,
        monotonic: Callable[[], float],
        log: Logger,
        *,
        leader_address: Callable[[], str | None],
        manager_addresses: Callable[[], list[str]],
        reachable: Callable[[], dict[str, bool]] = dict,
        on_session_end: Callable[[str], None] = lambda node_id: None,
    ) -> None:
        self._store = store
        self._monotonic = monotonic
        self._log = log
        self._leader_address = leader_address
        self._manager_addresses = manager_addresses
        self._reports = ReportWriter(writer, log)
        self.faults = Faults()
        """What the walls of all that this leader decides have found."""
        self.sessions = Sessions(log, on_session_end)
        self.told = Broadcast(store, self.sessions.live, monotonic, self.faults)
        """What all sessions are told, and what their gateways say of it."""
        self.logs = TaskLogs(store, self.sessions.live)
        self._news = ClusterNews(store, self.sessions.live, manager_addresses)
        self._states = NodeStates(store, self._reports, self.sessions.live, log, reachable)
        self._incoming = Incoming(store, self.sessions, self._states, self.told, self._reports, monotonic, log)
        self._seen: int | None = None
        """The store's version when all sessions were last compared with it."""
        self._running: list[asyncio.Task[None]] = []

    # -- life ---------------------------------------------------------------------------------------------------

    @property
    def is_running(self) -> bool:
        """It holds sessions: this manager leads."""
        return bool(self._running)

    async def start(self) -> None:
        if self._running:
            return
        self.faults.forget()
        self.told.begin()
        self._states.begin()
        self._news.begin()
        self._seen = None
        self._running = [
            asyncio.create_task(self._steadily(name, work), name=f"dispatcher {name}")
            for name, work in (
                ("reports", self._reports.run),
                ("watch", self._watch_store),
                ("routes", self.told.publish_routes),
                ("networks", self.told.publish_networks),
                ("clock", self._tick),
            )
        ]

    async def _steadily(self, name: str, work: Callable[[], Awaitable[None]]) -> None:
        """A bug in one part is logged, and the part goes on from the store as it is: nothing else looks after nodes."""
        has_failed = False
        while True:
            try:
                if has_failed:
                    await asyncio.sleep(RETRY)
                    self.look_at_everything()
                await work()
            except Exception as error:
                has_failed = True
                self._log.error(
                    "a part of the dispatcher failed; it goes on", part=name, error=repr(error), exc_info=True
                )

    async def stop(self) -> None:
        running, self._running = self._running, []
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        self._reports.clear()
        await self.sessions.close()

    # -- sessions -----------------------------------------------------------------------------------------------

    async def serve(self, channel: Channel, peer: str, hello_timeout: float = 10.0) -> None:
        """Hold one agent's session until it ends. Never raises for what the other side does.

        `peer` is the id of the node that the channel is known to come from.
        """
        try:
            hello = await _hello(channel, hello_timeout)
            if hello is None:
                return
            if not self._running:
                leader = self._leader_address() or ""
                await channel.send(wire.encode(Redirect(leader, list(self._manager_addresses()))))
                return
            node = self._store.nodes.get(hello.node_id)
            if node is None or node.id != peer:
                self._log.warning("an agent was refused", node=hello.node_id, known=node is not None, certificate=peer)
                await channel.send(wire.encode(Refused("this node is not a member of the cluster")))
                return
            await self._hold(node, hello, channel)
        except OSError:
            return
        finally:
            await channel.close()

    async def _hold(self, node: Node, hello: Hello, channel: Channel) -> None:
        session = Session(node, channel, self._store, self.told.is_held, hello.version, self.faults)
        self.sessions.add(session)
        now = self._monotonic()
        session.problem = hello.problem
        self._states.connected(session, node, hello.description, now)
        self.told.connect(session, now)
        self._news.connect(session)
        self._log.info("agent connected", node=node.id, hostname=hello.description.hostname)
        parts = [
            asyncio.create_task(session.run_writer(self._states.liveness.period, self._news.managers)),
            asyncio.create_task(self._incoming.read(session, channel)),
            asyncio.create_task(_when(session.ended)),
        ]
        try:
            done, _ = await asyncio.wait(parts, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                if not isinstance(task.exception(), OSError | None):
                    self._log.error("a session failed", node=node.id, error=repr(task.exception()))
        finally:
            for task in parts:
                task.cancel()
            await asyncio.gather(*parts, return_exceptions=True)
            session.logs.close()
            if self.sessions.remove(session):
                self.told.disconnect(node.id)

    def ask_tunnel(self, node_id: str, key: str) -> None:
        """Tell a node to open a connection to its Engine for this manager. Raises Unavailable."""
        self.sessions.ask(node_id, wire.OpenTunnel(self._leader_address() or "", key))

    # -- store events -------------------------------------------------------------------------------------------

    async def _watch_store(self) -> None:
        with self._store.watch(*TABLES, limit=BACKLOG) as watch:
            while True:
                try:
                    events = await watch.next()
                except Lagged:
                    self.look_at_everything()
                    continue
                self.told.observe(events)
                for event in events:
                    self._observe(event)

    def look_at_everything(self) -> None:
        """Events were missed: take the store as it is."""
        self.told.look_at_everything()
        for session in self.sessions.live.values():
            session.look_again()
        self._news.spread_trust()

    def _observe(self, event: Event) -> None:
        if event.table == "tasks":
            self._observe_task(event)
        elif event.table == "nodes":
            self._observe_node(event)
        else:
            self._news.observe(event)

    def _observe_task(self, event: Event) -> None:
        task: Task = event.object
        for node_id in {task.node_id, event.old.node_id if event.old else None}:
            if node_id and (session := self.sessions.live.get(node_id)) is not None:
                session.task_changed(task.id)

    def _observe_node(self, event: Event) -> None:
        session = self.sessions.live.get(event.object.id)
        if event.kind == "delete":
            self._states.liveness.forget(event.object.id)
            if session is not None:
                session.refuse(REMOVED)
        else:
            self._states.changed(event.object)
            if session is not None:
                session.node_changed(event.object)

    # -- time ---------------------------------------------------------------------------------------------------

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(min(TICK, self._states.liveness.period / 2))
            self.check()

    def check(self) -> None:
        """What the passing of time brings, and whatever does not fit: silent nodes, drains at their limit, other
        managers, another specification, sessions of nodes that were removed."""
        now = self._monotonic()
        self.told.release()
        for verdict in self.told.traffic.again():
            self._reports.add(verdict)
        for node_id in self._states.check(now):
            if self.sessions.drop(node_id):
                self.told.disconnect(node_id)
        self._news.check()
        self._states.follow_cluster()
        if self._seen != self._store.version:
            self._seen = self._store.version
            self._follow_nodes()

    def _follow_nodes(self) -> None:
        for session in self.sessions.live.values():
            node = self._store.nodes.get(session.node_id)
            if node is None:
                session.refuse(REMOVED)
            else:
                session.node_changed(node)


async def _when(event: asyncio.Event) -> None:
    await event.wait()


async def _hello(channel: Channel, timeout: float) -> Hello | None:
    try:
        async with asyncio.timeout(timeout):
            data = await channel.receive()
        message = wire.decode_from_agent(data) if data is not None else None
    except (TimeoutError, msgspec.DecodeError):
        return None
    return message if isinstance(message, Hello) else None
