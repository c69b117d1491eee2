"""A configuration for an external Traefik (3.x): one file for its file provider, and the entry points it needs.

Traefik takes entry points from its static configuration only, so there are two texts: the static one, which names the
file of the dynamic one. A request that a gateway refuses goes to another one (the retry middleware); there is no active
check, as Traefik's is an HTTP request, and what it may ask is the service's own business.

Pure: the same table gives the same bytes.
"""

import json
from collections.abc import Sequence
from typing import Any

import yaml

from essaim.gateway.protocol.routes import RouteTable, ServedPoint

from .balanced import Balanced, Server, balanced_ports, one_line, servers

DYNAMIC = "/etc/traefik/essaim.yml"
HEAD = "# Traefik in front of the gateways of an essaim cluster: essaim lb render traefik\n"


def render_traefik_static(
    table: RouteTable, points: Sequence[ServedPoint] = (), *, bind: str = "", dynamic: str = DYNAMIC
) -> str:
    """traefik.yml: an entry point for each published port, and where the dynamic part is."""
    ports, _ = balanced_ports(table, points)
    host = f"[{bind}]" if ":" in bind else bind
    listening = {
        port.name: {"address": f"{host}:{port.port}" + ("/udp" if port.mode == "udp" else "")} for port in ports
    }
    static = {
        "global": {"checkNewVersion": False, "sendAnonymousUsage": False},
        "entryPoints": listening,
        "providers": {"file": {"filename": dynamic, "watch": True}},
    }
    return HEAD + _yaml(static)


def render_traefik(table: RouteTable, points: Sequence[ServedPoint] = ()) -> str:
    """The dynamic configuration: routers and services over the gateways."""
    ports, remarks = balanced_ports(table, points)
    gateways = servers(table)
    sections: dict[str, dict[str, Any]] = {}
    for port in ports:
        # Traefik sends PROXY headers at layer 4 only.
        mode = "tcp" if port.proxy else port.mode
        section = sections.setdefault(mode, {"routers": {}, "services": {}})
        section["routers"][port.name] = _router(port, mode)
        section["services"][port.name] = _service(port, mode, gateways)
    if "http" in sections:
        # Traefik itself drops what clients claim in X-Forwarded-* and X-Real-IP.
        claims = {"headers": {"customRequestHeaders": {"Forwarded": "", "X-Request-Id": ""}}}
        retry = {"retry": {"attempts": 3, "initialInterval": "100ms"}}
        sections["http"]["middlewares"] = {"essaim-claims": claims, "essaim-retry": retry}
    said = "".join(f"# {one_line(remark)}\n" for remark in remarks)
    return HEAD + said + _yaml({mode: sections[mode] for mode in ("http", "tcp", "udp") if mode in sections})


def _router(port: Balanced, mode: str) -> dict[str, Any]:
    router: dict[str, Any] = {"entryPoints": [port.name], "service": port.name}
    if mode == "http":
        router |= {"rule": "PathPrefix(`/`)", "middlewares": ["essaim-claims", "essaim-retry"]}
    elif mode == "tcp":
        router |= {"rule": "HostSNI(`*`)"}
    return router


def _service(port: Balanced, mode: str, gateways: list[Server]) -> dict[str, Any]:
    if mode == "http":
        return {"loadBalancer": {"servers": [{"url": f"http://{one.host}:{port.port}"} for one in gateways]}}
    balancer: dict[str, Any] = {"servers": [{"address": f"{one.host}:{port.port}"} for one in gateways]}
    if port.proxy:
        balancer["proxyProtocol"] = {"version": 2}
    return {"loadBalancer": balancer}


def _yaml(value: dict[str, Any]) -> str:
    # By way of JSON, so that equal parts are written out and not referred to.
    return str(yaml.safe_dump(json.loads(json.dumps(value)), sort_keys=False, allow_unicode=True, width=120))
