"""Ports that stand for several services' ports: where a router leads that services share (`routing/names.py`).

A worker serves such a port as any other. What it counts there belongs to the ports that it stands for, each task's to
the one that has it, so that nobody who reads counters meets a task twice.

Pure: plans and counts in, ports and counts out.
"""

from collections.abc import Callable, Iterable, Mapping

import msgspec

from essaim.gateway.protocol.messages import PortCounts, PortPlan, ServicePlan
from essaim.gateway.routing.labels import Outcome
from essaim.gateway.routing.names import UNION
from essaim.gateway.runtime.counters import NOTHING, add, merge


def unions_of(outcomes: Iterable[Outcome]) -> set[str]:
    """The keys of ports that routers lead to and that stand for several."""
    return {
        router.port_key
        for outcome in outcomes
        for routers in (outcome.routers, outcome.tcp_routers)
        for router in routers
        if UNION in router.port_key
    }


def united_ports(
    unions: Iterable[str], plans: Mapping[str, ServicePlan], turn: Callable[[str], int]
) -> dict[str, list[PortPlan]]:
    """Such ports with the replicas of all that they stand for, by the service that is to have them: the first one's.

    `turn`: the place among the round-robin counters, by port key. A port that is gone adds nothing.
    """
    ports = {port.key: (service_id, port) for service_id, plan in plans.items() for port in plan.ports}
    found: dict[str, list[PortPlan]] = {}
    for union in sorted(unions):
        parts = [ports[key] for key in union.split(UNION) if key in ports]
        if parts:
            service_id, first = parts[0]
            endpoints = [endpoint for _, port in parts for endpoint in port.endpoints]
            made = msgspec.structs.replace(first, key=union, turn=turn(union), published_port=0, endpoints=endpoints)
            found.setdefault(service_id, []).append(made)
    return found


def shared_out(counts: dict[str, PortCounts], plans: Iterable[ServicePlan]) -> dict[str, PortCounts]:
    """Counts by port key, those of united ports added to the ports that they stand for: each task's to its own, what
    is no living task's to the first one's."""
    unions = [key for key in counts if UNION in key]
    if not unions:
        return counts
    tasks = {port.key: {one.task_id for one in port.endpoints} for plan in plans for port in plan.ports}
    reports = [one for key, one in counts.items() if UNION not in key]
    for union in unions:
        whole, left = counts[union], {one.task_id for one in counts[union].endpoints}
        keys = union.split(UNION)
        for key in keys[1:]:
            own = [one for one in whole.endpoints if one.task_id in tasks.get(key, ())]
            left -= {one.task_id for one in own}
            reports.append(PortCounts(key, 0, 0, own, NOTHING))
        first = [one for one in whole.endpoints if one.task_id in left]
        living = [one for one in first if one.task_id in tasks.get(keys[0], ())]
        gone = msgspec.structs.replace(
            add([whole.gone, *(one for one in first if one not in living)]), task_id="", open=0, idle=0
        )
        reports.append(msgspec.structs.replace(whole, port_key=keys[0], endpoints=living, gone=gone))
    return merge(reports)
