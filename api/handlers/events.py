"""/events: the cluster's, merged with the local Engine's as they come."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

from aiohttp import web

from essaim.api import engine, query
from essaim.api.context import Api, api_of, in_chunks
from essaim.api.events import FILTERS
from essaim.api.routing import Route
from essaim.api.upstream import EngineUnavailable, Exchange

SEQUENCE = "application/json-seq"
KINDS = ("application/jsonl", "application/x-ndjson", SEQUENCE)
Write = Callable[[bytes], Awaitable[None]]


async def events(request: web.Request) -> web.StreamResponse:
    """Headers at once, then one JSON object a line until `until` (or the client) ends it."""
    api = api_of(request)
    filters = query.filters(request.query, FILTERS)
    since, until = query.timestamp(request.query, "since"), query.timestamp(request.query, "until")
    kind = _kind(request)
    response = web.StreamResponse(headers={"Content-Type": kind})
    chunked = in_chunks(request, response) and kind != SEQUENCE
    if request.transport is None:
        raise ConnectionResetError("the client has gone")
    follower = api.hub.subscribe(filters, since, until, request.transport, chunked=chunked)
    try:
        await response.prepare(request)
        await response.write(b"")
        write = _as_sequence(response) if kind == SEQUENCE else response.write
        local = asyncio.create_task(_pass_local(api, request, write, filters))
        try:
            while data := await api.hub.take(follower):
                await write(data)
        finally:
            local.cancel()
            (end,) = await asyncio.gather(local, return_exceptions=True)
            if isinstance(end, Exception):
                api.log.error("the Engine's events ended", error=repr(end))
    finally:
        api.hub.unsubscribe(follower)
    await response.write_eof()
    return response


def _kind(request: web.Request) -> str:
    """The media type that the client asks for; the same lines in all but one."""
    asked = [part.partition(";")[0].strip() for part in ",".join(request.headers.getall("Accept", [])).split(",")]
    return next((kind for kind in asked if kind in KINDS), "application/json")


def _as_sequence(response: web.StreamResponse) -> Write:
    """RFC 7464: each object behind a record separator."""

    async def write(lines: bytes) -> None:
        await response.write(b"".join(b"\x1e%b\n" % line for line in lines.splitlines()))

    return write


async def _pass_local(api: Api, request: web.Request, write: Write, filters: query.Filters) -> None:
    """The Engine's own events, whole lines only, so that the two streams do not mix within an object."""
    if not api.node.engine_url or filters.get("scope") == ["swarm"]:
        return
    try:
        async for line in _lines(api, request.rel_url.raw_query_string):
            await write(line)
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
