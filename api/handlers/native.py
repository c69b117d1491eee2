"""/essaim/v1: what Docker's API has no words for. Its description is served as `openapi.json`."""

import asyncio

import msgspec
from aiohttp import web

from essaim.api import metrics, query
from essaim.api.context import api_of, json_reply
from essaim.api.control import services
from essaim.api.control.errors import missing
from essaim.api.native_schema import document
from essaim.api.routing import NATIVE, Route
from essaim.cluster.changes import Change
from essaim.cluster.shape import to_json
from essaim.cluster.store import Store


async def routes(request: web.Request) -> web.Response:
    """The table that this node's gateway serves by."""
    return json_reply(to_json(api_of(request).node.routes()) + b"\n")


async def lb_config(request: web.Request) -> web.Response:
    """The configuration of an external load balancer in front of the gateways. `?bind=`: the one address that it is to
    listen at."""
    api, target = api_of(request), request.match_info["target"]
    renderer = api.renderers.get(target)
    if renderer is None:
        known = ", ".join(sorted(api.renderers)) or "none"
        raise missing("load balancer", f"{target[:80]} (known: {known})")
    bind = query.address(request.query, "bind")
    # A table of thousands of services takes a while.
    text = await asyncio.to_thread(renderer, api.node.routes(), bind)
    return web.Response(text=text, content_type="text/plain")


async def lb_status(request: web.Request) -> web.Response:
    """Live listeners and end-points of this node's gateway, with verdict and reason."""
    return json_reply(to_json(await api_of(request).node.gateway_status()) + b"\n")


async def rebalance(request: web.Request) -> web.Response:
    """Spread a service's replicas over the nodes that there are now. It goes on after the answer."""
    api = api_of(request)
    _ = api.manager
    reference = request.match_info["id"]

    def decide(store: Store) -> tuple[list[Change], None]:
        return services.rebalance(store, reference), None

    await api.commit(decide)
    return web.Response(status=202)


async def health(request: web.Request) -> web.Response:
    """200 while this node can do its part, 503 while it cannot; the reason is told."""
    node = api_of(request).node
    manager = node.manager
    leader = manager is None or manager.leadership.leader_id != 0
    reason = node.error if node.swarm_state in ("error", "locked") else "" if leader else "no leader is known"
    shown = {
        "Status": "ok" if not reason else "failing",
        "Reason": reason,
        "State": node.swarm_state,
        "NodeID": node.node_id,
        "Manager": manager is not None,
        "Leader": manager is not None and manager.leadership.is_local,
    }
    return json_reply(to_json(shown) + b"\n", 503 if reason else 200)


async def numbers(request: web.Request) -> web.Response:
    """The cluster's numbers for Prometheus."""
    text = await metrics.whole(api_of(request).node)
    return web.Response(body=text, content_type="text/plain", charset="utf-8")


async def openapi(request: web.Request) -> web.Response:
    pretty = query.flag(request.query, "pretty")
    data = to_json(document())
    if pretty:
        data = msgspec.json.format(data, indent=2)
    return json_reply(data + b"\n")


ROUTES: list[Route] = [
    ("GET", NATIVE + "/routes", routes),
    ("GET", NATIVE + "/lb/config/{target}", lb_config),
    ("GET", NATIVE + "/lb/status", lb_status),
    ("POST", NATIVE + "/services/{id}/rebalance", rebalance),
    ("GET", NATIVE + "/health", health),
    ("GET", NATIVE + "/metrics", numbers),
    ("GET", NATIVE + "/openapi.json", openapi),
]
