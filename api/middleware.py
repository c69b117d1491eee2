"""Around every request: is it a web page's, the version check, errors as an Engine sends them, and the headers of every
answer."""

import platform
import traceback
from collections.abc import Awaitable, Callable

from aiohttp import web

from essaim.api.listen.connections import CONNECTION
from essaim.api.streams.hijack import Hijacked
from essaim.cluster.errors import ClusterError, Forbidden, InvalidArgument
from essaim.cluster.shape import to_json

from . import browsers, versions
from .context import WARNING, api_of, json_reply, version_of

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

BEGUN = web.RequestKey("begun", bool)
"""Set on a request whose answer has begun."""
SERVER = f"essaim ({platform.system().lower()})"


STATE = {"services", "tasks", "nodes", "secrets", "configs", "networks", "swarm", "essaim"}
"""First segments of the paths that read the cluster's state."""
STALE = web.RequestKey("stale", bool)
STALE_TEXT = (
    "the swarm has no leader: most managers are down or cannot be reached. What is shown is the last known state, and "
    "nothing can be changed until more than half of the managers are back"
)


def error_reply(status: int, message: str) -> web.Response:
    return json_reply(to_json({"message": message}) + b"\n", status)


@web.middleware
async def errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """No traceback reaches a client: what is not an error in known words is logged and answered with 500.

    An answer that fails half-way is cut off: nothing behind it would be understood, and its end would make it look
    whole.
    """
    try:
        return await _answered(request, handler)
    except BrokenOff as broken:
        if broken.__cause__ is not None and not isinstance(broken.__cause__, ConnectionError):
            api_of(request).log.warning("an answer broke off", path=request.path, error=str(broken.__cause__))
        if request.transport is not None:
            request.transport.abort()
        return Hijacked(500)


class BrokenOff(Exception):
    """The answer had begun when it failed; the cause is what happened."""


async def _answered(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        _refuse_pages(request)
        version_of(request)
        api_of(request).hub.look()
        await _see_acknowledged_writes(request)
        response = await handler(request)
        api_of(request).hub.look()
        return response
    except ClusterError as error:
        _refuse_begun(request, error)
        return error_reply(error.status, str(error))
    except web.HTTPException as error:
        if error.status < 400:
            raise
        refused = error_reply(error.status, _http_message(error))
        if isinstance(error, web.HTTPMethodNotAllowed):
            refused.headers["Allow"] = error.headers["Allow"]
        return refused
    except (ConnectionResetError, web.RequestPayloadError) as error:
        _refuse_begun(request, error)
        return error_reply(400, f"the request broke off: {error}")
    except Exception as error:
        # Formatted here: some log renderers show the local variables too, and with them a secret's data.
        trace = "".join(traceback.format_exception(error))
        api_of(request).log.error("request failed", method=request.method, path=request.path, trace=trace)
        _refuse_begun(request, error)
        return error_reply(500, f"internal error on {request.method} {request.path}; the daemon's log has the details")


def _refuse_pages(request: web.Request) -> None:
    """Raises Forbidden, InvalidArgument."""
    connection, sent = request.get(CONNECTION), request.headers
    if connection is not None and connection.door.hosts is not None:
        reason = browsers.page_refusal(
            sent.getall("Host", []),
            sent.getall("Origin", []),
            sent.getall("Sec-Fetch-Site", []),
            names=connection.door.hosts,
            local=connection.local,
        )
        if reason:
            raise Forbidden(reason)
    if request.content_length or "Transfer-Encoding" in sent:
        reason = browsers.body_refusal(sent.getall("Content-Type", []), _segments(request))
        if reason:
            raise InvalidArgument(reason)


def _segments(request: web.Request) -> list[str]:
    """The path's, below the version."""
    segments = request.path.lstrip("/").split("/")
    return segments[1:] if "version" in request.match_info else segments


async def _see_acknowledged_writes(request: web.Request) -> None:
    """Reads are linearizable on every manager; without a leader they show the last known state, and say so."""
    node = api_of(request).node
    first = next(iter(_segments(request)), "")
    if request.method == "GET" and first in STATE and node.manager is not None:
        request[STALE] = not await node.fresh()


def _refuse_begun(request: web.Request, error: Exception) -> None:
    if BEGUN in request:
        raise BrokenOff from error


def _http_message(error: web.HTTPException) -> str:
    if error.status == 404:
        return "page not found"
    if error.status == 413:
        return "the request's body is too large"
    if isinstance(error, web.HTTPMethodNotAllowed):
        return f"{error.method} is not understood here, only {', '.join(sorted(error.allowed_methods))}"
    return error.reason


async def headers(request: web.Request, response: web.StreamResponse) -> None:
    """What an Engine puts on every answer; clients negotiate the version by it."""
    request[BEGUN] = True
    response.headers["Api-Version"] = versions.text(versions.NEWEST)
    response.headers["Docker-Experimental"] = "false"
    response.headers["Ostype"] = "linux"
    response.headers["Server"] = SERVER
    if request.get(STALE):
        response.headers[WARNING] = STALE_TEXT
