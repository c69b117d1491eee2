"""/nodes: list, inspect, update (with promotion and demotion), remove."""

from aiohttp import web

from essaim.api import bodies, present, query
from essaim.api.context import api_of, json_reply, list_reply, read_body, version_of
from essaim.api.control import listing, lookup, nodes
from essaim.api.routing import Route
from essaim.cluster.changes import Change
from essaim.cluster.errors import InvalidArgument
from essaim.cluster.node import NodeSpec
from essaim.cluster.store import Store


async def list_nodes(request: web.Request) -> web.Response:
    manager = api_of(request).manager
    found = listing.nodes(manager.store, query.filters(request.query, listing.NODE_FILTERS))
    return await list_reply(request, "node", found, lambda n: present.node(n, manager))


async def inspect_node(request: web.Request) -> web.Response:
    manager = api_of(request).manager
    node = lookup.node(manager.store, request.match_info["id"])
    return json_reply(present.encode("node", present.node(node, manager), version_of(request)))


async def update_node(request: web.Request) -> web.Response:
    api = api_of(request)
    _ = api.manager
    version = query.version(request.query, "node")
    body = bodies.parse(await read_body(request))
    if not isinstance(body, dict):
        raise InvalidArgument("invalid request body: an object (NodeSpec) is expected")
    spec = bodies.convert(body, NodeSpec)
    sent = {key.lower() for key, value in body.items() if value is not None}

    def decide(store: Store) -> tuple[list[Change], nodes.NodeUpdate]:
        decided = nodes.update(store, request.match_info["id"], version, spec, sent)
        return decided.changes, decided

    decided = await api.commit(decide)
    if decided.role == "promote":
        await api.finish(api.node.promote(decided.node_id))
    elif decided.role == "demote":
        await api.finish(api.node.demote(decided.node_id))
    return web.Response()


async def remove_node(request: web.Request) -> web.Response:
    api = api_of(request)
    force = query.flag(request.query, "force")
    node_id = nodes.check_removal(api.store, request.match_info["id"], force=force)
    await api.finish(api.node.remove(node_id, force=force))
    return web.Response()


ROUTES: list[Route] = [
    ("GET", "/nodes", list_nodes),
    ("GET", "/nodes/{id}", inspect_node),
    ("POST", "/nodes/{id}/update", update_node),
    ("DELETE", "/nodes/{id}", remove_node),
]
