"""Which services, secrets, configs and nodes a list's filters select.

Pure: the store and filters in, objects out.
"""

from collections.abc import Iterable
from typing import TypeVar

from essaim.api.query import Filters, any_prefix, labels_match
from essaim.cluster.errors import ClusterError
from essaim.cluster.node import Node
from essaim.cluster.objects import Config, Secret
from essaim.cluster.service import Service
from essaim.cluster.store import Store

from .services import mode_name

SERVICE_FILTERS = {"id", "label", "mode", "name", "runtime"}
OBJECT_FILTERS = {"id", "label", "name", "names"}
NODE_FILTERS = {"id", "label", "membership", "name", "node.label", "role"}
ROLES = {"worker", "manager"}
MEMBERSHIPS = {"accepted", "pending"}

Named = TypeVar("Named", Secret, Config)


def services(store: Store, filters: Filters) -> list[Service]:
    """Ordered by ID, as an Engine answers."""
    modes = filters.get("mode", [])
    runtimes = filters.get("runtime", ["container"])
    found = [
        s
        for s in store.services
        if any_prefix([s.id], filters.get("id", []))
        and any_prefix([s.spec.name or ""], filters.get("name", []))
        and labels_match(s.spec.labels, filters.get("label", []))
        and (not modes or mode_name(s.spec.mode) in modes)
        and "container" in runtimes
    ]
    return sorted(found, key=lambda s: s.id)


def secrets_or_configs(table: Iterable[Named], filters: Filters) -> list[Named]:
    exact = filters.get("names", [])
    found = [
        o
        for o in table
        if any_prefix([o.id], filters.get("id", []))
        and any_prefix([o.spec.name or ""], filters.get("name", []))
        and labels_match(o.spec.labels, filters.get("label", []))
        and (not exact or o.spec.name in exact)
    ]
    return sorted(found, key=lambda o: o.id)


def nodes(store: Store, filters: Filters) -> list[Node]:
    """`label` is the engine's, `node.label` the node's own. Raises ClusterError for an unknown role or membership."""
    roles, memberships = filters.get("role", []), filters.get("membership", [])
    _known("role", roles, ROLES)
    _known("membership", memberships, MEMBERSHIPS)
    found = [
        n
        for n in store.nodes
        if any_prefix([n.id], filters.get("id", []))
        and any_prefix([n.hostname, n.spec.name or "\0"], filters.get("name", []))
        and labels_match(_engine_labels(n), filters.get("label", []))
        and labels_match(n.spec.labels, filters.get("node.label", []))
        and (not roles or n.spec.role in roles)
        and (not memberships or "accepted" in memberships)
    ]
    return sorted(found, key=lambda n: n.id)


def _engine_labels(node: Node) -> dict[str, str] | None:
    return node.description.engine.labels if node.description and node.description.engine else None


def _known(name: str, values: list[str], allowed: set[str]) -> None:
    for value in values:
        if value not in allowed:
            raise ClusterError(f"Invalid {name} filter: '{value}'")
