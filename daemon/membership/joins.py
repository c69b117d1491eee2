"""Joining: what a manager decides when a host knocks with a token, and the messages for it.

Who sends a message that is not a join, the certificate of its connection says.

Pure: identifiers and chance come in as arguments.
"""

import hmac
from collections.abc import Iterable, Sequence
from datetime import datetime

import msgspec
from msgspec.structs import replace

from essaim.cluster import formats
from essaim.cluster.changes import Change, put
from essaim.cluster.errors import FailedPrecondition, InvalidArgument, NotFound
from essaim.cluster.node import ManagerStatus, Node, NodeDescription, NodeSpec, NodeStatus
from essaim.cluster.shape import Version
from essaim.cluster.store import Store
from essaim.secrets.holder import Role

WRONG_TOKEN = "rpc error: code = InvalidArgument desc = A valid join token is necessary to join this cluster"


WAITING = "waiting for the node's first heartbeat"
JOIN_SECONDS = 300.0
"""How long a node may take from its admission to its first session: a host that died in between is forgotten."""


class JoinMessage(msgspec.Struct, frozen=True):
    """`address` is the joining host's advertised host:port, `ip` where its tasks' ports are reached, `request` asks
    for a certificate of its key (PEM)."""

    token: str
    address: str
    ip: str
    availability: str
    description: NodeDescription
    request: bytes


class JoinAnswer(msgspec.Struct, frozen=True):
    """`certificate` is the node's, `roots` are what it is to trust (PEM). `raft_id` is a manager's member number."""

    node_id: str
    cluster_id: str
    role: str
    managers: list[str]
    certificate: bytes
    roots: bytes
    raft_id: int = 0
    version: int = 0  # of the store, at which the node's object is what this answer says


class BecomeManager(msgspec.Struct, frozen=True):
    """A node that has been promoted asks for its member number. `address` is where its port 2377 will listen."""

    address: str
    request: bytes


class LeaveMessage(msgspec.Struct, frozen=True):
    """A node says that it has left."""


class WithdrawMessage(msgspec.Struct, frozen=True):
    """A node whose joining failed says so: it is forgotten."""


class RenewMessage(msgspec.Struct, frozen=True):
    """A node wants a certificate of a new key, for the role that it has now."""

    request: bytes


class Issued(msgspec.Struct, frozen=True):
    """A certificate, and the roots to trust (PEM)."""

    certificate: bytes
    roots: bytes


def role_of_token(store: Store, token: str) -> Role:
    """The role that the token admits to. Raises InvalidArgument for a wrong one."""
    tokens = store.cluster.join_tokens if store.cluster else None
    if tokens and hmac.compare_digest(token.encode(), tokens.worker.encode()):
        return "worker"
    if tokens and hmac.compare_digest(token.encode(), tokens.manager.encode()):
        return "manager"
    raise InvalidArgument(WRONG_TOKEN)


def admit(message: JoinMessage, *, role: str, node_id: str, raft_id: int, after: int) -> Sequence[Change]:
    """The new node's object: down until its agent says hello. `after`: the store's version that is decided from."""
    manager = ManagerStatus(addr=message.address, raft_id=raft_id) if role == "manager" else None
    node = Node(
        id=node_id,
        spec=NodeSpec(labels={}, role=role, availability=message.availability or "active"),
        description=message.description,
        status=NodeStatus(state="down", addr=message.ip, message=WAITING),
        manager_status=manager,
        spec_after=Version(index=after),
    )
    return [put("nodes", node, new=True)]


def enlist(store: Store, node_id: str, address: str, raft_id: int) -> Sequence[Change]:
    """Give a promoted node a member number, a new one whenever it asks: with the one before it may have voted, and
    begins with an empty log. The keeper takes the former member out."""
    node = require_promoted(store, node_id)
    return [put("nodes", replace(node, manager_status=ManagerStatus(addr=address, raft_id=raft_id)))]


def require_promoted(store: Store, node_id: str) -> Node:
    """Raises NotFound, FailedPrecondition."""
    node = store.nodes.get(node_id)
    if node is None:
        raise NotFound(f"node {node_id} not found")
    if node.spec.role != "manager":
        raise FailedPrecondition(f"node {node_id} is a worker: promote it first (essaim node promote {node_id})")
    require_format(store, node.description)
    return node


def require_format(store: Store, description: NodeDescription | None) -> None:
    """A manager understands the cluster's state. Raises FailedPrecondition."""
    known = (description.format if description else None) or formats.FIRST
    if known < store.format:
        raise FailedPrecondition(
            f"the managers of this cluster have agreed on format {store.format} of its state, and this node's version "
            f"of essaim understands formats up to {known}: upgrade essaim there, then try again"
        )


def renumber(store: Store, node_id: str, raft_id: int) -> Sequence[Change]:
    """A manager's node whose member was taken out of the log: it asks for another number."""
    node = store.nodes.get(node_id)
    if node is None or node.manager_status is None or node.manager_status.raft_id != raft_id:
        return []
    return [put("nodes", replace(node, manager_status=None))]


def never_came(nodes: Iterable[Node], now: datetime) -> list[str]:
    """Ids of the nodes that were admitted long ago and have not said hello since."""
    return [
        node.id
        for node in nodes
        if node.status.state == "down"
        and node.status.message == WAITING
        and (now - node.created_at).total_seconds() > JOIN_SECONDS
    ]


def raise_format(store: Store) -> Sequence[Change]:
    """The newest format that all managers understand becomes the cluster's."""
    cluster = store.cluster
    if cluster is None:
        return []
    managers = [node.description.format if node.description else None for node in store.nodes if is_manager(node)]
    found = formats.agreed(managers, cluster.format)
    return [put("clusters", replace(cluster, format=found))] if found > store.format else []


def is_manager(node: Node) -> bool:
    return node.spec.role == "manager" or node.manager_status is not None


def set_role(store: Store, node_id: str, role: str) -> Sequence[Change]:
    """What the node shall be. A demoted one keeps its member number until it is out of the log (`discharge`), also
    if it is promoted again before that: its member may be going, and counts until it has gone (`renumber`)."""
    node = store.nodes.get(node_id)
    if node is None:
        raise NotFound(f"node {node_id} not found")
    if node.spec.role == role:
        return []
    return [put("nodes", replace(node, spec=replace(node.spec, role=role), spec_after=node.version))]


def keep_manager(store: Store, node_id: str, raft_id: int) -> Sequence[Change]:
    """Undo a demotion that would cost the quorum, if it is still the one of that member."""
    node = store.nodes.get(node_id)
    status = node.manager_status if node else None
    if node is None or status is None or node.spec.role != "worker" or status.raft_id != raft_id:
        return []
    return [put("nodes", replace(node, spec=replace(node.spec, role="manager"), spec_after=node.version))]


def discharge(store: Store, node_id: str, raft_id: int) -> Sequence[Change]:
    """The member of a demoted node is out of the log."""
    node = store.nodes.get(node_id)
    if node is None or node.manager_status is None or node.spec.role != "worker":
        return []
    if node.manager_status.raft_id != raft_id:
        return []
    return [put("nodes", replace(node, manager_status=None))]


def departed(store: Store, node_id: str) -> Sequence[Change]:
    """The object of a node that has left, until it is removed."""
    node = store.nodes.get(node_id)
    if node is None:
        return []
    gone = NodeStatus(state="down", addr=node.status.addr, message="the node left the swarm")
    spec = replace(node.spec, role="worker")
    return [put("nodes", replace(node, spec=spec, spec_after=node.version, status=gone, manager_status=None))]


def forced_alone(store: Store, node_id: str) -> Sequence[Change]:
    """After `--force-new-cluster`: this node is the only manager, and nobody else is known to be there."""
    return [
        put(
            "nodes",
            replace(node, spec=replace(node.spec, role="worker"), spec_after=node.version, manager_status=None),
        )
        for node in store.nodes
        if node.id != node_id and (node.manager_status or node.spec.role == "manager")
    ]
