"""The nodes' states as the leader holds them true, and brings them into the store.

Level-triggered: `check` compares what is so with what is stored, and with what is on its way there, again and again.
So no report that comes late, gets lost or overtakes another leaves a node in a wrong state for good.
"""

from collections.abc import Callable, Mapping

from essaim.cluster import wire
from essaim.cluster.changes import NodeReport
from essaim.cluster.node import Node, NodeDescription, NodeStatus
from essaim.cluster.store import Store
from essaim.cluster.swarm import SECOND
from essaim.cluster.wire import SESSION
from essaim.scheduler.loop import Logger

from .liveness import Fate, Liveness
from .reports import ReportWriter
from .session import Session

WITNESSES = 3
"""Gateways that are asked whether anything answers on a silent node."""

SILENT = "heartbeat failure"
LEFT = "its daemon was stopped to start again: its tasks stay where they are for up to {:g}s"
CRASHED = "its daemon is silent, but its replicas answer: its tasks stay where they are for up to {:g}s"

DEFAULT_HEARTBEAT = 1.0
DEFAULT_GRACE = 30.0
"""Seconds for which the tasks of a node stay where they are while its daemon starts again."""


def heartbeat_of(store: Store) -> float:
    """Seconds, from the cluster's specification."""
    cluster = store.cluster
    period = cluster.spec.dispatcher.heartbeat_period if cluster and cluster.spec.dispatcher else None
    return period / SECOND if period else DEFAULT_HEARTBEAT


def grace_of(store: Store) -> float:
    """Seconds, from the cluster's specification."""
    cluster = store.cluster
    grace = cluster.spec.dispatcher.restart_grace if cluster and cluster.spec.dispatcher else None
    return DEFAULT_GRACE if grace is None else grace / SECOND


class NodeStates:
    """`sessions` are the live ones by node id; `reachable` tells of managers, by node id, whether the log reaches them.
    `begin` with each leadership. Times in seconds of a monotonic clock come in."""

    def __init__(
        self,
        store: Store,
        reports: ReportWriter,
        sessions: Mapping[str, Session],
        log: Logger,
        reachable: Callable[[], Mapping[str, bool]],
    ) -> None:
        self._store = store
        self._reports = reports
        self._sessions = sessions
        self._log = log
        self._reachable = reachable
        self.liveness = Liveness(DEFAULT_HEARTBEAT, DEFAULT_GRACE)
        self._turn = 0
        self._believed: dict[str, str] = {}
        """States of the nodes that are not down, as the store has them at the version `_seen`."""
        self._seen: int | None = None
        """The store's version when all was found in order; None: it was not."""

    def begin(self) -> None:
        """Nobody was heard yet, and the cluster's specification says what it says now."""
        self.liveness = Liveness(heartbeat_of(self._store), grace_of(self._store))
        self._seen = None

    def follow_cluster(self) -> None:
        """How the cluster's specification has nodes looked after."""
        self.liveness.grace = grace_of(self._store)
        if heartbeat_of(self._store) != self.liveness.period:
            # Agents are told their period at the beginning of a session: let them begin anew.
            self.liveness.period = heartbeat_of(self._store)
            for session in self._sessions.values():
                session.end()

    # -- what agents say ----------------------------------------------------------------------------------------

    def heard(self, session: Session, now: float) -> None:
        """Its agent has said something; what comes after its goodbye counts no more."""
        if not session.is_leaving:
            self.liveness.heard(session.node_id, now)

    def connected(self, session: Session, node: Node, description: NodeDescription, now: float) -> None:
        self.liveness.heard(node.id, now)
        self._ready(session, node, description)

    def described(self, session: Session, description: NodeDescription) -> None:
        node = self._store.nodes.get(session.node_id)
        if node is not None:
            self._ready(session, node, description)

    def _ready(self, session: Session, node: Node, description: NodeDescription) -> None:
        """With a problem, what the node was known as is kept: its agent can only guess."""
        guessed = bool(session.problem) and node.description is not None
        self._set(node, "ready", session.problem or None, None if guessed else description)

    def left(self, session: Session, now: float) -> None:
        """The node's daemon has said goodbye; it is told once that is in the store."""
        session.is_leaving = True
        node = self._store.nodes.get(session.node_id)
        self.liveness.left(session.node_id, now)
        if node is not None and not self._is_away(node):
            self._set(node, "unknown", LEFT.format(self.liveness.grace))
        else:
            session.send_latest(wire.Farewell())

    def changed(self, node: Node) -> None:
        """The store has it so now."""
        session = self._sessions.get(node.id)
        if session is not None and session.is_leaving and self._is_away(node):
            session.send_latest(wire.Farewell())

    @staticmethod
    def _is_away(node: Node) -> bool:
        return node.status.state == "unknown"

    def told(self, word: wire.Answered, now: float) -> None:
        self.liveness.told(word.node_id, word.answers, now)

    # -- what follows -------------------------------------------------------------------------------------------

    def check(self, now: float) -> list[str]:
        """Compare, report, and ask about silent nodes; the ids of those whose session is to end."""
        if self._seen != self._store.version or self._reports.is_waiting:
            self._believed = {node.id: node.status.state for node in self._store.nodes if node.status.state != "down"}
            self._seen = self._store.version if self._confirm() else None
        unreachable = {node_id for node_id, is_reached in self._reachable().items() if not is_reached}
        fates = self.liveness.look(self._believed, now, unreachable)
        for node_id in self.liveness.to_ask(now):
            if node_id in self._believed and self._ask(node_id, now):
                self.liveness.asked(node_id, now)
        return [node_id for node_id, fate in fates.items() if self._judge(node_id, fate)]

    def _confirm(self) -> bool:
        """A node whose agent has a session is up, whatever the store says. Whether all are, and nothing else is on its
        way."""
        none_waits, in_order = not self._reports.is_waiting, True
        for session in self._sessions.values():
            node = self._store.nodes.get(session.node_id)
            if node is None or session.is_leaving:
                continue
            problem = session.problem or None
            is_so = node.status.state == "ready" and node.status.message == problem
            if not (is_so and none_waits):
                in_order = False
                self._set(node, "ready", problem)
        return in_order and none_waits

    def _judge(self, node_id: str, fate: Fate) -> bool:
        node = self._store.nodes.get(node_id)
        if node is None or fate is Fate.SILENT:
            return False
        if fate is Fate.AWAY:
            if not self._is_away(node):
                self._log.warning("a node is away: its agent is silent, and its replicas answer", node=node_id)
                self._set(node, "unknown", CRASHED.format(self.liveness.grace))
            session = self._sessions.get(node_id)
            return session is not None and not session.is_leaving
        self._log.warning("a node is down: its agent is silent", node=node_id, hostname=node.hostname)
        self._set(node, "down", SILENT)
        self.liveness.forget(node_id)
        return True

    def _ask(self, node_id: str, now: float) -> bool:
        """Ask gateways of nodes that are sure to live; whether there are any."""
        witnesses = [
            session
            for other, session in self._sessions.items()
            if other != node_id and session.version >= SESSION and self.liveness.is_heard(other, now)
        ]
        self._turn += 1
        for number in range(min(WITNESSES, len(witnesses))):
            witnesses[(self._turn + number) % len(witnesses)].send_soon(wire.Ask(node_id))
        return bool(witnesses)

    def _set(self, node: Node, state: str, message: str | None, description: NodeDescription | None = None) -> None:
        """Report it unless it is so, or on its way."""
        coming = self._reports.of_node(node.id)
        status = coming.status if coming is not None else node.status
        known = (coming.description if coming is not None else None) or node.description
        addr = node.status.addr or (description.data_addr if description else None)
        wanted = NodeStatus(state=state, message=message, addr=addr)
        if status != wanted or (description is not None and description != known):
            self._reports.add(NodeReport(node.id, wanted, description))
