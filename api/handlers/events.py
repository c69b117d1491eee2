"""/events: the cluster's, merged with the local Engine's as they come."""

import asyncio
from collections.abc import AsyncIterator

from aiohttp import web

from essaim.api import engine, query
from essaim.api.context import Api, api_of, in_chunks
from essaim.api.events import FILTERS
from essaim.api.routing import Route
from essaim.api.upstream import EngineUnavailable, Exchange


async def events(request: web.Request) -> web.StreamResponse:
    """Headers at once, then one JSON object a line until `until` (or the client) ends it."""
    api = api_of(request)
    filters = query.filters(request.query, FILTERS)
    since, until = query.timestamp(request.query, "since"), query.timestamp(request.query, "until")
    response = web.StreamResponse(headers={"Content-Type": "application/json"})
    chunked = in_chunks(request, response)
    if request.transport is None:
        raise ConnectionResetError("the client has gone")
    follower = api.hub.subscribe(filters, since, until, request.transport, chunked=chunked)
    try:
        await response.prepare(request)
        await response.write(b"")
        local = asyncio.create_task(_pass_local(api, request, response, filters))
        try:
            while data := await api.hub.take(follower):
                await response.write(data)
        finally:
            local.cancel()
            (end,) = await asyncio.gather(local, return_exceptions=True)
            if isinstance(end, Exception):
                api.log.error("the Engine's events ended", error=repr(end))
    finally:
        api.hub.unsubscribe(follower)
    await response.write_eof()
    return response


async def _pass_local(api: Api, request: web.Request, response: web.StreamResponse, filters: query.Filters) -> None:
    """The Engine's own events, whole lines only, so that the two streams do not mix within an object."""
    if not api.node.engine_url or filters.get("scope") == ["swarm"]:
        return
    try:
        async for line in _lines(api, request.rel_url.raw_query_string):
            await response.write(line)
    except ConnectionError:
        return  # The client has gone; its handler ends by itself.
    except EngineUnavailable as error:
        api.log.warning("the Engine's events ended", error=str(error))


async def _lines(api: Api, raw_query: str) -> AsyncIterator[bytes]:
    exchange = Exchange(await engine.local(api.node)())
    try:
        target = f"/events?{raw_query}" if raw_query else "/events"
        await exchange.send_head("GET", target, [("Host", "docker"), ("Connection", "close")])
        head = await exchange.head()
        left = b""
        async for piece in exchange.body():
            *whole, left = (left + piece).split(b"\n")
            if whole and head.status == 200:
                yield b"\n".join([*whole, b""])
    finally:
        exchange.close()


ROUTES: list[Route] = [("GET", "/events", events)]
