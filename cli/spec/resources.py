"""Limits and reservations of a service's replicas.

Pure: ResourceRequirements and flags to ResourceRequirements.
"""

from typing import Any

from msgspec.structs import replace

from essaim.cli.flags import Flags
from essaim.cli.values.references import resource_kind
from essaim.cluster.service import GenericResource, ResourceRequirements, Resources

from .lists import added, keyed, removed, touched


def change_resources(current: ResourceRequirements | None, flags: Flags) -> ResourceRequirements | None:
    limits = numbers(flags, {"limit-cpu": "nano_cpus", "limit-memory": "memory_bytes", "limit-pids": "pids"})
    reserved = numbers(flags, {"reserve-cpu": "nano_cpus", "reserve-memory": "memory_bytes"})
    swap = numbers(flags, {"memory-swap": "swap_bytes", "memory-swappiness": "memory_swappiness"})
    generic = touched(flags, "generic-resource")
    if not (limits or reserved or swap or generic):
        return current
    base = current or ResourceRequirements()
    reservations = replace(base.reservations or Resources(), **reserved)
    if generic:
        found = keyed(
            reservations.generic_resources,
            check_generic(added(flags, "generic-resource")),
            removed(flags, "generic-resource"),
            resource_kind,
        )
        reservations = replace(reservations, generic_resources=found)
    return replace(base, limits=replace(base.limits or Resources(), **limits), reservations=reservations, **swap)


def check_generic(resources: list[GenericResource]) -> list[GenericResource]:
    """Swarm counts generic resources; which one a replica gets it decides itself."""
    for item in resources:
        if (named := item.named_resource_spec) is not None:
            raise ValueError(
                f"invalid generic-resource request `{named.kind}={named.value}`, "
                "Named Generic Resources is not supported for service create or update"
            )
    return resources


def numbers(flags: Flags, table: dict[str, str]) -> dict[str, Any]:
    """Given numbers by attribute; zero takes the limit away."""
    return {attribute: flags.number(flag) or None for flag, attribute in table.items() if flags.given(flag)}
