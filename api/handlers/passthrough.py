"""Everything that the cluster has no part in: containers, images, volumes, exec, build and so on, at the Engine."""

from aiohttp import web

from essaim.api import engine

FAMILIES = {
    "auth", "build", "commit", "containers", "exec", "grpc", "images", "networks", "plugins", "session", "system",
    "volumes",
}  # fmt: skip
"""First segments of the paths that belong to an Engine."""


async def pass_through(request: web.Request) -> web.StreamResponse:
    """The last route: what is not an Engine's either does not exist."""
    if request.match_info["family"] not in FAMILIES:
        raise web.HTTPNotFound
    return await engine.forward(request)
