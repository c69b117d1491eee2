"""/swarm: inspect, init, join, leave, update, and the managers' lock."""

from typing import Any

from aiohttp import web
from msgspec.structs import replace

from essaim.api import bodies, present, query
from essaim.api.context import WARNING, Api, api_of, json_reply, read_body, read_json, version_of
from essaim.api.control import networks, swarm
from essaim.api.node import InitRequest, JoinRequest
from essaim.api.routing import Route
from essaim.cluster.errors import AlreadyExists, InvalidArgument, Unavailable
from essaim.cluster.shape import Shape, to_json
from essaim.cluster.swarm import EncryptionConfig, SwarmSpec, default_spec
from essaim.secrets import tokens


class InitBody(Shape):
    """The body of `POST /swarm/init`."""

    listen_addr: str | None = None
    advertise_addr: str | None = None
    data_path_addr: str | None = None
    data_path_port: int | None = None
    default_addr_pool: list[str] | None = None
    subnet_size: int | None = None
    force_new_cluster: bool | None = None
    auto_lock_managers: bool | None = None
    availability: str | None = None
    spec: SwarmSpec | None = None


class JoinBody(Shape):
    """The body of `POST /swarm/join`."""

    listen_addr: str | None = None
    advertise_addr: str | None = None
    data_path_addr: str | None = None
    remote_addrs: list[str] | None = None
    join_token: str | None = None
    availability: str | None = None


class UnlockBody(Shape):
    """The body of `POST /swarm/unlock`."""

    unlock_key: str | None = None


async def inspect_swarm(request: web.Request) -> web.Response:
    cluster = swarm.current(api_of(request).store)
    return json_reply(present.encode("swarm", present.cluster(cluster, tokens=True), version_of(request)))


async def init_swarm(request: web.Request) -> web.Response:
    api = api_of(request)
    body = await read_json(request, InitBody)
    if api.node.swarm_state != "inactive" and not body.force_new_cluster:
        raise Unavailable(swarm.IN_SWARM)
    spec = body.spec or SwarmSpec()
    if body.auto_lock_managers:
        spec = replace(spec, encryption_config=EncryptionConfig(auto_lock_managers=True))
    swarm.check_addresses(body.default_addr_pool or [], body.subnet_size or 0, body.data_path_port or 0)
    merged = swarm.merge(default_spec(), spec)
    swarm.check(merged)
    wanted = InitRequest(
        listen_addr=body.listen_addr or "",
        advertise_addr=body.advertise_addr or "",
        data_path_addr=body.data_path_addr or "",
        force_new_cluster=bool(body.force_new_cluster),
        availability=_availability(body.availability),
        default_addr_pool=body.default_addr_pool or [],
        subnet_size=body.subnet_size or 0,
        data_path_port=body.data_path_port or 0,
        spec=merged,
    )
    node_id = await api.finish(_init(api, wanted))
    return json_reply(to_json(node_id) + b"\n")


async def _init(api: Api, wanted: InitRequest) -> str:
    node_id = await api.node.init(wanted)
    api.hub.look()
    await api.commit(lambda store: (networks.ensure_ingress(store, chance=api.chance), None))
    return node_id


def _availability(wanted: str | None) -> str:
    value = (wanted or "active").lower()
    if value not in ("active", "pause", "drain"):
        raise InvalidArgument(f'invalid Availability: "{value[:80]}"')
    return value


async def join_swarm(request: web.Request) -> web.Response:
    api = api_of(request)
    body = await read_json(request, JoinBody)
    if api.node.swarm_state != "inactive":
        raise Unavailable(swarm.IN_SWARM)
    tokens.parse(body.join_token or "")
    if not body.remote_addrs:
        raise InvalidArgument("at least 1 RemoteAddr is required to join")
    wanted = JoinRequest(
        remote_addrs=body.remote_addrs,
        join_token=body.join_token or "",
        listen_addr=body.listen_addr or "",
        advertise_addr=body.advertise_addr or "",
        data_path_addr=body.data_path_addr or "",
        availability=_availability(body.availability),
    )
    await api.finish(api.node.join(wanted))
    return web.Response()


async def leave_swarm(request: web.Request) -> web.Response:
    api = api_of(request)
    if api.node.swarm_state == "inactive":
        raise Unavailable(swarm.NOT_PART)
    force = query.flag(request.query, "force")
    if not force and (objection := _objection(api)):
        raise Unavailable(objection)
    warning = await api.finish(api.node.leave(force=force))
    return web.Response(headers={WARNING: warning} if warning else None)


def _objection(api: Api) -> str | None:
    manager = api.node.manager
    if manager is None:
        return swarm.leave_objection(0, 0, knows_cluster=False) if api.node.swarm_state == "locked" else None
    managers = [n for n in manager.store.nodes if n.spec.role == "manager"]
    reachable = sum(manager.reachable.get(n.id, n.id == api.node.node_id) for n in managers)
    return swarm.leave_objection(len(managers), reachable, knows_cluster=bool(managers))


async def update_swarm(request: web.Request) -> web.Response:
    api = api_of(request)
    _ = api.manager
    version = query.version(request.query, "swarm")
    body: Any = bodies.parse(await read_body(request))
    if not isinstance(body, dict):
        raise InvalidArgument("invalid request body: an object (SwarmSpec) is expected")
    spec = bodies.convert(body, SwarmSpec)
    rotate = swarm.Rotate(
        worker=query.flag(request.query, "rotateWorkerToken"),
        manager=query.flag(request.query, "rotateManagerToken"),
        unlock_key=query.flag(request.query, "rotateManagerUnlockKey"),
    )
    await api.commit(lambda store: (swarm.update(store, version, spec, rotate, chance=api.chance, now=api.now()), None))
    return web.Response()


async def unlock_key(request: web.Request) -> web.Response:
    """Empty while the managers' state is not locked by a key."""
    cluster = swarm.current(api_of(request).store)
    return json_reply(to_json({"UnlockKey": swarm.unlock_key(cluster)}) + b"\n")


async def unlock(request: web.Request) -> web.Response:
    api = api_of(request)
    body = await read_json(request, UnlockBody)
    if api.node.swarm_state != "locked":
        if api.node.manager is None:
            raise Unavailable(api.not_a_manager())
        raise AlreadyExists("swarm is not locked")
    await api.finish(_unlock(api, body.unlock_key or ""))
    return web.Response()


async def _unlock(api: Api, unlock_key: str) -> None:
    await api.node.unlock(unlock_key)
    api.hub.look()


ROUTES: list[Route] = [
    ("GET", "/swarm", inspect_swarm),
    ("POST", "/swarm/init", init_swarm),
    ("POST", "/swarm/join", join_swarm),
    ("POST", "/swarm/leave", leave_swarm),
    ("POST", "/swarm/update", update_swarm),
    ("GET", "/swarm/unlockkey", unlock_key),
    ("POST", "/swarm/unlock", unlock),
]
