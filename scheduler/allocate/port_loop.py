"""The loop around `allocator`: every service whose ports are not allocated as its specification says.

Pure: decides only.
"""

from datetime import datetime
from functools import partial

from essaim.cluster import changes
from essaim.cluster.changes import Change
from essaim.cluster.store import Store
from essaim.cluster.walls import Faults, Walls
from essaim.cluster.watch import Event
from essaim.scheduler.loop import Decision

from .ports import allocate, is_allocated, taken_ports


class Allocation:
    name = "allocator"
    tables = ("services",)

    def __init__(self, faults: Faults | None = None) -> None:
        self._walls = Walls("its ports cannot be allocated", faults)
        self._waiting: set[str] = set()
        self._refused: dict[str, str] = {}

    def reset(self, store: Store) -> None:
        self._waiting = {service.id for service in store.services if not is_allocated(service)}
        self._refused.clear()
        self._walls.reset()

    def observe(self, events: list[Event]) -> None:
        for event in events:
            if event.kind == "delete" or is_allocated(event.object):
                self._waiting.discard(event.object.id)
                self._walls.clear(event.object.id)
                self._refused.pop(event.object.id, None)
            else:
                self._waiting.add(event.object.id)

    def decide(self, store: Store, now: datetime) -> Decision:
        services = [s for i in self._waiting if (s := store.services.get(i)) and not is_allocated(s)]
        if not services:
            return Decision()
        taken = taken_ports(store.services)
        decision = Decision()
        found: list[Change] = []
        for service in sorted(services, key=lambda s: (s.created_at, s.id)):
            allot = partial(allocate, service, taken)
            outcome = self._walls.attempt(service.id, service.spec, now, allot, None)
            if outcome is None:
                decision.look_again(self._walls.retry_at(service.id))
            elif isinstance(outcome, str):
                if self._refused.get(service.id) != outcome:
                    decision.notes.append(f"service {service.spec.name} waits: {outcome}")
                self._refused[service.id] = outcome
            else:
                found.append(changes.put("services", outcome))
                taken |= taken_ports([outcome])
        decision.changes = found
        return decision
