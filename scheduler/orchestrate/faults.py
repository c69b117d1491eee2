"""Marks faulty services: what the walls of all loops found (`cluster.walls`) comes into `Service.fault`, and goes again
once the service has been repaired or removed.

- `service ps` shows the mark as the error of a task (`api.control.placeholder_tasks`), `essaim lb status` beside the
  service's routes.
- A new leader has tried nothing yet: marks of the old one stay for GRACE, and go then if nothing was found.
- Each fault is noted once, with its place in the code.

Pure: decides only.
"""

from datetime import datetime, timedelta

import msgspec

from essaim.cluster import changes
from essaim.cluster.service import Service
from essaim.cluster.store import Store
from essaim.cluster.walls import Fault, Faults
from essaim.cluster.watch import Event
from essaim.scheduler.loop import Decision

LOOK = timedelta(seconds=1)
"""Between looks at what the walls found: no event of the store tells of it."""
GRACE = timedelta(seconds=5)


class Marking:
    name = "faults"
    tables = ("services",)

    def __init__(self, faults: Faults) -> None:
        self._faults = faults
        self._due: set[str] = set()
        self._noted: dict[str, Fault] = {}
        self._fresh = True
        self._clear_from: datetime | None = None

    def reset(self, store: Store) -> None:
        self._due = {service.id for service in store.services if service.fault} | set(self._faults.known())
        self._fresh = True

    def observe(self, events: list[Event]) -> None:
        self._due.update(event.object.id for event in events)

    def decide(self, store: Store, now: datetime) -> Decision:
        if self._fresh:
            self._fresh = False
            self._clear_from = now + GRACE
        due, self._due = self._due | self._faults.changed, set()
        self._faults.changed.clear()
        decision = Decision(wake=now + LOOK)
        for service_id in sorted(due):
            self._mark(service_id, store.services.get(service_id), now, decision)
        return decision

    def _mark(self, service_id: str, service: Service | None, now: datetime, decision: Decision) -> None:
        fault = self._faults.of(service_id)
        self._note(service_id, service, fault, decision)
        if service is None:
            return
        reason = fault.reason if fault else None
        if service.fault == reason:
            return
        if reason is None and self._clear_from is not None and now < self._clear_from:
            self._due.add(service_id)
            return
        decision.changes.append(changes.put("services", msgspec.structs.replace(service, fault=reason)))

    def _note(self, service_id: str, service: Service | None, fault: Fault | None, decision: Decision) -> None:
        known = self._noted.get(service_id)
        if known == fault:
            return
        name = f"service {service.spec.name}" if service is not None else service_id
        if fault is None:
            del self._noted[service_id]
            decision.notes.append(f"{name}: no longer faulty")
        else:
            self._noted[service_id] = fault
            decision.notes.append(f"{name} is faulty: {fault.reason} ({fault.place}); all others go on")
