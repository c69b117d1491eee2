"""/services: create, list, inspect, update, roll back, remove (logs are in `logs.py`)."""

import contextlib

from aiohttp import web
from msgspec.structs import replace

from essaim.api import present, query
from essaim.api.context import api_of, json_reply, list_reply, read_json, version_of
from essaim.api.control import label_names, listing, lookup, services, tasks
from essaim.api.engine import digests
from essaim.api.routing import Route
from essaim.cluster.errors import InvalidArgument, NotFound
from essaim.cluster.service import Service, ServiceSpec
from essaim.cluster.shape import to_json

MAX_AUTH = 16 << 10
NO_AUTH = {"e30=", "e30"}


async def list_services(request: web.Request) -> web.Response:
    store = api_of(request).store
    found = listing.services(store, query.filters(request.query, listing.SERVICE_FILTERS))
    counted = query.flag(request.query, "status")
    defaults = query.flag(request.query, "insertDefaults")

    def show(service: Service) -> Service:
        status = tasks.status(store, service) if counted else None
        return present.service(service, status=status, defaults=defaults)

    return await list_reply(request, "service", found, show)


async def inspect_service(request: web.Request) -> web.Response:
    service = lookup.service(api_of(request).store, request.match_info["id"])
    shown = present.service(service, defaults=query.flag(request.query, "insertDefaults"))
    return json_reply(present.encode("service", shown, version_of(request)))


async def create_service(request: web.Request) -> web.Response:
    api = api_of(request)
    _ = api.manager
    spec = await read_json(request, ServiceSpec)
    auth = _registry_auth(request)
    spec, warnings = await _pinned(request, spec, auth)
    created = await api.commit_alone(
        lambda store: services.create(store, spec, now=api.now(), chance=api.chance, registry_auth=auth)
    )
    await api.node.settled(created.id)
    if made := api.store.services.get(created.id):
        warnings += label_names.clashes(api.store.services, made)
    return json_reply(to_json(replace(created, warnings=warnings or created.warnings)) + b"\n", 201)


async def update_service(request: web.Request) -> web.Response:
    api = api_of(request)
    _ = api.manager
    reference = request.match_info["id"]
    rollback = request.query.get("rollback", "")
    if rollback not in ("", "previous"):
        raise InvalidArgument(f"invalid rollback {rollback[:80]!r}: use previous")
    version = query.version(request.query, "service")
    spec = await read_json(request, ServiceSpec)
    auth, auth_from = _registry_auth(request), request.query.get("registryAuthFrom") or "spec"
    if auth_from not in ("spec", "previous-spec"):
        raise InvalidArgument(f"invalid registryAuthFrom {auth_from[:80]!r}: use spec or previous-spec")
    warnings: list[str] = []
    if not rollback:
        now = lookup.service(api.store, reference)
        kept = now.previous_registry_auth if auth_from == "previous-spec" else now.registry_auth
        spec, warnings = await _pinned(request, spec, auth or kept or "")
    updated = await api.commit_alone(
        lambda store: services.update(
            store,
            reference,
            version,
            spec,
            now=api.now(),
            rollback="previous" if rollback else "",
            registry_auth=auth,
            auth_from=auth_from,
        )
    )
    with contextlib.suppress(NotFound):  # it may be gone by now
        changed = lookup.service(api.store, reference)
        await api.node.settled(changed.id)
        warnings += label_names.clashes(api.store.services, changed)
    return json_reply(to_json(replace(updated, warnings=warnings or updated.warnings)) + b"\n")


async def _pinned(request: web.Request, spec: ServiceSpec, auth: str) -> tuple[ServiceSpec, list[str]]:
    """The specification with its image's digest, where the client's API leaves that to the manager; warnings."""
    if version_of(request) >= digests.CLIENTS_PIN_FROM:
        return spec, []
    return await digests.pinned(api_of(request).node, spec, auth)


def _registry_auth(request: web.Request) -> str:
    """The stock client sends `{}` (e30=) when it has no credentials."""
    value = request.headers.get("X-Registry-Auth", "")
    if len(value) > MAX_AUTH:
        raise InvalidArgument(f"X-Registry-Auth is longer than {MAX_AUTH} bytes")
    return "" if value in NO_AUTH else value


async def remove_service(request: web.Request) -> web.Response:
    reference = request.match_info["id"]
    await api_of(request).commit(lambda store: (services.remove(store, reference), None))
    return web.Response()


ROUTES: list[Route] = [
    ("GET", "/services", list_services),
    ("POST", "/services/create", create_service),
    ("GET", "/services/{id}", inspect_service),
    ("POST", "/services/{id}/update", update_service),
    ("DELETE", "/services/{id}", remove_service),
]
