"""Traefik's labels on services, read into routers that a worker can serve: HTTP's and TCP's.

A router may use what another service's labels define (`names.py` says whose; a provider suffix such as `@swarm` or
`@docker` is taken off). What the gateway does not know, or cannot do, becomes a
warning on the service that carries the label; a router that is incomplete for it is not served half.

Pure: labels in, plans and warnings out.
"""

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from essaim.gateway.protocol.messages import MiddlewarePlan, RouterPlan, TcpRouterPlan
from essaim.gateway.protocol.numbers import flag, is_port, shown
from essaim.gateway.protocol.routes import RoutePort, RouteService
from essaim.gateway.protocol.tls_policy import TlsPolicy
from essaim.gateway.protocol.wall import fault_of
from essaim.gateway.routing.middlewares.auth_server import NAMESPACE
from essaim.gateway.routing.middlewares.chain import MOST_MIDDLEWARES, Chain, Made, names_in
from essaim.gateway.routing.middlewares.vocabulary import OPTIONS, service_verdict, verdict

from .names import Definition, Names, Scope, leads, meaning, twins_of, union_of
from .rules import BadRule, parse_rule
from .tcp import parse_tcp_rule, priority_of
from .tcp_middlewares import KINDS as TCP_KINDS
from .tcp_middlewares import make_guard

LABEL = re.compile(r"traefik\.(http|tcp|udp)\.(routers|services|middlewares)\.([^.]+)\.(.+)", re.IGNORECASE)
ROUTER_OPTIONS = frozenset({"rule", "entrypoints", "service", "priority", "middlewares"})
# Certificates are ordered elsewhere, by what `certresolver` and `domains` say.
TLS_OPTIONS = re.compile(r"tls(\.(certresolver|options|domains\[\d+\]\.(main|sans)))?", re.IGNORECASE)
TCP_OPTIONS = frozenset({"rule", "entrypoints", "service", "priority", "middlewares", "tls.passthrough"})
TCP_SERVICE_OPTIONS = re.compile(r"loadbalancer\.(server\.port|proxyprotocol\.version)", re.IGNORECASE)
PORT = "loadbalancer.server.port"
ADD_PORT = f"add the label traefik.http.services.NAME.{PORT}=PORT, or publish the port"
PRIORITY = re.compile(r"-?[0-9]{1,15}")
Keys = dict[tuple[str, int], str]


@dataclass(slots=True)
class ServiceLabels:
    """One service's labels, taken apart: options by name of the router, service or middleware."""

    routers: dict[str, dict[str, str]] = field(default_factory=dict)
    services: dict[str, dict[str, str]] = field(default_factory=dict)
    middlewares: dict[str, Made] = field(default_factory=dict)
    tcp_routers: dict[str, dict[str, str]] = field(default_factory=dict)
    tcp_services: dict[str, dict[str, str]] = field(default_factory=dict)
    tcp_middlewares: dict[str, Made] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)


class Outcome(NamedTuple):
    """A service's routers, HTTP's and TCP's, why others are not served, and the gateway's own fault, if any."""

    routers: list[RouterPlan]
    tcp_routers: list[TcpRouterPlan]
    warnings: list[str]
    fault: str = ""


@dataclass(slots=True)
class Directory:
    """What all labels define, by name: middlewares, the port that each of Traefik's services stands for, and the ports
    that routers lead to by themselves."""

    middlewares: Names[Made] = field(default_factory=dict)
    ports: Names[str] = field(default_factory=dict)
    tcp_ports: Names[str] = field(default_factory=dict)
    tcp_middlewares: Names[Made] = field(default_factory=dict)
    routers: Names[str] = field(default_factory=dict)
    tcp_routers: Names[str] = field(default_factory=dict)


def read_labels(labels: dict[str, str]) -> ServiceLabels | None:
    """None when the service carries no Traefik label, or says `traefik.enable=false`."""
    ours = {key: value for key, value in labels.items() if key.lower().startswith("traefik.")}
    if not ours:
        return None
    found = ServiceLabels()
    try:
        if not flag(ours.get("traefik.enable", "true")):
            return None
    except ValueError as error:
        found.warnings.append(
            f"no router of the labels is served: traefik.enable={shown(ours['traefik.enable'])} {error}"
        )
        return found
    for label in sorted(ours):
        parts = LABEL.fullmatch(label)
        if parts is None:
            if not re.match(r"traefik\.(enable$|docker\.|swarm\.)", label, re.IGNORECASE):
                found.warnings.append(f"label {label} is not known to the gateway")
        elif parts[1].lower() == "http":
            _take(found, label, parts[2].lower(), parts[3].lower(), parts[4], ours[label])
        elif parts[1].lower() == "tcp":
            _take_tcp(found, label, parts[2].lower(), parts[3].lower(), parts[4].lower(), ours[label])
        elif not TCP_SERVICE_OPTIONS.fullmatch(parts[4]):
            found.warnings.append(f"label {label}: the gateway has Traefik's routers for HTTP and TCP only")
    for kind, options in found.middlewares.values():
        if kind == "forwardauth":
            # Whoever uses the middleware, the names in its address are those of this stack.
            options["stack"] = labels.get(NAMESPACE, "")
    found.warnings += [said for group in (found.services, found.tcp_services) for said in _bad_ports(group)]
    return found


def _bad_ports(services: dict[str, dict[str, str]]) -> Iterator[str]:
    for name, options in services.items():
        if PORT in options and not is_port(options[PORT]):
            said = f"{shown(options[PORT])} is not a port (1 to 65535)"
            yield f"the service {shown(name)} of the labels is not served: its {PORT} {said}"


def _take_tcp(found: ServiceLabels, label: str, section: str, name: str, option: str, value: str) -> None:
    if section == "routers":
        found.tcp_routers.setdefault(name, {})[option] = value
        known = option in TCP_OPTIONS or TLS_OPTIONS.fullmatch(option) is not None
    elif section == "services":
        found.tcp_services.setdefault(name, {})[option] = value
        known = TCP_SERVICE_OPTIONS.fullmatch(option) is not None
    else:
        kind, _, rest = option.partition(".")
        found.tcp_middlewares.setdefault(name, (kind, {}))[1][rest] = value
        known = kind in TCP_KINDS and rest == TCP_KINDS[kind][1]
    if not known:
        found.warnings.append(f"label {label} is not known to the gateway")


def _take(found: ServiceLabels, label: str, section: str, name: str, option: str, value: str) -> None:
    lower = option.lower()
    if section == "routers":
        found.routers.setdefault(name, {})[lower] = value
        if lower not in ROUTER_OPTIONS and not TLS_OPTIONS.fullmatch(lower):
            found.warnings.append(f"label {label} is not known to the gateway")
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


def directory(service: RouteService, labels: ServiceLabels, keys: Keys) -> Directory:
    """What one service's labels define. `keys`: the key of a service's port, by service id and target port."""
    found, scope = Directory(), scope_of(service, labels)
    for names, made in ((found.middlewares, labels.middlewares), (found.tcp_middlewares, labels.tcp_middlewares)):
        names.update({name: [Definition(scope, one, one)] for name, one in made.items()})
    for ports, defined in ((found.ports, labels.services), (found.tcp_ports, labels.tcp_services)):
        for name, options in defined.items():
            key = _named_port(options.get(PORT), service, keys)
            if key is not None:
                ports[name] = [Definition(scope, key, options)]
    own = "".join(f"{key}={value}\n" for key, value in sorted(service.labels.items()) if key.startswith("essaim."))
    for routers, asked, defined, made in (
        (found.routers, labels.routers, labels.services, labels.middlewares),
        (found.tcp_routers, labels.tcp_routers, labels.tcp_services, labels.tcp_middlewares),
    ):
        for name, options in asked.items():
            served = _own_service(options, defined)
            key = _named_port(defined.get(served, {}).get(PORT), service, keys) if served is not None else None
            if key is not None:
                told = (options, defined.get(served or ""), _used_middlewares(options, made), own)
                routers[name] = [Definition(scope, key, told)]
    return found


def scope_of(service: RouteService, labels: ServiceLabels) -> Scope:
    return Scope(service.name, service.labels.get(NAMESPACE, ""), labels.middlewares)


def _own_service(options: dict[str, str], defined: dict[str, dict[str, str]]) -> str | None:
    """The service of a router's own labels that it leads to, "" for the one that they do not name; None: another's."""
    name = options.get("service", "").lower().partition("@")[0]
    if not name:
        return "" if not defined else next(iter(defined)) if len(defined) == 1 else None
    return name if name in defined else None


def _used_middlewares(options: dict[str, str], made: dict[str, Made]) -> dict[str, Made]:
    """Those of the service's own that a router uses, chains and their parts included."""
    found: dict[str, Made] = {}
    due = names_in(options)
    while due:
        name = due.pop()
        if name in made and name not in found:
            found[name] = made[name]
            due += names_in(made[name][1]) if made[name][0] == "chain" else []
    return found


def _named_port(text: str | None, service: RouteService, keys: Keys) -> str | None:
    if text is None:
        return _only_port(service, keys)
    return keys.get((service.id, int(text))) if is_port(text) else None


def _only_port(service: RouteService, keys: Keys) -> str | None:
    """The port of a service whose labels do not say which: its lowest TCP port, as Traefik takes it."""
    ports: list[RoutePort] = [port for port in service.ports if port.protocol == "tcp"]
    return keys.get((service.id, min(port.target_port for port in ports))) if ports else None


def resolve(
    service: RouteService,
    labels: ServiceLabels,
    everything: Directory,
    keys: Keys,
    entry_points: Collection[str],
    policy: TlsPolicy,
) -> Outcome:
    """The routers of one service, HTTP's and TCP's, and why others are not served. `policy`: how its TLS is ended."""
    plans: list[RouterPlan] = []
    tcp_plans: list[TcpRouterPlan] = []
    warnings: list[str] = []
    fault = ""
    scope = scope_of(service, labels)
    for name, options in sorted(labels.routers.items()):
        try:
            twins = twins_of(everything.routers.get(name, ()), scope)
            if leads(twins, scope):
                shared = union_of(twins) if len(twins) > 1 else None
                plans.append(_router(name, options, service, labels, everything, keys, entry_points, policy, shared))
        except ValueError as error:
            warnings.append(f"router {name} is not served: {error}")
        except Exception as error:
            fault = f"router {name} is not served: {fault_of(error)}"
    for name, options in sorted(labels.tcp_routers.items()):
        try:
            twins = twins_of(everything.tcp_routers.get(name, ()), scope)
            if leads(twins, scope):
                shared = union_of(twins) if len(twins) > 1 else None
                one = _tcp_router(name, options, service, labels, everything, keys, entry_points, policy, shared)
                tcp_plans.append(one)
        except ValueError as error:
            warnings.append(f"TCP router {name} is not served: {error}")
        except Exception as error:
            fault = f"TCP router {name} is not served: {fault_of(error)}"
    return Outcome(plans, tcp_plans, warnings, fault)


def _router(
    name: str,
    options: dict[str, str],
    service: RouteService,
    labels: ServiceLabels,
    everything: Directory,
    keys: Keys,
    entry_points: Collection[str],
    policy: TlsPolicy,
    twins: str | None,
) -> RouterPlan:
    """`twins`: the key of all the ports that it leads to when other services have the same router. Raises ValueError
    (BadRule among them) with what it lacks."""
    if "rule" not in options:
        raise ValueError("it has no rule")
    parse_rule(options["rule"])
    points, priority = _entry_points(options, entry_points), _priority(options)
    key = twins or _port_key(options, service, labels, labels.services, everything.ports, keys)
    made = Chain(scope_of(service, labels), everything.middlewares).resolve(options)
    chain = [MiddlewarePlan(kind, choices) for kind, choices in made]
    # A rule's length is its priority unless it says otherwise, as in Traefik: the more exact one wins.
    tls = policy if _asks_for_tls(options) else None
    return RouterPlan(name, points, options["rule"], priority or len(options["rule"]), key, chain, tls)


def _tcp_router(
    name: str,
    options: dict[str, str],
    service: RouteService,
    labels: ServiceLabels,
    everything: Directory,
    keys: Keys,
    entry_points: Collection[str],
    policy: TlsPolicy,
    twins: str | None,
) -> TcpRouterPlan:
    """`twins`: the key of all the ports that it leads to when other services have the same router. Raises ValueError
    (BadRule among them) with what it lacks."""
    if "rule" not in options:
        raise ValueError("it has no rule")
    passthrough = _flag(options, "tls.passthrough")
    secure = _asks_for_tls(options)
    parse_tcp_rule(options["rule"], tls=secure)
    points, priority = _entry_points(options, entry_points), priority_of(options["rule"], _priority(options))
    key = twins or _port_key(options, service, labels, labels.tcp_services, everything.tcp_ports, keys)
    names = names_in(options)
    if len(names) > MOST_MIDDLEWARES:
        raise ValueError(f"it has more than {MOST_MIDDLEWARES} middlewares")
    chain = [_tcp_middleware(name, scope_of(service, labels), everything) for name in names]
    tls = policy if secure and not passthrough else None
    return TcpRouterPlan(name, points, options["rule"], priority, key, secure, tls, chain)


def _tcp_middleware(name: str, scope: Scope, everything: Directory) -> MiddlewarePlan:
    """Raises ValueError."""
    known = everything.tcp_middlewares.get(name, ())
    found = meaning("TCP middleware", name, known, scope, lambda one: one.told)
    if not found:
        raise ValueError(f"there is no TCP middleware {shown(name)}")
    kind, options = found[0].meant
    make_guard(kind, options)
    return MiddlewarePlan(kind, options)


def _asks_for_tls(options: dict[str, str]) -> bool:
    """`tls=true`, or any option of it, as in Traefik. Raises ValueError for a set of options that is not there: it may
    say that clients need a certificate."""
    chosen = options.get("tls.options", "default").lower().partition("@")[0]
    if chosen != "default":
        said = "cannot be defined by labels; use essaim.tls.* labels"
        raise ValueError(f"its tls.options {options['tls.options']!r}: sets of TLS options {said}")
    if "tls" in options:
        return _flag(options, "tls")
    return any(option.startswith("tls.") for option in options)


def _flag(options: dict[str, str], name: str) -> bool:
    """Raises ValueError."""
    try:
        return flag(options.get(name, "false"))
    except ValueError as error:
        raise ValueError(f"its {name} {shown(options[name])} {error}") from None


def _entry_points(options: dict[str, str], entry_points: Collection[str]) -> list[str]:
    """Those that the router names, else all, as in Traefik. Raises ValueError."""
    wanted = [one.strip().lower() for one in options.get("entrypoints", "").split(",") if one.strip()]
    points = [one for one in wanted or sorted(entry_points) if one in entry_points]
    if not points:
        there = ", ".join(sorted(entry_points)) or "none"
        raise ValueError(f"of its entry points ({', '.join(wanted)}) the gateway has none; it has: {there}")
    return points


def _priority(options: dict[str, str]) -> int:
    """0 when it has none. Raises ValueError."""
    priority = options.get("priority", "0").strip(" ")
    if not PRIORITY.fullmatch(priority):
        raise ValueError(f"its priority {shown(priority)} is not a number")
    return int(priority)


def _port_key(
    options: dict[str, str],
    service: RouteService,
    labels: ServiceLabels,
    services: dict[str, dict[str, str]],
    ports: Names[str],
    keys: Keys,
) -> str:
    own = _own_service(options, services)
    name = options.get("service", "").lower().partition("@")[0] or own or ""
    if not name and services:
        raise ValueError("it does not say which of the services of the labels is meant")
    if not name:
        key = _only_port(service, keys)
    elif own is not None:
        # Its own first, as of middlewares.
        key = _named_port(services[name].get(PORT), service, keys)
    else:
        found = meaning("service", name, ports.get(name, ()), scope_of(service, labels), lambda one: one.told)
        key = union_of(found)
    if key is None:
        raise ValueError(_no_port(name or service.name, not name or name in services, services.get(name, {}).get(PORT)))
    return key


def _no_port(name: str, is_own: bool, given: str | None) -> str:
    if given is not None:
        return f"the service {shown(name)} has no port {given}"
    if not is_own:
        return f"there is no service {shown(name)} with a port that the gateway knows: {ADD_PORT}"
    return f"the service {shown(name)} has no port that the gateway knows: {ADD_PORT}"


__all__ = ["BadRule", "Directory", "Outcome", "ServiceLabels", "directory", "read_labels", "resolve"]
