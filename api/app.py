"""The HTTP application: the Docker Engine API's swarm part, the native API, and the local Engine for the rest.

`create_app` wires routes and middleware around a `LocalNode` and starts nothing; `essaim.api.server` listens.
"""

from collections.abc import AsyncIterator, Callable, Mapping
from datetime import datetime
from typing import Any

from aiohttp import web

from essaim.api.events.engine_events import EngineEvents
from essaim.api.events.hub import EventHub
from essaim.cluster.ids import Chance

from . import bodies, middleware
from .context import API, Api, Renderer
from .engine import proxy
from .handlers import (
    certificates,
    configs,
    events,
    logs,
    native,
    networks,
    nodes,
    passthrough,
    secrets,
    services,
    swarm,
    system,
    tasks,
)
from .node import DialEngine, LocalNode
from .routing import VERSIONED, Route, refusal

ROUTES: list[Route] = [
    *system.ROUTES,
    *swarm.ROUTES,
    *nodes.ROUTES,
    *services.ROUTES,
    *tasks.ROUTES,
    *logs.ROUTES,
    *secrets.ROUTES,
    *configs.ROUTES,
    *networks.ROUTES,
    *events.ROUTES,
]


def create_app(
    node: LocalNode,
    *,
    chance: Chance,
    now: Callable[[], datetime],
    log: Any,
    renderers: Mapping[str, Renderer] | None = None,
    dial_engine: DialEngine | None = None,
) -> web.Application:
    """`renderers` make `GET /essaim/v1/lb/config/{name}`; `dial_engine` reaches other nodes' Engines, for `docker exec`
    and the like on their tasks. `now` is the wall clock in UTC, `log` a structlog logger."""
    app = web.Application(middlewares=[middleware.errors], client_max_size=bodies.MAX_BODY)
    hub = EventHub(now, log, lambda: node.manager.store if node.manager else None)
    app[API] = Api(
        node=node,
        chance=chance,
        now=now,
        log=log,
        hub=hub,
        engine_events=EngineEvents(lambda: proxy.local(node)(), hub.tell, log),
        renderers=dict(renderers or {}),
        dial_engine=dial_engine,
    )
    for method, path, handler in ROUTES:
        for prefix in ("", VERSIONED):
            app.router.add_route(method, prefix + path, handler)
    _add_native(app)
    for prefix in (VERSIONED, ""):
        app.router.add_route("*", prefix + "/{family}", passthrough.pass_through)
        app.router.add_route("*", prefix + "/{family}/{rest:.*}", passthrough.pass_through)
    app.on_response_prepare.append(middleware.headers)
    app.cleanup_ctx.append(_stopped)
    return app


def _add_native(app: web.Application) -> None:
    """A known path refuses other methods; Docker's own paths, as an Engine's, do not exist for them."""
    allowed: dict[str, set[str]] = {}
    for method, path, handler in [*native.ROUTES, *certificates.ROUTES]:
        methods = {"GET", "HEAD"} if method == "GET" else {method}
        allowed.setdefault(path, set()).update(methods)
        for name in sorted(methods):
            app.router.add_route(name, path, handler)
    for path, methods in allowed.items():
        app.router.add_route("*", path, refusal(methods))


async def _stopped(app: web.Application) -> AsyncIterator[None]:
    yield
    await app[API].stop()
