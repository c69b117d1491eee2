"""A configuration for an external Traefik (3.x): one file for its file provider, and the entry points it needs.

Traefik takes entry points from its static configuration only, so there are two texts: the static one, which names the
file of the dynamic one. A request that a gateway refuses goes to another one (the retry middleware); there is no active
check, as Traefik's is an HTTP request, and what it may ask is the service's own business.

Pure: the same table gives the same bytes.
"""

import json
from typing import Any

import yaml

from essaim.gateway.routes import RouteTable

from .balanced import Balanced, Server, balanced_ports, one_line, servers

HEAD = "# Traefik in front of the gateways of an essaim cluster: essaim lb render traefik\n"


def render_traefik_static(table: RouteTable, *, bind: str = "", dynamic: str = "/etc/traefik/essaim.yml") -> str:
    """traefik.yml: an entry point for each published port, and where the dynamic part is."""
    ports, _ = balanced_ports(table)
    host = f"[{bind}]" if ":" in bind else bind
    points = {port.name: {"address": f"{host}:{port.port}" + ("/udp" if port.mode == "udp" else "")} for port in ports}
    static = {
        "global": {"checkNewVersion": False, "sendAnonymousUsage": False},
        "entryPoints": points,
        "providers": {"file": {"filename": dynamic, "watch": True}},
    }
    return HEAD + _yaml(static)


def render_traefik(table: RouteTable) -> str:
    """The dynamic configuration: routers and services over the gateways."""
    ports, remarks = balanced_ports(table)
    gateways = servers(table)
    sections: dict[str, dict[str, Any]] = {}
    for port in ports:
        section = sections.setdefault(port.mode, {"routers": {}, "services": {}})
        section["routers"][port.name] = _router(port)
        section["services"][port.name] = _service(port, gateways)
    if "http" in sections:
        sections["http"]["middlewares"] = {"essaim-retry": {"retry": {"attempts": 3, "initialInterval": "100ms"}}}
    said = "".join(f"# left out: {one_line(remark)}\n" for remark in remarks)
    return HEAD + said + _yaml({mode: sections[mode] for mode in ("http", "tcp", "udp") if mode in sections})


def _router(port: Balanced) -> dict[str, Any]:
    router: dict[str, Any] = {"entryPoints": [port.name], "service": port.name}
    if port.mode == "http":
        router |= {"rule": "PathPrefix(`/`)", "middlewares": ["essaim-retry"]}
    elif port.mode == "tcp":
        router |= {"rule": "HostSNI(`*`)"}
    return router


def _service(port: Balanced, gateways: list[Server]) -> dict[str, Any]:
    if port.mode == "http":
        return {"loadBalancer": {"servers": [{"url": f"http://{one.host}:{port.port}"} for one in gateways]}}
    return {"loadBalancer": {"servers": [{"address": f"{one.host}:{port.port}"} for one in gateways]}}


def _yaml(value: dict[str, Any]) -> str:
    # By way of JSON, so that equal parts are written out and not referred to.
    return str(yaml.safe_dump(json.loads(json.dumps(value)), sort_keys=False, allow_unicode=True, width=120))
