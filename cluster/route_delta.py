"""What changed between two route tables, so that one changed replica among 50,000 is not 10 MB to every node.

A delta names the version that it was made against: on any other table it is refused, never applied in part.

Pure: tables and deltas in, tables and deltas out. `apply(old, delta(old, new))` equals `new`.
"""

from collections.abc import Iterable

import msgspec

from .routes import RouteGateway, RouteService, RouteTable
from .shape import Shape


class RouteDelta(Shape):
    """`services` are new or changed, `removed` are ids; `gateways` and `idle` are whole lists, or None when they are as
    before."""

    base: int
    version: int
    services: list[RouteService] = []
    removed: list[str] = []
    gateways: list[RouteGateway] | None = None
    idle: list[str] | None = None


class WrongBase(ValueError):
    """The delta was made against another table."""


def changed_services(old: RouteTable, new: RouteTable) -> list[str]:
    """Ids of the services that came, went or changed, sorted. Objects that both tables share cost no comparison."""
    before = {service.id: service for service in old.services}
    changed = [s.id for s in new.services if (known := before.pop(s.id, None)) is not s and known != s]
    return sorted([*changed, *before])


def make_delta(base: int, ids: Iterable[str], gateways_changed: bool, new: RouteTable) -> RouteDelta:
    """The delta that brings a table of version `base`, of which at most the services `ids` differ, to `new`.
    `gateways_changed`: who serves, or is idle, is not as it was."""
    wanted = set(ids)
    services = [service for service in new.services if service.id in wanted]
    removed = sorted(wanted - {service.id for service in services})
    gateways = new.gateways if gateways_changed else None
    idle = new.idle if gateways_changed else None
    return RouteDelta(base=base, version=new.version, services=services, removed=removed, gateways=gateways, idle=idle)


def apply_delta(table: RouteTable, delta: RouteDelta) -> RouteTable:
    """Raises WrongBase."""
    if table.version != delta.base:
        raise WrongBase(f"a change of route table {delta.base} does not fit table {table.version}")
    services = {service.id: service for service in table.services}
    for service_id in delta.removed:
        services.pop(service_id, None)
    services.update((service.id, service) for service in delta.services)
    return msgspec.structs.replace(
        table,
        version=delta.version,
        services=sorted(services.values(), key=lambda service: service.name),
        gateways=table.gateways if delta.gateways is None else delta.gateways,
        idle=table.idle if delta.idle is None else delta.idle,
    )
