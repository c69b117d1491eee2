"""Finding objects the way Swarm's commands do: by whole ID, then by name, then by a prefix of the ID.

Pure: the store in, an object out.
"""

from typing import Any, TypeVar

from essaim.cluster.errors import InvalidArgument
from essaim.cluster.node import Node
from essaim.cluster.objects import Config, Network, Secret
from essaim.cluster.service import Service
from essaim.cluster.shape import StoredObject
from essaim.cluster.store import Store, Table
from essaim.cluster.task import Task

from . import placeholder_tasks
from .errors import missing

T = TypeVar("T", bound=StoredObject)


def find(table: Table[T], noun: str, reference: str, named: list[T]) -> T:
    """`named` are the objects of that name. Raises NotFound, or InvalidArgument for an ambiguous prefix."""
    if (exact := table.get(reference)) is not None:
        return exact
    if not reference:
        raise missing(noun, reference)
    found = named or [value for value in table if value.id.startswith(reference)]
    if len(found) > 1:
        raise InvalidArgument(f"{noun} {reference} is ambiguous ({len(found)} matches found)")
    if not found:
        raise missing(noun, reference)
    return found[0]


def is_taken(table: Table[Any], name: str) -> bool:
    """Whether an object has this name already; as in Swarm, in whatever case: resolvers make no difference there."""
    return any((value.spec.name or "").lower() == name.lower() for value in table)


def service(store: Store, reference: str) -> Service:
    return find(store.services, "service", reference, store.services.by("name", reference))


def secret(store: Store, reference: str) -> Secret:
    return find(store.secrets, "secret", reference, store.secrets.by("name", reference))


def config(store: Store, reference: str) -> Config:
    return find(store.configs, "config", reference, store.configs.by("name", reference))


def network(store: Store, reference: str) -> Network:
    return find(store.networks, "network", reference, store.networks.by("name", reference))


def node(store: Store, reference: str) -> Node:
    named = [n for n in store.nodes if n.spec.name == reference] or store.nodes.by("hostname", reference)
    return find(store.nodes, "node", reference, named)


def task(store: Store, reference: str) -> Task:
    if (found := placeholder_tasks.by_id(reference, store)) is not None:
        return found
    return find(store.tasks, "task", reference, [])
