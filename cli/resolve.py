"""From names to IDs and back, by asking the daemon."""

import asyncio
from collections.abc import Iterable, Mapping
from typing import Any

from essaim.api.client import ApiError, Client, path_of
from essaim.cli.output.tasks import Names

from .app import App, CliError


async def node_reference(app: App, name: str) -> str:
    """`self` is the node that answers."""
    if name != "self":
        return name
    info = await (await app.client()).get("/info")
    found = (info.get("Swarm") or {}).get("NodeID") or ""
    if not found:
        # A worker or a machine outside a swarm gives the reason here.
        await (await app.client()).get("/nodes")
        raise CliError("this node is not part of a swarm")
    return str(found)


async def names_of(client: Client, tasks: Iterable[Mapping[str, Any]], *, resolve: bool = True) -> Names:
    """Names of the services and nodes of tasks. Those that are gone keep their IDs."""
    if not resolve:
        return Names({}, {})
    found = list(tasks)
    services = {task.get("ServiceID") or "" for task in found} - {""}
    nodes = {task.get("NodeID") or "" for task in found} - {""}
    service_names, node_names = await asyncio.gather(names_by_id(client, services), hostnames_by_id(client, nodes))
    return Names(service_names, node_names)


async def names_by_id(client: Client, ids: set[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for item in sorted(ids):
        try:
            service = await client.get(path_of("services", item), {"insertDefaults": "false"})
        except ApiError:
            continue
        found[item] = service["Spec"].get("Name") or item
    return found


async def hostnames_by_id(client: Client, ids: set[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for item in sorted(ids):
        try:
            node = await client.get(path_of("nodes", item))
        except ApiError:
            continue
        name = (node["Spec"].get("Name") or "") or (node.get("Description") or {}).get("Hostname")
        found[item] = name or item
    return found
