"""/tasks: list and inspect (logs are in `logs.py`)."""

from aiohttp import web

from essaim.api import present, query
from essaim.api.attachments import Attachments
from essaim.api.context import api_of, json_reply, list_reply, version_of
from essaim.api.control import lookup, tasks
from essaim.api.routing import Route


async def list_tasks(request: web.Request) -> web.Response:
    store = api_of(request).store
    found, attachments = tasks.select(store, query.filters(request.query, tasks.FILTERS)), Attachments(store)
    return await list_reply(request, "task", found, lambda task: present.task(task, attachments.of(task)))


async def inspect_task(request: web.Request) -> web.Response:
    store = api_of(request).store
    task = lookup.task(store, request.match_info["id"])
    shown = present.task(task, Attachments(store).of(task))
    return json_reply(present.encode("task", shown, version_of(request)))


ROUTES: list[Route] = [("GET", "/tasks", list_tasks), ("GET", "/tasks/{id}", inspect_task)]
