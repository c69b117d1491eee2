"""/_ping, /version, /info, /distribution and /system/df: the node as a Docker client sees it."""

import platform
from importlib import metadata
from typing import Any

from aiohttp import web

from essaim.api import present, versions
from essaim.api.context import Api, api_of, json_reply
from essaim.api.engine import proxy
from essaim.api.routing import Route
from essaim.cluster.shape import to_json


async def ping(request: web.Request) -> web.Response:
    """HEAD and GET; the headers that matter are on every answer."""
    api = api_of(request)
    swarm = {"inactive": "inactive", "active": "active/manager" if api.node.manager else "active/worker"}
    headers = {
        "Cache-Control": "no-cache, no-store, must-revalidate",
        "Pragma": "no-cache",
        "Swarm": swarm.get(api.node.swarm_state, api.node.swarm_state),
    }
    return web.Response(text="OK", headers=headers)


def own_version() -> str:
    return metadata.version("essaim")


async def version(request: web.Request) -> web.Response:
    api = api_of(request)
    host = platform.uname()
    ours = own_version()
    details = {"ApiVersion": versions.text(versions.NEWEST), "MinAPIVersion": versions.text(versions.OLDEST)}
    components = [{"Name": "essaim", "Version": ours, "Details": details}]
    behind = await proxy.get_json(api.node, "/version", {})
    if isinstance(behind, dict):
        components += [c for c in behind.get("Components") or [] if isinstance(c, dict)]
    shown = {
        "Platform": {"Name": "essaim"},
        "Components": components,
        "Version": ours,
        "ApiVersion": versions.text(versions.NEWEST),
        "MinAPIVersion": versions.text(versions.OLDEST),
        "GitCommit": "",
        "GoVersion": "",
        "Os": "linux",
        "Arch": _architecture(host.machine),
        "KernelVersion": host.release,
    }
    return json_reply(to_json(shown) + b"\n")


def _architecture(machine: str) -> str:
    return {"x86_64": "amd64", "aarch64": "arm64"}.get(machine, machine)


async def info(request: web.Request) -> web.Response:
    """The Engine's own answer with the cluster's Swarm section; without an Engine, what is known of the host."""
    api = api_of(request)
    behind = await proxy.get_json(api.node, "/info", {})
    shown = behind if isinstance(behind, dict) else _host(api)
    shown["Swarm"] = swarm_section(api)
    return json_reply(to_json(shown) + b"\n")


def _host(api: Api) -> dict[str, Any]:
    described = api.node.description
    resources, about = described.resources, described.engine
    host = platform.uname()
    return {
        "ID": api.node.node_id,
        "Name": described.hostname or host.node,
        "Containers": 0,
        "ContainersRunning": 0,
        "ContainersPaused": 0,
        "ContainersStopped": 0,
        "Images": 0,
        "Driver": described.runtime or "process",
        "DriverStatus": [],
        "Plugins": {"Volume": [], "Network": [], "Authorization": None, "Log": []},
        "MemoryLimit": True,
        "OSType": "linux",
        "OperatingSystem": host.system,
        "KernelVersion": host.release,
        "Architecture": host.machine,
        "NCPU": (resources.nano_cpus or 0) // 10**9 if resources else 0,
        "MemTotal": (resources.memory_bytes or 0) if resources else 0,
        "IndexServerAddress": "https://index.docker.io/v1/",
        "RegistryConfig": {"InsecureRegistryCIDRs": [], "IndexConfigs": {}, "Mirrors": []},
        "ServerVersion": (about.engine_version if about else None) or own_version(),
        "Labels": [f"{key}={value}" for key, value in ((about.labels if about else None) or {}).items()],
        "SystemTime": api.now(),
        "LoggingDriver": "local",
        "SecurityOptions": [],
        "Warnings": None,
    }


def swarm_section(api: Api) -> dict[str, Any]:
    """`Info.Swarm`."""
    node, manager = api.node, api.node.manager
    shown: dict[str, Any] = {
        "NodeID": node.node_id,
        "NodeAddr": node.address,
        "LocalNodeState": node.swarm_state,
        "ControlAvailable": manager is not None,
        "Error": node.error,
        "RemoteManagers": None,
    }
    known = sorted(node.remote_managers.items())
    if known:
        shown["RemoteManagers"] = [{"NodeID": node_id, "Addr": address} for node_id, address in known]
    if manager is not None:
        nodes = list(manager.store.nodes)
        shown["Nodes"] = len(nodes)
        shown["Managers"] = sum(n.spec.role == "manager" for n in nodes)
        if manager.store.cluster is not None:
            shown["Cluster"] = present.cluster(manager.store.cluster, tokens=False)
    return shown


async def distribution(request: web.Request) -> web.StreamResponse:
    """An image's digest, as the registry has it: the Engine asks. Without one there is nothing to pin, and no error:
    clients then post the image as it was named."""
    if api_of(request).node.engine_url:
        return await proxy.forward(request)
    return json_reply(to_json({"Descriptor": {"mediaType": "", "digest": "", "size": 0}, "Platforms": []}) + b"\n")


async def disk_usage(request: web.Request) -> web.StreamResponse:
    if api_of(request).node.engine_url:
        return await proxy.forward(request)
    shown: dict[str, Any] = {"LayersSize": 0, "Images": [], "Containers": [], "Volumes": [], "BuildCache": []}
    return json_reply(to_json(shown) + b"\n")


ROUTES: list[Route] = [
    ("GET", "/_ping", ping),
    ("HEAD", "/_ping", ping),
    ("GET", "/version", version),
    ("GET", "/info", info),
    ("GET", "/distribution/{name:.+}/json", distribution),
    ("GET", "/system/df", disk_usage),
]
