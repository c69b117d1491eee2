"""The node's own Docker Engine behind the cluster's API: requests are passed on and answers passed back, unbuffered.

The client's API version is lowered to the Engine's where that is older, so that a new client can use an old Engine.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from typing import Any
from urllib.parse import urlencode

from aiohttp import web

from essaim.api import versions
from essaim.api.context import Api, api_of, in_chunks, version_of
from essaim.api.node import LocalNode
from essaim.api.streams import hijack
from essaim.api.streams.exchange import CHUNK, EngineUnavailable, Exchange, Head, Streams, connect
from essaim.cluster.errors import NotYet
from essaim.cluster.numerals import whole
from essaim.gateway.codec.hop_by_hop import NOT_PASSED_ON, nominated

Dial = Callable[[], Awaitable[Streams]]

WRITTEN_ANEW = {name.decode() for name in NOT_PASSED_ON} | {"expect", "host"}
VERSION_SECONDS = 30.0
"""How long an Engine's version is believed: it may be upgraded while this daemon runs."""
MERGE_SECONDS = 5.0
"""How long an Engine may take for its part of an answer that is mostly ours."""
OURS = {"api-version", "docker-experimental", "ostype", "server"}

NO_ENGINE = (
    "{method} {path} needs a Docker Engine, and this node has none: it runs processes, or is only a gateway. "
    "Start essaimd with --runtime docker on a host where a Docker Engine answers."
)


def local(node: LocalNode, request: web.Request | None = None) -> Dial:
    """Opens connections to this node's Engine. Raises NotYet where there is none."""
    url = node.engine_url
    if url is None:
        what = {"method": request.method, "path": request.path} if request else {"method": "This", "path": "command"}
        raise NotYet(NO_ENGINE.format(**what))
    return lambda: connect(url)


async def engine_version(api: Api, dial: Dial, node_id: str) -> versions.Version:
    """The newest API version that the Engine of a node ("" for this one) speaks, asked from time to time."""
    now = asyncio.get_running_loop().time()
    known = api.engine_versions.get(node_id)
    if known is not None and now < known[1]:
        return known[0]
    head, _ = await call(dial, "GET", "/_ping")
    major, minor = (whole(part, 4) for part in head.get("api-version").partition(".")[::2])
    version = versions.OLDEST if major is None or minor is None else (major, minor)
    api.engine_versions[node_id] = (version, now + VERSION_SECONDS)
    return version


async def call(dial: Dial, method: str, target: str, headers: Iterable[tuple[str, str]] = ()) -> tuple[Head, bytes]:
    """A small request without a body; the whole answer."""
    exchange = Exchange(await dial())
    usual = [("Host", "docker"), ("Connection", "close"), ("Content-Length", "0")]
    try:
        await exchange.send_head(method, target, [*usual, *headers])
        head = await exchange.head()
        return head, b"".join([piece async for piece in exchange.body()])
    finally:
        exchange.close()


async def exchange(request: web.Request, body: bytes, node_id: str) -> tuple[Head, bytes]:
    """Pass a small request on; the whole answer, for those who must read it. Raises EngineUnavailable."""
    dial = _dial(request, node_id)
    target = await _target(request, dial, node_id)
    upstream = Exchange(await dial())
    try:
        await upstream.send_head(request.method, target, _request_headers(request, body, upgrade="", chunked=False))
        await upstream.send_body(_chunks(request, body), chunked=False)
        head = await upstream.head()
        return head, b"".join([piece async for piece in upstream.body()])
    finally:
        upstream.close()


async def get_json(node: LocalNode, path: str, query: Mapping[str, str]) -> Any:
    """The Engine's own answer, or None when it gives none in time: what is merged must not fail with it."""
    try:
        async with asyncio.timeout(MERGE_SECONDS):
            return await _json(node, "GET", path, query)
    except TimeoutError:
        return None


async def post_json(node: LocalNode, path: str, query: Mapping[str, str]) -> Any:
    return await _json(node, "POST", path, query)


async def _json(node: LocalNode, method: str, path: str, query: Mapping[str, str]) -> Any:
    if node.engine_url is None:
        return None
    try:
        head, body = await call(local(node), method, f"{path}?{urlencode(query)}" if query else path)
        return json.loads(body) if head.status < 300 else None
    except (EngineUnavailable, ValueError):
        return None


async def forward(request: web.Request, body: bytes | None = None, node_id: str = "") -> web.StreamResponse:
    """Pass a request on and its answer back. `body` is given when it was read already; `node_id` names another node.

    Raises NotYet without an Engine and EngineUnavailable when it does not answer.
    """
    dial = _dial(request, node_id)
    target = await _target(request, dial, node_id)
    exchange = Exchange(await dial())
    upgrade = hijack.wanted_protocol(request)
    sending: asyncio.Task[None] | None = None
    try:
        chunked = body is None and "chunked" in request.headers.get("Transfer-Encoding", "").lower()
        await exchange.send_head(
            request.method, target, _request_headers(request, body, upgrade=upgrade, chunked=chunked)
        )
        sending = asyncio.create_task(exchange.send_body(_chunks(request, body), chunked=chunked), name="engine upload")
        head = await _first(exchange, sending)
        if head.status == 101:
            return await hijack.relay(request, head, exchange)
        return await _answer(request, head, exchange)
    finally:
        exchange.close()  # before anything is awaited: the client's going may cancel this at every await
        if sending is not None:
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)


async def _first(exchange: Exchange, sending: asyncio.Task[None]) -> Head:
    """The answer's head, which may come before the request is through; a client that breaks off ends the exchange."""
    waiting = asyncio.create_task(exchange.head(), name="engine answer")
    try:
        await asyncio.wait({waiting, sending}, return_when=asyncio.FIRST_COMPLETED)
        broken = sending.exception() if sending.done() and not waiting.done() else None
        if broken is not None and not isinstance(broken, ConnectionError):
            raise broken
        return await waiting
    finally:
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)


def _dial(request: web.Request, node_id: str) -> Dial:
    api = api_of(request)
    return api.dial_to(node_id) if node_id else local(api.node, request)


async def _target(request: web.Request, dial: Dial, node_id: str) -> str:
    """Path and query with the API version that both sides speak."""
    wanted = request.match_info.get("version")
    raw = request.rel_url.raw_path
    if wanted:
        raw = raw.removeprefix(f"/v{wanted}")
        version = min(version_of(request), await engine_version(api_of(request), dial, node_id))
        prefix = f"/v{versions.text(version)}"
    else:
        prefix = ""
    query = f"?{request.rel_url.raw_query_string}" if request.rel_url.raw_query_string else ""
    return prefix + raw + query


def _request_headers(request: web.Request, body: bytes | None, *, upgrade: str, chunked: bool) -> list[tuple[str, str]]:
    left_out = WRITTEN_ANEW | named(request.headers.getall("Connection", []))
    kept = [(name, value) for name, value in request.headers.items() if name.lower() not in left_out]
    kept.append(("Host", "docker"))
    if upgrade:
        kept += [("Connection", "Upgrade"), ("Upgrade", upgrade)]
    else:
        kept.append(("Connection", "close"))
    length = len(body) if body is not None else request.content_length
    if chunked:
        kept.append(("Transfer-Encoding", "chunked"))
    elif length is not None:
        kept.append(("Content-Length", str(length)))
    return kept


def named(connection: Iterable[str]) -> set[str]:
    """Fields that are for this hop only, because `Connection` names them."""
    return {name.decode("latin-1") for name in nominated(value.encode("latin-1", "replace") for value in connection)}


async def _chunks(request: web.Request, body: bytes | None) -> AsyncIterator[bytes]:
    if body is not None:
        yield body
        return
    while chunk := await request.content.read(CHUNK):
        yield chunk


async def _answer(request: web.Request, head: Head, exchange: Exchange) -> web.StreamResponse:
    response = web.StreamResponse(status=head.status, reason=head.reason or None)
    left_out = WRITTEN_ANEW | OURS | named(value for name, value in head.headers if name == "connection")
    for name, value in head.headers:
        if name not in left_out:
            response.headers.add(name, value)
    length = whole(head.get("content-length"))
    if length is not None:
        response.content_length = length
    elif head.status not in (204, 304) and request.method != "HEAD":
        in_chunks(request, response)
    await response.prepare(request)
    if request.method != "HEAD":
        async for piece in exchange.body():
            await response.write(piece)
    await response.write_eof()
    return response
