"""The shape of a route: method, path below the version, handler."""

from collections.abc import Awaitable, Callable

from aiohttp import web

Route = tuple[str, str, Callable[[web.Request], Awaitable[web.StreamResponse]]]

VERSIONED = r"/v{version:[0-9.]+}"

NATIVE = "/essaim/v1"
