"""Names in Traefik's labels that clash, and routers without a port, said to whoever deploys as in `lb status`.

A service is taken as it will be stored; what is said is about its own routers, and about other services' routers that
its names leave without a meaning.

Pure: the store and a service in, warnings out.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from functools import partial

from essaim.cluster.service import Service
from essaim.gateway.protocol.routes import RoutePort, RouteService
from essaim.gateway.protocol.tls_policy import TlsPolicy
from essaim.gateway.protocol.wall import presentable, walled
from essaim.gateway.routing.labels import Directory, Keys, ServiceLabels, read_labels, resolve
from essaim.gateway.routing.resolver import Resolver, references
from essaim.scheduler.tasks import task_ports

CLASH = "is defined differently by"
_WORD = re.compile(r"[^.,@\s]+")
NO_PORT = "a port that the gateway knows"


def clashes(services: Iterable[Service], service: Service) -> list[str]:
    """Warnings about a service, and about those of `services` that its names concern."""
    changed, own_labels = service.id, walled(partial(_labelled, service), _nothing)
    if own_labels is None:
        return []
    names = references(own_labels[1])
    known = {changed: own_labels}
    for other in services:
        # Most services share no name with it, which a look at their labels' keys tells in a tenth of the time.
        if other.id != changed and _may_use(other.spec.labels or {}, names):
            found = walled(partial(_labelled, other), _nothing)
            if found and not names.isdisjoint(references(found[1])):
                known[other.id] = found
    near = sorted(known.values(), key=lambda one: one[0].name)

    def work(service: RouteService, labels: ServiceLabels, everything: Directory, keys: Keys) -> list[str]:
        return resolve(service, labels, everything, keys, _entry_points(labels), TlsPolicy()).warnings

    said = Resolver(_keys, work, lambda reason: []).resolve(near)
    own = [one for one in said[changed] if CLASH in one or "no port " in one or NO_PORT in one]
    others = [
        f"service {known[key][0].name}: {one}"
        for key, warnings in said.items()
        for one in warnings
        if key != changed and CLASH in one
    ]
    return presentable([*own, *others])


def _may_use(labels: Mapping[str, str], names: frozenset[str]) -> bool:
    """Whether any of the names stands in a label of Traefik's, as a part of its key or in its value."""
    for label, value in labels.items():
        lower = label.lower()
        if lower.startswith("traefik.") and not names.isdisjoint(_WORD.findall(f"{lower} {value.lower()}")):
            return True
    return False


def _nothing(reason: str) -> None:
    """Labels that cannot be read are the gateway's to tell of."""


def _labelled(service: Service) -> tuple[RouteService, ServiceLabels] | None:
    spec = service.spec
    if not any(label.lower().startswith("traefik.") for label in spec.labels or {}):
        return None
    labels = read_labels(spec.labels or {})
    if labels is None:
        return None
    ports = [
        RoutePort(protocol=port.protocol or "tcp", target_port=port.target_port or 0, published_port=0)
        for port in task_ports(service)
    ]
    return RouteService(id=service.id, name=spec.name or "", labels=spec.labels or {}, ports=ports), labels


def _keys(service: RouteService) -> Keys:
    return {(service.id, port.target_port): f"{service.id}/{port.target_port}" for port in service.ports}


def _entry_points(labels: ServiceLabels) -> set[str]:
    """Those that the labels name: which of them the gateways have is each gateway's matter."""
    return {"web", *_named(labels.routers.values()), *_named(labels.tcp_routers.values())}


def _named(routers: Iterable[dict[str, str]]) -> Iterator[str]:
    for options in routers:
        yield from (one.strip().lower() for one in options.get("entrypoints", "").split(",") if one.strip())
