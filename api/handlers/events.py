"""/events: the cluster's, merged with the local Engine's: the past in the order of time, what is new as it comes."""

import asyncio
from collections.abc import Awaitable, Callable
from operator import itemgetter

from aiohttp import web

from essaim.api import query
from essaim.api.context import Api, api_of, in_chunks
from essaim.api.engine import proxy
from essaim.api.events import engine_events
from essaim.api.events.cluster_events import FILTERS
from essaim.api.events.hub import Follower
from essaim.api.routing import Route
from essaim.api.streams.exchange import EngineUnavailable
from essaim.cluster.errors import InvalidArgument

SEQUENCE = "application/json-seq"
KINDS = ("application/jsonl", "application/x-ndjson", SEQUENCE)
Write = Callable[[bytes], Awaitable[None]]


async def events(request: web.Request) -> web.StreamResponse:
    """Headers at once, then one JSON object a line until `until` (or the client) ends it."""
    api = api_of(request)
    filters = query.filters(request.query, FILTERS)
    since, until = query.timestamp(request.query, "since"), query.timestamp(request.query, "until")
    if 0 < until < since:
        raise InvalidArgument(f"`since` time ({since:.9g}) cannot be after `until` time ({until:.9g})")
    kind = _kind(request)
    response = web.StreamResponse(headers={"Content-Type": kind})
    chunked = in_chunks(request, response) and kind != SEQUENCE
    if request.transport is None:
        raise ConnectionResetError("the client has gone")
    follower = api.hub.subscribe(filters, since, until, request.transport, chunked=chunked)
    asked = bool(api.node.engine_url) and filters.get("scope") != ["swarm"]
    joined = asked and not 0 < until <= api.now().timestamp()
    flowing = api.engine_events.join(follower.key, _only(request, "filters")) if joined else None
    try:
        await response.prepare(request)
        await response.write(b"")
        write = _as_sequence(response) if kind == SEQUENCE else response.write
        if since:
            if flowing is not None:
                await asyncio.wait({flowing})
            await write(await _past(api, request, follower, ask=asked))
        while data := await api.hub.take(follower):
            await write(data)
    finally:
        api.hub.unsubscribe(follower)
        if joined:
            api.engine_events.leave(follower.key)
    await response.write_eof()
    return response


async def _past(api: Api, request: web.Request, follower: Follower, *, ask: bool) -> bytes:
    """What both sides have kept, in the order of time. The Engine is asked up to now; what comes after, it tells the
    hub, whose stream flows already: nothing falls between the two, and nothing comes twice."""
    now = api.now().timestamp()
    end = min(now, follower.until or now)
    told: list[tuple[float, bytes]] = []
    if ask:
        try:
            wanted = _only(request, "filters", "since") | {"until": f"{end:.9f}"}
            async for found in engine_events.lines(proxy.local(api.node), wanted):
                told += [(engine_events.time_of(line), line) for line in found]
        except engine_events.NoSuchFilter:
            pass
        except EngineUnavailable as error:
            api.log.warning("the Engine's events cannot be read", error=str(error))
    told += [(message.time, message.data) for message in api.hub.past(follower, end)]
    return b"".join(data for _, data in sorted(told, key=itemgetter(0)))


def _only(request: web.Request, *names: str) -> dict[str, str]:
    return {name: request.query[name] for name in names if name in request.query}


def _kind(request: web.Request) -> str:
    """The media type that the client asks for; the same lines in all but one."""
    asked = [part.partition(";")[0].strip() for part in ",".join(request.headers.getall("Accept", [])).split(",")]
    return next((kind for kind in asked if kind in KINDS), "application/json")


def _as_sequence(response: web.StreamResponse) -> Write:
    """RFC 7464: each object behind a record separator."""

    async def write(lines: bytes) -> None:
        await response.write(b"".join(b"\x1e%b\n" % line for line in lines.splitlines()))

    return write


ROUTES: list[Route] = [("GET", "/events", events)]
