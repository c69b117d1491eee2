"""Published ports: who has which, and which are chosen for services that leave the choice open.

An ingress port is taken on every node, so no other service may publish it in any mode; host-mode ports of different
services may agree, since placement keeps their tasks apart. Ports bound to different addresses do not collide.

Pure: the store in, ports or an error out.
"""

from collections.abc import Iterable

from msgspec.structs import replace

from essaim.cluster.errors import FailedPrecondition
from essaim.cluster.service import Endpoint, PortConfig, Service, ServiceSpec
from essaim.cluster.store import Store

from .errors import invalid

DYNAMIC = range(30000, 32768)
"""Swarm's range for ports that nobody asked for by number."""


def _is_ingress(port: PortConfig) -> bool:
    return port.publish_mode != "host"


def _published(service: Service) -> Iterable[PortConfig]:
    """What a service asks for and what it was given."""
    spec = service.spec.endpoint_spec
    yield from (spec.ports if spec else None) or []
    yield from (service.endpoint.ports if service.endpoint else None) or []


def _collide(one: PortConfig, other: PortConfig) -> bool:
    same = one.published_port == other.published_port and (one.protocol or "tcp") == (other.protocol or "tcp")
    together = not one.host_ip or not other.host_ip or one.host_ip == other.host_ip
    return same and together and (_is_ingress(one) or _is_ingress(other))


def check_free(store: Store, spec: ServiceSpec, own_id: str) -> None:
    """Raises InvalidArgument naming the service that has one of the wanted ports already."""
    wanted = [p for p in (spec.endpoint_spec.ports if spec.endpoint_spec else None) or [] if p.published_port]
    if not wanted:
        return
    for service in store.services:
        if service.id == own_id:
            continue
        for taken in _published(service):
            for port in wanted:
                if taken.published_port and _collide(port, taken):
                    how = "an ingress port" if _is_ingress(taken) else "a host-published port"
                    name = f"'{service.spec.name}' ({service.id})"
                    raise invalid(f"port '{port.published_port}' is already in use by service {name} as {how}")


def endpoint(store: Store, spec: ServiceSpec, own_id: str, previous: Endpoint | None) -> Endpoint:
    """The end-point with a number for every ingress port; a number once given is kept. Raises FailedPrecondition."""
    if spec.endpoint_spec is None:
        return Endpoint()
    given = {
        (p.protocol or "tcp", p.target_port, p.host_ip): p.published_port
        for p in (previous.ports if previous else None) or []
        if _is_ingress(p)
    }
    wanted = spec.endpoint_spec.ports or []
    taken = {
        (p.published_port, p.protocol or "tcp") for s in store.services if s.id != own_id for p in _published(s)
    } | {(p.published_port, p.protocol or "tcp") for p in wanted}
    ports = []
    for port in wanted:
        if not port.published_port and _is_ingress(port):
            protocol = port.protocol or "tcp"
            number = given.get((protocol, port.target_port, port.host_ip))
            if not number or (number, protocol) in taken:
                number = next((n for n in DYNAMIC if (n, protocol) not in taken), 0)
            if not number:
                raise FailedPrecondition(f"no port is free between {DYNAMIC.start} and {DYNAMIC.stop - 1}; name one")
            taken.add((number, protocol))
            port = replace(port, published_port=number)
        ports.append(port)
    return Endpoint(spec=spec.endpoint_spec, ports=ports or None)
