"""Ports at which gateways ask a service because another one's labels say so: addresses of auth servers (forwardAuth).

`Service.asked_ports` is the outcome, so that what concerns one service's tasks is said by that service alone. A port
that is new makes the service's specification count as changed, and tasks that lack it are replaced, as they are for any
port; one that is asked no more changes nothing until the service itself does. What a service's own labels say of it is
no matter of this loop (`tasks.routed_ports`). Rejected: looking at all services' labels wherever a task's ports are
asked for.

Pure: decides only.
"""

from collections import defaultdict
from datetime import datetime
from functools import partial

import msgspec

from essaim.cluster import changes
from essaim.cluster.changes import Change
from essaim.cluster.service import Service
from essaim.cluster.shape import Version
from essaim.cluster.store import Store
from essaim.cluster.walls import Faults, Walls
from essaim.cluster.watch import Event
from essaim.scheduler.loop import Decision
from essaim.scheduler.tasks import Asked, asked_addresses, task_ports


class AskedPorts:
    name = "asked ports"
    tables = ("services",)

    def __init__(self, faults: Faults | None = None) -> None:
        self._walls = Walls("the ports that its labels ask for cannot be read", faults)
        # By the id of the service whose labels say so.
        self._asked: dict[str, frozenset[Asked]] = {}
        # What was found last, by the id of the service that is meant.
        self._wanted: dict[str, list[int]] = {}
        self._stale = False

    def reset(self, store: Store) -> None:
        self._asked = {service.id: asked for service in store.services if (asked := self._asked_by(service))}
        self._stale = True

    def observe(self, events: list[Event]) -> None:
        for event in events:
            service: Service = event.object
            asked = frozenset[Asked]() if event.kind == "delete" else self._asked_by(service)
            if event.kind == "delete":
                self._walls.clear(service.id)
                self._walls.clear(f"{service.id} asked")
            before = self._asked.pop(service.id, frozenset())
            if asked:
                self._asked[service.id] = asked
            # Who comes or goes may be who is meant; and a change of this loop may have been rejected.
            self._stale |= asked != before or event.old is None or event.kind == "delete"
            self._stale |= self._wanted.get(service.id, []) != (service.asked_ports or [])

    def decide(self, store: Store, now: datetime) -> Decision:
        if not self._stale:
            return Decision()
        self._stale = False
        wanted: defaultdict[str, set[int]] = defaultdict(set)
        for service_id, asked in self._asked.items():
            for one in asked:
                meant = next((found for name in one.names if (found := store.services.named(name))), None)
                if meant is not None and meant.id != service_id:
                    wanted[meant.id].add(one.port)
        self._wanted = {service_id: sorted(ports) for service_id, ports in wanted.items()}
        changed: list[Change] = []
        for service in store.services:
            ports = self._wanted.get(service.id, [])
            if ports != (service.asked_ports or []):
                make = partial(_with_ports, service, ports, store.version + 1)
                fresh = self._walls.guard(f"{service.id} asked", service.id, make, None)
                changed += [changes.put("services", fresh)] if fresh is not None else []
        return Decision(changed)

    def _asked_by(self, service: Service) -> frozenset[Asked]:
        if service.pending_delete:
            return frozenset()
        read = partial(asked_addresses, service.spec.labels)
        return frozenset(self._walls.guard(service.id, service.id, read, ()))


def _with_ports(service: Service, ports: list[int], version: int) -> Service:
    known = {port.target_port for port in task_ports(service) if (port.protocol or "tcp") == "tcp"}
    fresh = not known.issuperset(ports) and service.spec_version is not None
    return msgspec.structs.replace(
        service,
        asked_ports=ports or None,
        spec_version=Version(index=version) if fresh else service.spec_version,
    )
