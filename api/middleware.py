"""Around every request: the version check, errors as an Engine sends them, and the headers of every answer."""

import platform
from collections.abc import Awaitable, Callable

from aiohttp import web

from essaim.cluster.errors import ClusterError
from essaim.cluster.shape import to_json

from . import versions
from .context import api_of, json_reply, version_of

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

SERVER = f"essaim ({platform.system().lower()})"


def error_reply(status: int, message: str) -> web.Response:
    return json_reply(to_json({"message": message}) + b"\n", status)


@web.middleware
async def errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """No traceback reaches a client: what is not an error in known words is logged and answered with 500."""
    try:
        version_of(request)
        api_of(request).follow_store()
        response = await handler(request)
        api_of(request).follow_store()
        return response
    except ClusterError as error:
        return error_reply(error.status, str(error))
    except web.HTTPException as error:
        if error.status < 400:
            raise
        return error_reply(error.status, _http_message(error))
    except (ConnectionResetError, web.RequestPayloadError) as error:
        return error_reply(400, f"the request broke off: {error}")
    except Exception:
        api_of(request).log.exception("request failed", method=request.method, path=request.path)
        return error_reply(500, f"internal error on {request.method} {request.path}; the daemon's log has the details")


def _http_message(error: web.HTTPException) -> str:
    if error.status == 404:
        return "page not found"
    if error.status == 413:
        return "the request's body is too large"
    return error.reason


async def headers(_request: web.Request, response: web.StreamResponse) -> None:
    """What an Engine puts on every answer; clients negotiate the version by it."""
    response.headers["Api-Version"] = versions.text(versions.NEWEST)
    response.headers["Docker-Experimental"] = "false"
    response.headers["Ostype"] = "linux"
    response.headers["Server"] = SERVER
