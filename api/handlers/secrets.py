"""/secrets: create, list, inspect, relabel, remove. A secret's data goes in and never comes out."""

from aiohttp import web

from essaim.api import present, query
from essaim.api.context import api_of, json_reply, list_reply, read_json, version_of
from essaim.api.control import listing, lookup, secrets
from essaim.api.routing import Route
from essaim.cluster.objects import SecretSpec
from essaim.cluster.shape import to_json


async def list_secrets(request: web.Request) -> web.Response:
    store = api_of(request).store
    found = listing.secrets_or_configs(store.secrets, query.filters(request.query, listing.OBJECT_FILTERS))
    return await list_reply(request, "secret", found, present.secret)


async def inspect_secret(request: web.Request) -> web.Response:
    secret = lookup.secret(api_of(request).store, request.match_info["id"])
    return json_reply(present.encode("secret", present.secret(secret), version_of(request)))


async def create_secret(request: web.Request) -> web.Response:
    api = api_of(request)
    _ = api.manager
    spec = await read_json(request, SecretSpec)
    created = await api.commit(lambda store: secrets.create(store, spec, chance=api.chance))
    return json_reply(to_json(created) + b"\n", 201)


async def update_secret(request: web.Request) -> web.Response:
    api = api_of(request)
    _ = api.manager
    reference, version = request.match_info["id"], query.version(request.query, "secret")
    spec = await read_json(request, SecretSpec)
    await api.commit(lambda store: (secrets.update(store, reference, version, spec), None))
    return web.Response()


async def remove_secret(request: web.Request) -> web.Response:
    reference = request.match_info["id"]
    await api_of(request).commit_alone(lambda store: (secrets.remove(store, reference), None))
    return web.Response(status=204)


ROUTES: list[Route] = [
    ("GET", "/secrets", list_secrets),
    ("POST", "/secrets/create", create_secret),
    ("GET", "/secrets/{id}", inspect_secret),
    ("POST", "/secrets/{id}/update", update_secret),
    ("DELETE", "/secrets/{id}", remove_secret),
]
