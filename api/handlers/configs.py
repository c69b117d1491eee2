"""/configs: create, list, inspect, relabel, remove."""

from aiohttp import web

from essaim.api import present, query
from essaim.api.context import api_of, json_reply, list_reply, read_json, version_of
from essaim.api.control import configs, listing, lookup
from essaim.api.routing import Route
from essaim.cluster.objects import ConfigSpec
from essaim.cluster.shape import to_json


async def list_configs(request: web.Request) -> web.Response:
    store = api_of(request).store
    found = listing.secrets_or_configs(store.configs, query.filters(request.query, listing.OBJECT_FILTERS))
    return await list_reply(request, "config", found, present.config)


async def inspect_config(request: web.Request) -> web.Response:
    config = lookup.config(api_of(request).store, request.match_info["id"])
    return json_reply(present.encode("config", present.config(config), version_of(request)))


async def create_config(request: web.Request) -> web.Response:
    api = api_of(request)
    _ = api.manager
    spec = await read_json(request, ConfigSpec)
    created = await api.commit(lambda store: configs.create(store, spec, chance=api.chance))
    return json_reply(to_json(created) + b"\n", 201)


async def update_config(request: web.Request) -> web.Response:
    api = api_of(request)
    _ = api.manager
    reference, version = request.match_info["id"], query.version(request.query, "config")
    spec = await read_json(request, ConfigSpec)
    await api.commit(lambda store: (configs.update(store, reference, version, spec), None))
    return web.Response()


async def remove_config(request: web.Request) -> web.Response:
    reference = request.match_info["id"]
    await api_of(request).commit_alone(lambda store: (configs.remove(store, reference), None))
    return web.Response(status=204)


ROUTES: list[Route] = [
    ("GET", "/configs", list_configs),
    ("POST", "/configs/create", create_config),
    ("GET", "/configs/{id}", inspect_config),
    ("POST", "/configs/{id}/update", update_config),
    ("DELETE", "/configs/{id}", remove_config),
]
