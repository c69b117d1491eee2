"""What all sessions are told alike, and what their gateways say of it: routes, networks, verdicts, certificates.

The dispatcher brings sessions, events of the store and words of gateways; sessions take what is new at their own pace.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping

from essaim.cluster import wire
from essaim.cluster.certificates import CertificateBook
from essaim.cluster.changes import Verdict
from essaim.cluster.gateway_nodes import idle_nodes, said_of
from essaim.cluster.store import Store
from essaim.cluster.walls import Faults
from essaim.cluster.watch import Event
from essaim.scheduler.traffic.traffic import Traffic
from essaim.scheduler.traffic.verdicts import SharedVerdicts

from .certificate_spread import BookSince, BookSpread
from .network_tables import NetworkTables
from .overlays import concerns_networks
from .session import NO_NETWORKS, Session

ROUTES_REST = 10
"""The route table is made at most one part in this of the time: a big table must not eat the leader."""


class Broadcast:
    """`sessions` are the live ones by node id, `monotonic` seconds; `faults` is what the walls around services found.
    `begin` with each leadership."""

    def __init__(
        self,
        store: Store,
        sessions: Mapping[str, Session],
        monotonic: Callable[[], float],
        faults: Faults | None = None,
    ) -> None:
        self._store = store
        self._sessions = sessions
        self._monotonic = monotonic
        self._faults = faults
        self.traffic = Traffic(store, faults)
        self._verdicts = SharedVerdicts()
        self._books = BookSpread()
        self._networks = NetworkTables(faults)
        self._routes_stale = asyncio.Event()
        self._networks_stale = asyncio.Event()

    def begin(self) -> None:
        """Everything anew, from the store."""
        self.traffic = Traffic(self._store, self._faults)
        self._verdicts = SharedVerdicts()
        self._networks = NetworkTables(self._faults)
        self._books = BookSpread()
        self.look_at_everything()

    # -- sessions -----------------------------------------------------------------------------------------------

    def connect(self, session: Session, now: float) -> None:
        self.traffic.connect(session.node_id, now)
        self._networks.connect(session.node_id)
        session.set_routes(self.traffic.history.since)
        session.set_networks(self._networks.message(session.node_id) or NO_NETWORKS)
        self._look_at_gateways([session.node_id])
        session.begin_verdicts(lambda: wire.encode(self._verdicts.full()))

    def disconnect(self, node_id: str) -> None:
        """What the node told in its session counts no more."""
        self.traffic.disconnect(node_id)
        self._networks.disconnect(node_id)
        self._books.disconnect(node_id)
        self._spread(self._verdicts.disconnect(node_id))

    def routed(self, node_id: str, word: wire.RoutesApplied) -> list[Verdict]:
        """What it means for the fitness of the node's tasks."""
        found = self.traffic.applied(node_id, word)
        self.release()
        return found

    def found(self, node_id: str, word: wire.Findings) -> None:
        self._spread(self._verdicts.told(node_id, word))

    def netted(self, node_id: str, word: wire.NetworksApplied) -> None:
        self._networks.applied(node_id, word.version)
        self.release()

    def certified(self, node_id: str, word: wire.CertificatesApplied) -> None:
        self._books.applied(node_id, word.version)

    # -- events -------------------------------------------------------------------------------------------------

    def observe(self, events: list[Event]) -> None:
        now = self._monotonic()
        self.traffic.observe(events, now)
        for event in events:
            if concerns_networks(event):
                self._networks_stale.set()
            if event.table == "tasks" and event.kind == "delete":
                self._networks.forget(event.object.id)
            elif event.table == "tasks":
                self._networks.consider(event.object, self._store, now)
            elif event.table == "nodes":
                self._books.look_again()
                if event.kind != "update" or event.old is None or said_of(event.old) != said_of(event.object):
                    self._look_at_gateways(self._sessions)
        if self.traffic.is_stale:
            self._routes_stale.set()

    def look_at_everything(self) -> None:
        """Take the store as it is: at the start, and when events were missed."""
        now = self._monotonic()
        self.traffic.look_at_everything(now)
        for task in self._store.tasks:
            self._networks.consider(task, self._store, now)
        self._books.look_again()
        self._look_at_gateways(self._sessions)
        self._routes_stale.set()
        self._networks_stale.set()

    def _look_at_gateways(self, nodes: Iterable[str]) -> None:
        """Whether these gateways serve may have changed: what each may know, and whether its word counts."""
        idle = idle_nodes(self._store.nodes)
        for node_id in nodes:
            self._sessions[node_id].set_certificates(self._book_for(node_id))
            self._spread(self._verdicts.mute(node_id, node_id in idle))

    # -- traffic ------------------------------------------------------------------------------------------------

    def release(self) -> None:
        """Pass on the orders to stop that nothing holds back any more."""
        now = self._monotonic()
        for task_id in (*self.traffic.release(now), *self._networks.release(now)):
            task = self._store.tasks.get(task_id)
            session = self._sessions.get(task.node_id or "") if task else None
            if session is not None:
                session.task_changed(task_id)

    def is_held(self, task_id: str) -> bool:
        return self.traffic.is_held(task_id) or self._networks.is_held(task_id)

    def _spread(self, changes: wire.Verdicts | None) -> None:
        """Tell every gateway what the others found."""
        if changes is not None:
            encoded = wire.encode(changes)
            for session in self._sessions.values():
                session.add_verdicts(encoded)

    async def publish_routes(self) -> None:
        while True:
            await self._routes_stale.wait()
            self._routes_stale.clear()
            began = self._monotonic()
            if self.traffic.publish():
                for session in self._sessions.values():
                    session.set_routes(self.traffic.history.since)
            self.release()
            await asyncio.sleep((self._monotonic() - began) * ROUTES_REST)

    async def publish_networks(self) -> None:
        """A session gets its node's table whenever that changes."""
        while True:
            await self._networks_stale.wait()
            self._networks_stale.clear()
            began = self._monotonic()
            self._networks.renew(self._store)
            for node_id, session in self._sessions.items():
                session.set_networks(self._networks.message(node_id) or NO_NETWORKS)
            self.release()
            await asyncio.sleep((self._monotonic() - began) * ROUTES_REST)

    # -- certificates -------------------------------------------------------------------------------------------

    def publish_certificates(self, book: CertificateBook) -> None:
        """Every gateway is to serve by this book."""
        self._books.publish(book)
        for node_id, session in self._sessions.items():
            session.set_certificates(self._book_for(node_id))

    def _book_for(self, node_id: str) -> BookSince:
        """What is new for this node, asked when the time to send has come: its label may have changed by then."""

        def since(told: CertificateBook | None) -> tuple[CertificateBook, list[bytes]] | None:
            return self._books.since(told, serves=node_id not in idle_nodes(self._store.nodes))

        return since

    async def certificates_served(self, version: int) -> None:
        """Wait until the gateway of every node that is up, or connected, serves by the book of that version."""
        await self._books.everywhere(version, self._live_nodes)

    def gateways_behind(self, version: int) -> list[str]:
        """Host names (or ids) of the live nodes that `certificates_served` would still wait for."""
        names = {node.id: node.hostname or node.id for node in self._store.nodes}
        return [names.get(node_id, node_id) for node_id in self._books.behind(version, self._live_nodes())]

    def gateways_following(self, version: int) -> int:
        """How many gateways serve by the book of that version."""
        live = self._live_nodes()
        return len(live) - len(self._books.behind(version, live))

    def _live_nodes(self) -> set[str]:
        """Those whose gateways serve."""
        live = {node.id for node in self._store.nodes if node.is_ready} | set(self._sessions)
        return live - idle_nodes(self._store.nodes)
