"""The dispatcher: one session with every node's agent, on the leading manager.

It tells nodes their tasks and gateways the routes, takes in their reports, and notices when a node falls silent.
On a manager that does not lead, `serve` only says who does.

- Nothing here waits for an agent, a reader or the log: what a session has to send is kept as state (`session.py`),
  output goes to its reader's own store (`log_readers.py`), reports wait on their own (`reports.py`), and a session that
  is to end is closed beside the loops, since the other side may not answer.
- `check` compares what is so with what is stored and told, and repairs it: no event is the only chance of anything.
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from datetime import datetime

import msgspec

from essaim.cluster import wire
from essaim.cluster.changes import Report
from essaim.cluster.errors import Unavailable
from essaim.cluster.node import Node
from essaim.cluster.store import Store
from essaim.cluster.task import Task
from essaim.cluster.walls import Faults
from essaim.cluster.watch import Event, Lagged
from essaim.cluster.wire import Channel, FromAgent, Hello, LogChunk, LogRequest, Redirect, Refused, Trust
from essaim.cluster.writer import Writer
from essaim.scheduler.loop import BACKLOG, RETRY, Logger

from .broadcast import Broadcast
from .node_states import NodeStates, grace_of, heartbeat_of
from .reports import ReportWriter
from .session import Session

CLOSE_SECONDS = 3.0
"""How long `stop` waits for the sessions to end."""
TABLES = ("nodes", "tasks", "services", "clusters", "networks")
REMOVED = "this node was removed from the cluster"
TICK = 0.25
"""Seconds between looks at drain limits and silent nodes."""


class Dispatcher:
    """`start` and `stop` with the leadership. `now` is the wall clock in UTC, `monotonic` in seconds.

    `leader_address` and `manager_addresses` (host:port) are what agents are told to connect to; `reachable` tells of
    managers, by node id, whether the log reaches them; `on_session_end` hears of nodes whose session has ended.
    `faults` is what the walls of all that this leader decides have found.
    """

    def __init__(
        self,
        store: Store,
        writer: Writer,
        now: Callable[[], datetime],
        monotonic: Callable[[], float],
        log: Logger,
        *,
        leader_address: Callable[[], str | None],
        manager_addresses: Callable[[], list[str]],
        reachable: Callable[[], dict[str, bool]] = dict,
        on_session_end: Callable[[str], None] = lambda node_id: None,
    ) -> None:
        self._store = store
        self._now = now
        self._monotonic = monotonic
        self._log = log
        self._leader_address = leader_address
        self._manager_addresses = manager_addresses
        self._reachable = reachable
        self._on_session_end = on_session_end
        self._reports = ReportWriter(writer, log)
        self._sessions: dict[str, Session] = {}
        self.faults = Faults()
        self.told = Broadcast(store, self._sessions, monotonic, self.faults)
        """What all sessions are told, and what their gateways say of it."""
        self._states = self._new_states()
        self._managers: list[str] = []
        self._seen: int | None = None
        """The store's version when all sessions were last compared with it."""
        self._running: list[asyncio.Task[None]] = []
        self._closing: set[asyncio.Task[None]] = set()
        self._handlers: dict[type[FromAgent], Callable[..., None]] = {
            wire.Heartbeat: lambda session, _: session.heartbeat(),
            wire.Reports: self._take_reports,
            wire.RoutesApplied: self._take_routed,
            wire.Findings: lambda session, word: self.told.found(session.node_id, word),
            wire.NetworksApplied: lambda session, word: self.told.netted(session.node_id, word),
            wire.CertificatesApplied: lambda session, word: self.told.certified(session.node_id, word),
            wire.LogChunk: lambda session, chunk: session.logs.deliver(chunk),
            wire.Answered: lambda _, word: self._states.told(word, self._monotonic()),
            wire.Goodbye: lambda session, _: self._states.left(session, self._monotonic()),
            wire.Describe: self._take_description,
        }

    # -- life ---------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        if self._running:
            return
        self.faults.forget()
        self.told.begin()
        self._states = self._new_states()
        self._seen = None
        self._managers = list(self._manager_addresses())
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
                    self._look_at_everything()
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
        for session in list(self._sessions.values()):
            self._part(session)
        if self._closing:
            await asyncio.wait(list(self._closing), timeout=CLOSE_SECONDS)

    def _part(self, session: Session) -> None:
        """End a session beside the loops: the other side may be gone, or not read."""
        session.end()
        closing = asyncio.create_task(session.close(), name=f"closing {session.node_id}")
        self._closing.add(closing)
        closing.add_done_callback(self._closed)

    def _closed(self, closing: asyncio.Task[None]) -> None:
        self._closing.discard(closing)
        if not closing.cancelled() and (error := closing.exception()) is not None:
            self._log.debug("a session did not close", error=repr(error))

    def _new_states(self) -> NodeStates:
        def unreachable() -> set[str]:
            return {node_id for node_id, reachable in self._reachable().items() if not reachable}

        return NodeStates(
            self._store,
            self._reports,
            self._sessions,
            self._log,
            period=heartbeat_of(self._store),
            grace=grace_of(self._store),
            unreachable=unreachable,
        )

    @property
    def connected(self) -> frozenset[str]:
        """Ids of the nodes that have a session here."""
        return frozenset(self._sessions)

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
        older = self._sessions.get(node.id)
        session = Session(node, channel, self._store, self.told.is_held, hello.version, self.faults)
        self._sessions[node.id] = session
        if older is not None:
            self._part(older)
        now = self._monotonic()
        session.problem = hello.problem
        self._states.connected(session, node, hello.description, now)
        self.told.connect(session, now)
        if (trust := self._trust()) is not None:
            session.send_latest(trust)
        self._log.info("agent connected", node=node.id, hostname=hello.description.hostname)
        parts = [
            asyncio.create_task(session.run_writer(self._states.liveness.period, self._managers)),
            asyncio.create_task(self._read(session, channel)),
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
            if self._sessions.get(node.id) is session:
                del self._sessions[node.id]
                self.told.disconnect(node.id)
            self._on_session_end(node.id)

    async def _read(self, session: Session, channel: Channel) -> None:
        while (data := await channel.receive()) is not None:
            try:
                message = wire.decode_from_agent(data)
            except msgspec.DecodeError as error:
                self._log.warning("cannot decode a message from an agent", node=session.node_id, error=str(error))
                return
            if self._sessions.get(session.node_id) is not session:
                return
            if not session.is_leaving:
                self._states.liveness.heard(session.node_id, self._monotonic())
            self._receive(session, message)

    def _receive(self, session: Session, message: FromAgent) -> None:
        """Never waits. A message that a bug makes impossible to take in ends no session: it would come again."""
        handler = self._handlers.get(type(message))
        try:
            if handler is not None:
                handler(session, message)
        except Exception as error:
            self._log.error(
                "a message of an agent could not be taken in",
                node=session.node_id,
                message=type(message).__name__,
                error=repr(error),
            )

    def _take_routed(self, session: Session, message: wire.RoutesApplied) -> None:
        for verdict in self.told.routed(session.node_id, message):
            self._reports.add(verdict)

    def _take_description(self, session: Session, message: wire.Describe) -> None:
        session.problem = message.problem
        self._states.described(session, message.description)

    def _take_reports(self, session: Session, message: wire.Reports) -> None:
        for report in message.reports:
            self._take_report(session.node_id, report)

    def _take_report(self, node_id: str, report: wire.TaskReport) -> None:
        task = self._store.tasks.get(report.task_id)
        try:
            if task is not None and task.node_id == node_id and not task.is_terminal:
                status = self.told.traffic.as_reported(task, report)
                self._reports.add(Report(report.task_id, node_id, status, report.endpoints, report.kept))
        except KeyError as error:
            self._log.warning("a report of a task names no known state", node=node_id, task=report.task_id, state=error)

    # -- store events -------------------------------------------------------------------------------------------

    async def _watch_store(self) -> None:
        with self._store.watch(*TABLES, limit=BACKLOG) as watch:
            while True:
                try:
                    events = await watch.next()
                except Lagged:
                    self._look_at_everything()
                    continue
                self.told.observe(events)
                for event in events:
                    self._observe(event)

    def _look_at_everything(self) -> None:
        self.told.look_at_everything()
        for session in self._sessions.values():
            session.look_again()
            if (trust := self._trust()) is not None:
                session.send_latest(trust)

    def _observe(self, event: Event) -> None:
        if event.table == "tasks":
            task: Task = event.object
            for node_id in {task.node_id, event.old.node_id if event.old else None}:
                if node_id and (session := self._sessions.get(node_id)) is not None:
                    session.task_changed(task.id)
        elif event.table == "nodes":
            session = self._sessions.get(event.object.id)
            if event.kind == "delete":
                self._states.liveness.forget(event.object.id)
                if session is not None:
                    session.refuse(REMOVED)
            else:
                self._states.changed(event.object)
                if session is not None:
                    session.node_changed(event.object)
        elif event.table == "clusters":
            self._observe_cluster(event)

    def _observe_cluster(self, event: Event) -> None:
        if (event.old is None or event.object.tls_info != event.old.tls_info) and (trust := self._trust()) is not None:
            for session in self._sessions.values():
                session.send_latest(trust)

    def _trust(self) -> Trust | None:
        cluster = self._store.cluster
        return Trust(cluster.tls_info) if cluster is not None and cluster.tls_info is not None else None

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
            if (session := self._sessions.pop(node_id, None)) is not None:
                self.told.disconnect(node_id)
                self._part(session)
        self._follow_cluster()
        if self._seen != self._store.version:
            self._seen = self._store.version
            self._follow_nodes()

    def _follow_nodes(self) -> None:
        for session in self._sessions.values():
            node = self._store.nodes.get(session.node_id)
            if node is None:
                session.refuse(REMOVED)
            else:
                session.node_changed(node)

    def _follow_cluster(self) -> None:
        """The managers' addresses, and how the cluster's specification has nodes looked after."""
        managers = list(self._manager_addresses())
        if managers != self._managers:
            self._managers = managers
            for session in self._sessions.values():
                session.managers_changed(managers)
        self._states.liveness.grace = grace_of(self._store)
        if heartbeat_of(self._store) != self._states.liveness.period:
            # Agents are told their period at the beginning of a session: let them begin anew.
            self._states.liveness.period = heartbeat_of(self._store)
            for session in self._sessions.values():
                session.end()

    # -- tunnels ------------------------------------------------------------------------------------------------

    def ask_tunnel(self, node_id: str, key: str) -> None:
        """Tell a node to open a connection to its Engine for this manager. Raises Unavailable."""
        session = self._sessions.get(node_id)
        if session is None:
            raise Unavailable(f"node {node_id} is not connected to the leading manager: is it up (essaim node ls)?")
        session.send_soon(wire.OpenTunnel(self._leader_address() or "", key))

    # -- logs ---------------------------------------------------------------------------------------------------

    async def logs(self, request: LogRequest) -> AsyncGenerator[LogChunk, None]:
        """A task's output as its node sends it; the last chunk has `end` or `error`."""
        task = self._store.tasks.get(request.task_id)
        session = self._sessions.get(task.node_id or "") if task is not None else None
        if task is None or session is None:
            why = "task not found" if task is None else f"node {task.node_id or '(none)'} is not connected"
            yield LogChunk(request.request, request.task_id, end=True, error=why, lost=task is not None)
            return
        number, reader = session.logs.open(request)
        try:
            ended = False
            while not ended:
                chunk = await reader.next()
                ended = chunk.end
                yield msgspec.structs.replace(chunk, request=request.request)
        finally:
            session.logs.close_one(number)


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
