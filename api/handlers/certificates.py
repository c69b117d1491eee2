"""/essaim/v1/resolvers and /essaim/v1/certificates."""

import asyncio

from aiohttp import web

from essaim.api.certificate_schema import CERTIFICATES, RESOLVERS, CreateResolver, UpdateResolver
from essaim.api.context import Api, api_of, json_reply, read_json
from essaim.api.control import certificates as rules
from essaim.api.control.services import Created
from essaim.api.routing import Route
from essaim.certificates.acme.challenge_keys import new_key
from essaim.certificates.asked.wanted import Wanted
from essaim.cluster.changes import Change
from essaim.cluster.shape import to_json
from essaim.cluster.store import Store


def _wanted(api: Api, store: Store) -> Wanted:
    return api.survey.take(store)


def _now(api: Api) -> float:
    return api.now().timestamp()


async def resolvers(request: web.Request) -> web.Response:
    store = api_of(request).store
    found = sorted(store.resolvers, key=lambda one: one.spec.name)
    return json_reply(to_json([rules.show_resolver(store, one) for one in found]) + b"\n")


async def create_resolver(request: web.Request) -> web.Response:
    api = api_of(request)
    _ = api.manager
    asked = await read_json(request, CreateResolver)
    account_key = await asyncio.to_thread(new_key)

    def decide(store: Store) -> tuple[list[Change], Created]:
        return rules.create_resolver(store, asked, chance=api.chance, account_key=account_key)

    return json_reply(to_json(await api.commit(decide)) + b"\n", 201)


async def resolver(request: web.Request) -> web.Response:
    store = api_of(request).store
    found = rules.find_resolver(store, request.match_info["id"])
    return json_reply(to_json(rules.show_resolver(store, found)) + b"\n")


async def update_resolver(request: web.Request) -> web.Response:
    api, reference = api_of(request), request.match_info["id"]
    _ = api.manager
    asked = await read_json(request, UpdateResolver)

    def decide(store: Store) -> tuple[list[Change], None]:
        return rules.update_resolver(store, reference, asked), None

    await api.commit(decide)
    return web.Response(status=202)


async def remove_resolver(request: web.Request) -> web.Response:
    api, reference = api_of(request), request.match_info["id"]

    def decide(store: Store) -> tuple[list[Change], None]:
        return rules.remove_resolver(store, _wanted(api, store), reference), None

    await api.commit_alone(decide)
    return web.Response(status=204)


async def certificates(request: web.Request) -> web.Response:
    api = api_of(request)
    store = api.store
    for _ in api.books.read_ahead(store):
        await asyncio.sleep(0)
    found = rules.list_certificates(store, api.books, _wanted(api, store), _now(api))
    return json_reply(to_json(found) + b"\n")


async def certificate(request: web.Request) -> web.Response:
    api, reference = api_of(request), request.match_info["id"]
    store = api.store
    found = rules.find_certificate(store, api.books, _wanted(api, store), reference, _now(api))
    return json_reply(to_json(found) + b"\n")


async def renew(request: web.Request) -> web.Response:
    api, reference = api_of(request), request.match_info["id"]
    _ = api.manager

    def decide(store: Store) -> tuple[list[Change], None]:
        return rules.renew(store, reference), None

    await api.commit(decide)
    return web.Response(status=202)


ROUTES: list[Route] = [
    ("GET", RESOLVERS, resolvers),
    ("POST", RESOLVERS + "/create", create_resolver),
    ("GET", RESOLVERS + "/{id}", resolver),
    ("POST", RESOLVERS + "/{id}/update", update_resolver),
    ("DELETE", RESOLVERS + "/{id}", remove_resolver),
    ("GET", CERTIFICATES, certificates),
    ("GET", CERTIFICATES + "/{id}", certificate),
    ("POST", CERTIFICATES + "/{id}/renew", renew),
]
