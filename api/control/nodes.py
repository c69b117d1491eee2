"""Changing and removing nodes.

A change of role is not written here: it moves the node into or out of Raft's membership, which the daemon carries out.

Pure: the store and a request in, changes or an error in Docker's words out.
"""

from dataclasses import dataclass
from typing import Literal

from msgspec.structs import replace

from essaim.cluster.changes import Change, put
from essaim.cluster.errors import InvalidArgument
from essaim.cluster.node import NodeSpec
from essaim.cluster.store import Store

from . import lookup
from .errors import precondition
from .sequence import check_sequence

AVAILABILITIES = {"active", "pause", "drain"}
ROLES = {"worker", "manager"}


@dataclass(frozen=True, slots=True)
class NodeUpdate:
    """What to write, and then whether to promote or demote `node_id`."""

    node_id: str
    changes: list[Change]
    role: Literal["", "promote", "demote"] = ""


def update(store: Store, reference: str, version: int, spec: NodeSpec, sent: set[str]) -> NodeUpdate:
    """`sent` are the lower-case keys of the request: role and availability that were left out are invalid in Docker,
    and stay as they are here."""
    node = lookup.node(store, reference)
    role = (spec.role if "role" in sent else "").lower() or node.spec.role
    availability = (spec.availability if "availability" in sent else "").lower() or node.spec.availability
    if role not in ROLES:
        raise InvalidArgument(f'invalid Role: "{role}"')
    if availability not in AVAILABILITIES:
        raise InvalidArgument(f'invalid Availability: "{availability}"')
    check_sequence(node, version)
    turn: Literal["", "promote", "demote"] = ""
    if role != node.spec.role:
        turn = "promote" if role == "manager" else "demote"
    if turn == "demote" and sum(n.spec.role == "manager" for n in store.nodes) <= 1:
        raise precondition("attempting to demote the last manager of the swarm")
    wanted = replace(
        spec, role=node.spec.role, availability=availability, labels=spec.labels or {}, name=spec.name or None
    )
    same = wanted == replace(node.spec, labels=node.spec.labels or {})
    changes: list[Change] = [] if turn and same else [put("nodes", replace(node, spec=wanted, spec_after=node.version))]
    return NodeUpdate(node.id, changes, turn)


def check_removal(store: Store, reference: str, *, force: bool) -> str:
    """The id of the node to remove. Raises FailedPrecondition while it must not be."""
    node = lookup.node(store, reference)
    if node.spec.role == "manager" or node.manager_status is not None:
        raise precondition(
            f"node {node.id} is a cluster manager and is a member of the raft cluster. "
            "It must be demoted to worker before removal"
        )
    if node.status.state == "ready" and not force:
        raise precondition(f"node {node.id} is not down and can't be removed")
    return node.id
