"""The dispatcher: one session with every node's agent, on the leading manager.

It tells nodes their tasks and gateways the routes, takes in their reports, and notices when a node falls silent.
On a manager that does not lead, `serve` only says who does.
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from datetime import datetime

import msgspec

from essaim.cluster import wire
from essaim.cluster.certificates import CertificateBook
from essaim.cluster.changes import NodeReport, Report
from essaim.cluster.errors import Unavailable
from essaim.cluster.node import Node, NodeDescription, NodeStatus
from essaim.cluster.store import Store
from essaim.cluster.swarm import SECOND
from essaim.cluster.task import Task
from essaim.cluster.walls import Faults
from essaim.cluster.watch import Event, Lagged
from essaim.cluster.wire import Channel, FromAgent, Hello, LogCancel, LogChunk, LogRequest, Redirect, Refused, Trust
from essaim.cluster.writer import Writer

from .book_spread import BookSpread
from .liveness import Liveness
from .loop import BACKLOG, RETRY, Logger
from .network_tables import NetworkTables
from .overlays import concerns_networks
from .reports import ReportWriter
from .session import NO_NETWORKS, Session
from .traffic import Traffic
from .verdicts import SharedVerdicts

DEFAULT_HEARTBEAT = 1.0
TABLES = ("nodes", "tasks", "services", "clusters", "networks")
TICK = 0.25
"""Seconds between looks at drain limits and silent nodes."""
ROUTES_REST = 10
"""The route table is made at most one part in this of the time: a big table must not eat the leader."""


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
        self._traffic = Traffic(store, self.faults)
        self._verdicts = SharedVerdicts()
        self._books = BookSpread()
        self._liveness = Liveness(DEFAULT_HEARTBEAT)
        self._routes_stale = asyncio.Event()
        self._networks_stale = asyncio.Event()
        self._networks = NetworkTables(self.faults)
        self._managers: list[str] = []
        self._running: list[asyncio.Task[None]] = []

    # -- life ---------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        if self._running:
            return
        self.faults.forget()
        self._traffic = Traffic(self._store, self.faults)
        self._verdicts = SharedVerdicts()
        self._networks = NetworkTables(self.faults)
        self._books = BookSpread()
        self._liveness = Liveness(self._heartbeat())
        self._managers = list(self._manager_addresses())
        self._routes_stale.set()
        self._networks_stale.set()
        self._look_at_tasks()
        self._running = [
            asyncio.create_task(self._steadily(name, work), name=f"dispatcher {name}")
            for name, work in (
                ("reports", self._reports.run),
                ("watch", self._watch_store),
                ("routes", self._publish_routes),
                ("networks", self._publish_networks),
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
            await session.close()

    @property
    def connected(self) -> frozenset[str]:
        """Ids of the nodes that have a session here."""
        return frozenset(self._sessions)

    def _heartbeat(self) -> float:
        """Seconds, from the cluster's specification."""
        cluster = self._store.cluster
        period = cluster.spec.dispatcher.heartbeat_period if cluster and cluster.spec.dispatcher else None
        return period / SECOND if period else DEFAULT_HEARTBEAT

    # -- sessions -----------------------------------------------------------------------------------------------

    async def serve(self, channel: Channel, peer: str, hello_timeout: float = 10.0) -> None:
        """Hold one agent's session until it ends. Never raises for what the other side does.

        `peer` is the id of the node that the channel is known to come from.
        """
        try:
            hello = await self._hello(channel, hello_timeout)
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

    async def _hello(self, channel: Channel, timeout: float) -> Hello | None:
        try:
            async with asyncio.timeout(timeout):
                data = await channel.receive()
            message = wire.decode_from_agent(data) if data is not None else None
        except (TimeoutError, msgspec.DecodeError):
            return None
        return message if isinstance(message, Hello) else None

    async def _hold(self, node: Node, hello: Hello, channel: Channel) -> None:
        older = self._sessions.get(node.id)
        session = Session(node, channel, self._store, self._is_held, self.faults)
        self._sessions[node.id] = session
        if older is not None:
            await older.close()
        now = self._monotonic()
        self._liveness.heard(node.id, now)
        self._traffic.connect(node.id, now)
        self._networks.connect(node.id)
        self._report_node(node, hello.description)
        session.set_routes(self._traffic.history.since)
        session.set_networks(self._networks.message(node.id) or NO_NETWORKS)
        session.set_certificates(self._books.since)
        session.begin_verdicts(lambda: wire.encode(self._verdicts.full()))
        if (trust := self._trust()) is not None:
            session.send_soon(trust)
        self._log.info("agent connected", node=node.id, hostname=hello.description.hostname)
        writer = asyncio.create_task(session.run_writer(self._liveness.period, self._managers))
        reader = asyncio.create_task(self._read(session, channel))
        try:
            done, _ = await asyncio.wait((writer, reader), return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                if not isinstance(task.exception(), OSError | None):
                    self._log.error("a session failed", node=node.id, error=repr(task.exception()))
        finally:
            writer.cancel()
            reader.cancel()
            await asyncio.gather(writer, reader, return_exceptions=True)
            session.close_logs()
            if self._sessions.get(node.id) is session:
                del self._sessions[node.id]
                self._disconnected(node.id)
            self._on_session_end(node.id)

    def _disconnected(self, node_id: str) -> None:
        """What the node told in its session counts no more."""
        self._traffic.disconnect(node_id)
        self._networks.disconnect(node_id)
        self._books.disconnect(node_id)
        self._spread(self._verdicts.disconnect(node_id))

    async def _read(self, session: Session, channel: Channel) -> None:
        while (data := await channel.receive()) is not None:
            try:
                message = wire.decode_from_agent(data)
            except msgspec.DecodeError as error:
                self._log.warning("an agent sent what is no message", node=session.node_id, error=str(error))
                return
            if self._sessions.get(session.node_id) is not session:
                return
            self._liveness.heard(session.node_id, self._monotonic())
            await self._receive(session, message)

    async def _receive(self, session: Session, message: FromAgent) -> None:
        if isinstance(message, wire.Heartbeat):
            session.send_soon(wire.HeartbeatAck())
        elif isinstance(message, wire.Reports):
            for report in message.reports:
                self._take_report(session.node_id, report)
        elif isinstance(message, wire.RoutesApplied):
            for verdict in self._traffic.applied(session.node_id, message):
                self._reports.add(verdict)
            self._release()
        elif isinstance(message, wire.Findings):
            self._spread(self._verdicts.told(session.node_id, message))
        elif isinstance(message, wire.NetworksApplied):
            self._networks.applied(session.node_id, message.version)
            self._release()
        elif isinstance(message, wire.CertificatesApplied):
            self._books.applied(session.node_id, message.version)
        elif isinstance(message, wire.LogChunk):
            await session.deliver(message)
        elif isinstance(message, wire.Describe):
            node = self._store.nodes.get(session.node_id)
            if node is not None:
                self._report_node(node, message.description)

    def _take_report(self, node_id: str, report: wire.TaskReport) -> None:
        task = self._store.tasks.get(report.task_id)
        try:
            if task is not None and task.node_id == node_id and not task.is_terminal:
                status = self._traffic.as_reported(task, report)
                self._reports.add(Report(report.task_id, node_id, status, report.endpoints))
        except KeyError as error:
            self._log.warning("a report of a task names no known state", node=node_id, task=report.task_id, state=error)

    def _report_node(self, node: Node, description: NodeDescription | None, state: str = "ready") -> None:
        address = node.status.addr or (description.data_addr if description else None)
        message = None if state == "ready" else "heartbeat failure"
        status = NodeStatus(state=state, message=message, addr=address)
        if status != node.status or (description is not None and description != node.description):
            self._reports.add(NodeReport(node.id, status, description))

    # -- store events -------------------------------------------------------------------------------------------

    async def _watch_store(self) -> None:
        with self._store.watch(*TABLES, limit=BACKLOG) as watch:
            while True:
                try:
                    events = await watch.next()
                except Lagged:
                    self._look_at_everything()
                    continue
                self._traffic.observe(events, self._monotonic())
                for event in events:
                    self._observe(event)
                if self._traffic.is_stale:
                    self._routes_stale.set()

    def _look_at_everything(self) -> None:
        self._look_at_tasks()
        self._routes_stale.set()
        self._networks_stale.set()
        for task in self._store.tasks:
            if (session := self._sessions.get(task.node_id or "")) is not None:
                session.task_changed(task.id)

    def _look_at_tasks(self) -> None:
        now = self._monotonic()
        self._traffic.look_at_everything(now)
        for task in self._store.tasks:
            self._networks.consider(task, self._store, now)

    def _observe(self, event: Event) -> None:
        if concerns_networks(event):
            self._networks_stale.set()
        if event.table == "tasks":
            task: Task = event.object
            if event.kind == "delete":
                self._networks.forget(task.id)
            else:
                self._networks.consider(task, self._store, self._monotonic())
            for node_id in {task.node_id, event.old.node_id if event.old else None}:
                if node_id and (session := self._sessions.get(node_id)) is not None:
                    session.task_changed(task.id)
        elif event.table == "nodes":
            self._books.look_again()
            session = self._sessions.get(event.object.id)
            if event.kind == "delete":
                self._liveness.forget(event.object.id)
                if session is not None:
                    session.refuse("this node was removed from the cluster")
            elif session is not None:
                session.node_changed(event.object)
        elif event.table == "clusters":
            self._observe_cluster(event)

    def _observe_cluster(self, event: Event) -> None:
        if (event.old is None or event.object.tls_info != event.old.tls_info) and (trust := self._trust()) is not None:
            for session in self._sessions.values():
                session.send_soon(trust)
        if self._heartbeat() != self._liveness.period:
            # Agents are told their period at the beginning of a session: let them begin anew.
            self._liveness.period = self._heartbeat()
            for session in self._sessions.values():
                session.end()

    def _trust(self) -> Trust | None:
        cluster = self._store.cluster
        return Trust(cluster.tls_info) if cluster is not None and cluster.tls_info is not None else None

    # -- traffic ------------------------------------------------------------------------------------------------

    def _release(self) -> None:
        """Pass on the orders to stop that nothing holds back any more."""
        now = self._monotonic()
        for task_id in (*self._traffic.release(now), *self._networks.release(now)):
            task = self._store.tasks.get(task_id)
            session = self._sessions.get(task.node_id or "") if task else None
            if session is not None:
                session.task_changed(task_id)

    def _is_held(self, task_id: str) -> bool:
        return self._traffic.is_held(task_id) or self._networks.is_held(task_id)

    def _spread(self, changes: wire.Verdicts | None) -> None:
        """Tell every gateway what the others found."""
        if changes is not None:
            encoded = wire.encode(changes)
            for session in self._sessions.values():
                session.add_verdicts(encoded)

    async def _publish_routes(self) -> None:
        while True:
            await self._routes_stale.wait()
            self._routes_stale.clear()
            began = self._monotonic()
            if self._traffic.publish():
                for session in self._sessions.values():
                    session.set_routes(self._traffic.history.since)
            self._release()
            await asyncio.sleep((self._monotonic() - began) * ROUTES_REST)

    async def _publish_networks(self) -> None:
        """A session gets its node's table whenever that changes."""
        while True:
            await self._networks_stale.wait()
            self._networks_stale.clear()
            began = self._monotonic()
            self._networks.renew(self._store)
            for node_id, session in self._sessions.items():
                session.set_networks(self._networks.message(node_id) or NO_NETWORKS)
            self._release()
            await asyncio.sleep((self._monotonic() - began) * ROUTES_REST)

    # -- certificates -------------------------------------------------------------------------------------------

    def publish_certificates(self, book: CertificateBook) -> None:
        """Every gateway is to serve by this book."""
        self._books.publish(book)
        for session in self._sessions.values():
            session.set_certificates(self._books.since)

    async def certificates_served(self, version: int) -> None:
        """Wait until the gateway of every node that is up, or connected, serves by the book of that version."""
        await self._books.everywhere(version, self._live_nodes)

    def gateways_behind(self, version: int) -> list[str]:
        """Host names (or ids) of the live nodes that `certificates_served` would still wait for."""
        names = {node.id: node.hostname or node.id for node in self._store.nodes}
        return [names.get(node_id, node_id) for node_id in self._books.behind(version, self._live_nodes())]

    def _live_nodes(self) -> set[str]:
        return {node.id for node in self._store.nodes if node.is_ready} | set(self._sessions)

    # -- time ---------------------------------------------------------------------------------------------------

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(min(TICK, self._liveness.period / 2))
            self.check()

    def check(self) -> None:
        """What the passing of time brings: silent nodes, drains at their limit, other managers."""
        now = self._monotonic()
        self._release()
        believed = [node.id for node in self._store.nodes if node.status.state != "down"]
        unreachable = {node_id for node_id, reachable in self._reachable().items() if not reachable}
        for node_id in self._liveness.silent(believed, now, unreachable):
            node = self._store.nodes.get(node_id)
            if node is not None:
                self._log.warning("a node is down: its agent is silent", node=node_id, hostname=node.hostname)
                self._report_node(node, None, "down")
            self._liveness.forget(node_id)
            if (session := self._sessions.pop(node_id, None)) is not None:
                self._disconnected(node_id)
                session.end()
        managers = list(self._manager_addresses())
        if managers != self._managers:
            self._managers = managers
            for session in self._sessions.values():
                session.managers_changed(managers)

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
            yield LogChunk(request.request, request.task_id, end=True, error=why)
            return
        number, queue = session.open_log()
        session.send_soon(msgspec.structs.replace(request, request=number))
        ended = False
        try:
            while not ended:
                chunk = await queue.get()
                if chunk is None:
                    ended = True
                    yield LogChunk(
                        request.request, request.task_id, end=True, error="the connection to the node was lost"
                    )
                    return
                ended = chunk.end
                yield msgspec.structs.replace(chunk, request=request.request)
        finally:
            session.log_readers.pop(number, None)
            if not ended:
                session.send_soon(LogCancel(number))
