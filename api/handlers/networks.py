"""/networks: those of swarm scope from the store, merged with the local Engine's where Docker merges them."""

from typing import Any

from aiohttp import web

from essaim.api import bodies, query, versions
from essaim.api.context import Api, api_of, json_reply, read_body, version_of
from essaim.api.control import lookup, networks
from essaim.api.control.errors import missing
from essaim.api.control.swarm import NOT_IN_SWARM
from essaim.api.engine import proxy
from essaim.api.routing import Route
from essaim.cluster.errors import ClusterError, Forbidden, InvalidArgument, NotFound
from essaim.cluster.objects import Network
from essaim.cluster.overlay import BRIDGE_LABEL
from essaim.cluster.shape import to_json

FILTERS = {"dangling", "driver", "id", "label", "name", "scope", "type"}


async def list_networks(request: web.Request) -> web.Response:
    api = api_of(request)
    filters = query.filters(request.query, FILTERS)
    _check_values(filters)
    shown = [networks.shown(n) for n in _select(api, filters)]
    if api.node.engine_url and "swarm" not in filters.get("scope", []):
        shown += _own(await proxy.get_json(api.node, "/networks", request.query) or [])
    return _reply(request, shown)


def _own(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The Engine's networks without the bridges that are this node's part of an overlay network."""
    return [network for network in found if BRIDGE_LABEL not in (network.get("Labels") or {})]


def _select(api: Api, filters: query.Filters) -> list[Network]:
    manager = api.node.manager
    if manager is None:
        return []
    wants = {name: filters.get(name, []) for name in FILTERS}
    found = [
        n
        for n in manager.store.networks
        if query.any_prefix([n.id], wants["id"])
        and (not wants["name"] or any(w in (n.spec.name or "") for w in wants["name"]))
        and (not wants["driver"] or (n.spec.driver or "overlay") in wants["driver"])
        and (not wants["scope"] or "swarm" in wants["scope"])
        and (not wants["type"] or "custom" in wants["type"])
        and query.labels_match(n.spec.labels, wants["label"])
    ]
    if wants["dangling"]:
        idle = {n.id for n in networks.unused(manager.store)}
        found = [n for n in found if (n.id in idle) == ("true" in wants["dangling"] or "1" in wants["dangling"])]
    return found


def _check_values(filters: query.Filters) -> None:
    """Raises InvalidArgument."""
    for value in filters.get("type", []):
        if value not in ("custom", "builtin"):
            raise InvalidArgument(f"invalid filter: 'type'='{value}'")
    if not {"true", "1", "false", "0"}.issuperset(filters.get("dangling", [])):
        raise InvalidArgument('invalid value for filter \'dangling\', must be "true" (or "1"), or "false" (or "0")')


async def inspect_network(request: web.Request) -> web.StreamResponse:
    api, reference = api_of(request), request.match_info["id"]
    network = _find(api, reference)
    if network is not None and request.query.get("scope", "swarm") == "swarm":
        return _reply(request, networks.shown(network))
    if api.node.engine_url and request.query.get("scope") != "swarm":
        return await proxy.forward(request)
    if reference in networks.PREDEFINED:
        return _reply(request, {"Name": reference, "Id": reference, "Scope": "swarm", "Driver": reference})
    raise missing("network", reference)


def _find(api: Api, reference: str) -> Network | None:
    if api.node.manager is None:
        return None
    try:
        return lookup.network(api.node.manager.store, reference)
    except NotFound:
        return None


async def create_network(request: web.Request) -> web.StreamResponse:
    api = api_of(request)
    body = await read_body(request)
    wanted = bodies.decode(body, networks.NetworkRequest)
    if not networks.is_swarm_scoped(wanted):
        return await proxy.forward(request, body)
    if api.node.manager is None:
        if api.node.swarm_state == "inactive":
            raise ClusterError(NOT_IN_SWARM)
        raise Forbidden(
            "Cannot create a multi-host network from a worker node. Please create the network from a manager node."
        )
    created = await api.commit_alone(lambda store: networks.create(store, wanted, chance=api.chance))
    return json_reply(to_json(created) + b"\n", 201)


async def remove_network(request: web.Request) -> web.StreamResponse:
    api, reference = api_of(request), request.match_info["id"]
    if _find(api, reference) is not None:
        await api.commit_alone(lambda store: (networks.remove(store, reference), None))
        return web.Response(status=204)
    if api.node.engine_url:
        return await proxy.forward(request)
    if reference in networks.PREDEFINED:
        raise Forbidden(f"{reference} is a pre-defined network and cannot be removed")
    raise missing("network", reference)


async def prune_networks(request: web.Request) -> web.StreamResponse:
    """Only what no service uses; the Engine prunes its own."""
    api = api_of(request)
    deleted: list[str] = []
    if api.node.manager is not None:
        labels = query.filters(request.query, {"label", "label!", "until"}).get("label", [])
        idle = [n for n in networks.unused(api.store) if query.labels_match(n.spec.labels, labels)]
        await api.commit_alone(lambda store: ([c for n in idle for c in networks.remove(store, n.id)], None))
        deleted += [network.spec.name or network.id for network in idle]
    if api.node.engine_url:
        local = await proxy.post_json(api.node, "/networks/prune", request.query)
        deleted += (local or {}).get("NetworksDeleted") or []
    return json_reply(to_json({"NetworksDeleted": deleted or None}) + b"\n")


def _reply(request: web.Request, shown: Any) -> web.Response:
    version = version_of(request)
    for network in shown if isinstance(shown, list) else [shown]:
        versions.trim("network", network, version)
    return json_reply(to_json(shown) + b"\n")


ROUTES: list[Route] = [
    ("GET", "/networks", list_networks),
    ("POST", "/networks/create", create_network),
    ("POST", "/networks/prune", prune_networks),
    ("GET", "/networks/{id}", inspect_network),
    ("DELETE", "/networks/{id}", remove_network),
]
