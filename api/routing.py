"""The shape of a route (method, path below the version, handler), and the answer to methods a path does not know."""

from collections.abc import Awaitable, Callable, Collection

from aiohttp import web

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Route = tuple[str, str, Handler]

VERSIONED = r"/v{version:[0-9.]+}"

NATIVE = "/essaim/v1"


def refusal(allowed: Collection[str]) -> Handler:
    """The last route of a path, for every other method."""

    async def refuse(request: web.Request) -> web.StreamResponse:
        raise web.HTTPMethodNotAllowed(request.method, allowed)

    return refuse
