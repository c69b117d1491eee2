"""/tasks: list and inspect (logs are in `logs.py`)."""

from aiohttp import web

from essaim.api import present, query
from essaim.api.context import api_of, json_reply, list_reply, version_of
from essaim.api.control import lookup, tasks
from essaim.api.routing import Route


async def list_tasks(request: web.Request) -> web.Response:
    found = tasks.select(api_of(request).store, query.filters(request.query, tasks.FILTERS))
    return await list_reply(request, "task", found, present.task)


async def inspect_task(request: web.Request) -> web.Response:
    task = lookup.task(api_of(request).store, request.match_info["id"])
    return json_reply(present.encode("task", present.task(task), version_of(request)))


ROUTES: list[Route] = [("GET", "/tasks", list_tasks), ("GET", "/tasks/{id}", inspect_task)]
