"""Traefik's labels on services, read into routers that a worker can serve.

Middlewares and services are named cluster-wide, as in Traefik: a router may use what another service's labels define
(a provider suffix such as `@swarm` or `@docker` is taken off). What the gateway does not know, or cannot do, becomes a
warning on the service that carries the label; a router that is incomplete for it is not served half.

Pure: labels in, plans and warnings out.
"""

import re
from dataclasses import dataclass, field

from essaim.gateway.routes import RoutePort, RouteService
from essaim.gateway.wire import MiddlewarePlan, RouterPlan

from .middlewares import make_middleware
from .rules import BadRule, parse_rule
from .vocabulary import OMITTED, OPTIONS, service_verdict, verdict

LABEL = re.compile(r"traefik\.(http|tcp|udp)\.(routers|services|middlewares)\.([^.]+)\.(.+)", re.IGNORECASE)
ROUTER_OPTIONS = frozenset({"rule", "entrypoints", "service", "priority", "middlewares"})
MAX_CHAIN = 32


@dataclass(slots=True)
class ServiceLabels:
    """One service's labels, taken apart: options by name of the router, service or middleware."""

    routers: dict[str, dict[str, str]] = field(default_factory=dict)
    services: dict[str, dict[str, str]] = field(default_factory=dict)
    middlewares: dict[str, tuple[str, dict[str, str]]] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Directory:
    """All services' middlewares, and the port that each of Traefik's services stands for, by name."""

    middlewares: dict[str, tuple[str, dict[str, str]]] = field(default_factory=dict)
    ports: dict[str, str] = field(default_factory=dict)


def read_labels(labels: dict[str, str]) -> ServiceLabels | None:
    """None when the service carries no Traefik label, or says `traefik.enable=false`."""
    ours = {key: value for key, value in labels.items() if key.lower().startswith("traefik.")}
    if not ours or ours.get("traefik.enable", "true").lower() == "false":
        return None
    found = ServiceLabels()
    for label in sorted(ours):
        parts = LABEL.fullmatch(label)
        if parts is None:
            if not re.match(r"traefik\.(enable$|docker\.|swarm\.)", label, re.IGNORECASE):
                found.warnings.append(f"label {label} is not known to the gateway")
        elif parts[1].lower() == "http":
            _take(found, label, parts[2].lower(), parts[3].lower(), parts[4], ours[label])
        elif not re.search(r"\.loadbalancer\.(server\.port|proxyprotocol\.version)$", label, re.IGNORECASE):
            found.warnings.append(f"label {label}: the gateway has Traefik's routers for HTTP only")
    return found


def _take(found: ServiceLabels, label: str, section: str, name: str, option: str, value: str) -> None:
    lower = option.lower()
    if section == "routers":
        found.routers.setdefault(name, {})
        if lower in ROUTER_OPTIONS:
            found.routers[name][lower] = value
        else:
            # `tls` among them: the gateway ends no TLS, so the router would be served in the clear.
            found.warnings.append(f"label {label} is not known to the gateway")
            if lower.split(".")[0] == "tls":
                found.routers[name]["tls"] = value
    elif section == "services":
        found.services.setdefault(name, {})[lower] = value
        why_not = service_verdict(lower, value)
        if why_not:
            found.warnings.append(f"label {label}: {why_not}")
    else:
        _take_middleware(found, label, name, option, value)


def _take_middleware(found: ServiceLabels, label: str, name: str, option: str, value: str) -> None:
    """`option`: the kind and its own option; of `headers` the part after the second dot is a field's name as spelt."""
    kind, _, rest = option.partition(".")
    group, dot, tail = rest.partition(".")
    known = found.middlewares.setdefault(name, (kind.lower(), {}))
    why_not = verdict(kind, rest)
    if why_not:
        found.warnings.append(f"label {label}: {why_not}")
    elif kind.lower() in OPTIONS:
        known[1][group.lower() + dot + tail if kind.lower() == "headers" else rest.lower()] = value


def directory(services: list[tuple[RouteService, ServiceLabels]], keys: dict[tuple[str, int], str]) -> Directory:
    """What all labels define together. `keys`: the key of a service's port, by service id and target port."""
    found = Directory()
    for service, labels in services:
        for name, middleware in labels.middlewares.items():
            found.middlewares.setdefault(name, middleware)
        for name, options in labels.services.items():
            port = options.get("loadbalancer.server.port", "")
            key = keys.get((service.id, int(port))) if port.isdigit() else _only_port(service, keys)
            if key is not None:
                found.ports.setdefault(name, key)
    return found


def _only_port(service: RouteService, keys: dict[tuple[str, int], str]) -> str | None:
    """The port of a service whose labels do not say which: its lowest TCP port, as Traefik takes it."""
    ports: list[RoutePort] = [port for port in service.ports if port.protocol == "tcp"]
    return keys.get((service.id, min(port.target_port for port in ports))) if ports else None


def resolve(
    service: RouteService,
    labels: ServiceLabels,
    everything: Directory,
    keys: dict[tuple[str, int], str],
    entry_points: dict[str, int],
) -> tuple[list[RouterPlan], list[str]]:
    """The routers of one service, and why others are not served."""
    plans: list[RouterPlan] = []
    warnings: list[str] = []
    for name, options in sorted(labels.routers.items()):
        try:
            plans.append(_router(name, options, service, labels, everything, keys, entry_points))
        except ValueError as error:
            warnings.append(f"router {name} is not served: {error}")
    return plans, warnings


def _router(
    name: str,
    options: dict[str, str],
    service: RouteService,
    labels: ServiceLabels,
    everything: Directory,
    keys: dict[tuple[str, int], str],
    entry_points: dict[str, int],
) -> RouterPlan:
    """Raises ValueError (BadRule among them) with what it lacks."""
    if options.get("tls", "false").lower() != "false":
        raise ValueError("it asks for TLS, which the gateway does not end")
    if "rule" not in options:
        raise ValueError("it has no rule")
    parse_rule(options["rule"])
    wanted = [one.strip().lower() for one in options.get("entrypoints", "web").split(",") if one.strip()]
    points = [one for one in wanted if one in entry_points]
    if not points:
        there = ", ".join(sorted(entry_points)) or "none"
        raise ValueError(f"of its entry points ({', '.join(wanted)}) the gateway has none; it has: {there}")
    priority = options.get("priority", "0")
    if not priority.lstrip("-").isdigit():
        raise ValueError(f"its priority {priority!r} is not a number")
    key = _port_key(options, service, labels, everything, keys)
    chain = [
        MiddlewarePlan(kind, choices)
        for one in options.get("middlewares", "").split(",")
        if one.strip()
        for kind, choices in _middlewares(one.strip(), everything, 0)
    ]
    # A rule's length is its priority unless it says otherwise, as in Traefik: the more exact one wins.
    return RouterPlan(name, points, options["rule"], int(priority) or len(options["rule"]), key, chain)


def _port_key(
    options: dict[str, str],
    service: RouteService,
    labels: ServiceLabels,
    everything: Directory,
    keys: dict[tuple[str, int], str],
) -> str:
    name = options.get("service", "").lower().partition("@")[0]
    if not name and len(labels.services) == 1:
        name = next(iter(labels.services))
    if not name and len(labels.services) > 1:
        raise ValueError("it does not say which of the services of the labels is meant")
    key = everything.ports.get(name) if name else _only_port(service, keys)
    if key is None:
        raise ValueError(f"the service {name or service.name!r} has no such port")
    return key


def _middlewares(name: str, everything: Directory, depth: int) -> list[tuple[str, dict[str, str]]]:
    """A middleware, checked; a chain as its parts."""
    name = name.lower().partition("@")[0]
    if name not in everything.middlewares:
        raise ValueError(f"there is no middleware {name!r}")
    kind, options = everything.middlewares[name]
    if kind in OMITTED:
        return []
    if kind != "chain":
        make_middleware(kind, options)
        return [(kind, options)]
    if depth > MAX_CHAIN:
        raise ValueError(f"the chain {name!r} contains itself")
    parts = [one.strip() for one in options.get("middlewares", "").split(",") if one.strip()]
    return [found for one in parts for found in _middlewares(one, everything, depth + 1)]


__all__ = ["BadRule", "Directory", "ServiceLabels", "directory", "read_labels", "resolve"]
