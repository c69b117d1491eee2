"""Everything that the cluster has no part in: containers, images, volumes, exec, build and so on, at the Engine.

Requests about a task's container go to the Engine of the node that it runs on, everything else to this node's own.
"""

from typing import Any

import msgspec
from aiohttp import web

from essaim.api import remote
from essaim.api.context import Api, api_of, json_reply, read_body
from essaim.api.engine import proxy
from essaim.api.middleware import error_reply

FAMILIES = {
    "auth", "build", "commit", "containers", "exec", "grpc", "images", "networks", "plugins", "session", "system",
    "volumes",
}  # fmt: skip
"""First segments of the paths that belong to an Engine."""


async def pass_through(request: web.Request) -> web.StreamResponse:
    """The last route: what is not an Engine's either does not exist."""
    family, rest = request.match_info["family"], request.match_info.get("rest", "")
    if family not in FAMILIES:
        raise web.HTTPNotFound
    api = api_of(request)
    reference, _, action = rest.partition("/")
    node_id = _node_of(api, family, reference)
    if not node_id:
        return await proxy.forward(request)
    if family == "containers" and action == "exec" and request.method == "POST":
        return await _make_exec(request, api, node_id)
    return await proxy.forward(request, node_id=node_id)


def _node_of(api: Api, family: str, reference: str) -> str:
    """The other node that the request is for; empty for this one."""
    manager = api.node.manager
    if manager is None or api.dial_engine is None or not reference:
        return ""
    if family == "exec":
        return api.execs.node_of(reference)
    if family != "containers":
        return ""
    task = remote.task_of(manager.store, reference)
    elsewhere = task is not None and task.node_id and task.node_id != api.node.node_id
    return (task.node_id or "") if task is not None and elsewhere else ""


async def _make_exec(request: web.Request, api: Api, node_id: str) -> web.StreamResponse:
    """The answer is read here, because it holds the ID that later requests will name."""
    head, answer = await proxy.exchange(request, await read_body(request), node_id)
    if head.status >= 300:
        return error_reply(head.status, _message(answer))
    try:
        made: Any = msgspec.json.decode(answer)
        api.execs.remember(str(made["Id"]), node_id)
    except (msgspec.DecodeError, KeyError, TypeError):
        return error_reply(502, f"the Engine of node {node_id} gave no exec ID")
    return json_reply(answer, head.status)


def _message(answer: bytes) -> str:
    try:
        return str(msgspec.json.decode(answer)["message"])
    except (msgspec.DecodeError, KeyError, TypeError):
        return answer.decode(errors="replace")[:500]
