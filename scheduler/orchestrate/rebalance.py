"""Rebalancing: replicas move to nodes that have come (or have come back), a few at a time.

Swarm never moves what runs (moby#24103). Here it happens when asked for: once (`Service.rebalance`, set by
`essaim service rebalance`), or by itself (label `essaim.rebalance: auto`).

- Only replicated services that are stateless (no writable mounts) and unconstrained (no constraints, preferences or
  host-mode ports) move, and only while nothing else happens to them: all replicas up, no update under way.
- A move is start-first: a task for the same slot is made for the emptiest node; when it is up the old one goes, through
  the drain as always. At most 1 in MOVING of the replicas move at a time, at least one.
- Hysteresis: a move must narrow the gap (two or more between the fullest and the emptiest node), and when automatic
  the target must have been unchanged for QUIET and the replica must have run that long.
- A node that cannot take a replica is no target. A move that fails ends the request; automatically it is not tried
  again for PAUSE.

Pure: the scheduler's view of the nodes and the store in, changes out.
"""

from collections import Counter
from datetime import datetime, timedelta
from functools import partial

import msgspec

from essaim.cluster import changes
from essaim.cluster.changes import Change
from essaim.cluster.ids import Chance, new_id
from essaim.cluster.service import Placement, Service
from essaim.cluster.store import Store
from essaim.cluster.task import Task
from essaim.cluster.walls import Faults, Walls
from essaim.cluster.watch import Event
from essaim.scheduler.agenda import Agenda
from essaim.scheduler.loop import Decision
from essaim.scheduler.place.filters import dynamic_filters, passes, request_of
from essaim.scheduler.place.placement import StaticChecks
from essaim.scheduler.place.view import ClusterView, NodeState
from essaim.scheduler.tasks import current_template, is_stateless, is_up, new_task

from .slots import Slot, numbered
from .updater import PAUSED, ROLLBACK_PAUSED, RUNNING_PHASES

LABEL = "essaim.rebalance"
MOVING = 20
QUIET = timedelta(seconds=30)
PAUSE = timedelta(minutes=5)
SLICE = 50


def is_automatic(service: Service) -> bool:
    return (service.spec.labels or {}).get(LABEL) == "auto"


def why_not(service: Service) -> str | None:
    """Why the service can never be rebalanced, in words fit for the user."""
    mode = service.spec.mode
    if mode is None or mode.replicated is None:
        return "only replicated services can be rebalanced"
    template = service.spec.task_template
    placement = (template.placement if template else None) or Placement()
    if placement.constraints or placement.preferences:
        return "a service with placement constraints or preferences is not rebalanced"
    ports = service.spec.endpoint_spec.ports if service.spec.endpoint_spec else None
    if any(port.publish_mode == "host" for port in ports or ()):
        return "a service with ports published in host mode is not rebalanced"
    if not is_stateless(service.spec):
        return "a service with writable mounts is not rebalanced: its data would stay behind"
    return None


def is_at_rest(service: Service) -> bool:
    status = service.update_status
    return status is None or status.state not in (*RUNNING_PHASES, PAUSED, ROLLBACK_PAUSED)


class Rebalancer:
    """The loop. `view` is the placement loop's, which keeps it up to date."""

    name = "rebalance"
    tables = ("services", "tasks", "nodes")

    def __init__(self, view: ClusterView, chance: Chance, faults: Faults | None = None) -> None:
        self._walls = Walls("its replicas cannot be spread anew", faults)
        self._view = view
        self._chance = chance
        self._static = StaticChecks()
        self._agenda = Agenda()
        self._watched: set[str] = set()

    def reset(self, store: Store) -> None:
        self._agenda.clear()
        self._static.clear()
        self._watched.clear()
        self._walls.reset()
        for service in store.services:
            self._consider(service)

    def _consider(self, service: Service) -> None:
        if service.rebalance or is_automatic(service):
            self._watched.add(service.id)
            self._agenda.add(service.id)
        else:
            self._watched.discard(service.id)
            self._walls.clear(service.id)

    def observe(self, events: list[Event]) -> None:
        for event in events:
            if event.table == "nodes":
                for service_id in self._watched:
                    self._agenda.add(service_id)
            elif event.table == "tasks":
                if event.object.service_id in self._watched:
                    self._agenda.add(event.object.service_id)
            elif event.kind == "delete":
                self._watched.discard(event.object.id)
                self._walls.clear(event.object.id)
            else:
                self._consider(event.object)

    def decide(self, store: Store, now: datetime) -> Decision:
        found: list[Change] = []
        notes: list[str] = []
        for service_id in self._agenda.take(now, SLICE):
            service = store.services.get(service_id)
            if service is None or service_id not in self._watched:
                continue
            if reason := why_not(service):
                if service.rebalance:
                    notes.append(f"service {service.spec.name}: {reason}")
                    found.append(finished(service))
                continue
            if is_at_rest(service):
                advance = partial(self._advance, service, store, now)
                found += self._walls.attempt(service_id, service.spec, now, advance, ())
                if (again := self._walls.retry_at(service_id)) is not None:
                    self._agenda.at(again, service_id)
        return Decision(found, self._agenda.next_time(), self._agenda.has_due, notes)

    def _advance(self, service: Service, store: Store, now: datetime) -> list[Change]:
        """Begin a move, or end the request when there is none left to make."""
        mode = service.spec.mode
        wanted = (mode.replicated.replicas if mode and mode.replicated else None) or 0
        slots = [slot for slot in numbered(store.tasks.by("service", service.id)).values() if slot.live]
        moving = [slot for slot in slots if len(slot.live) > 1]
        cancelled = [task for slot in moving if (task := stuck(slot))]
        if cancelled:
            return [*[changes.Delete("tasks", t.id, t.version.index) for t in cancelled], *self._ended(service, now)]
        steady = [slot for slot in slots if len(slot.live) == 1 and is_up(slot.live[0])]
        if len(slots) != wanted or len(steady) + len(moving) != wanted:
            return []
        if any(failed_move(slot, now) for slot in steady):
            return self._ended(service, now)
        if len(moving) >= max(1, wanted // MOVING):
            return []
        move = self._choose(service, steady, now)
        if move is None:
            return [] if moving else self._ended(service, now)
        slot, target = move
        task = new_task(
            service,
            current_template(service),
            task_id=new_id(self._chance),
            slot=slot.number,
            node_id=target.node.id,
            now=now,
            generation=(slot.newest.generation or 0) + 1,
            log_driver=slot.live[0].log_driver,
        )
        return [changes.put("tasks", msgspec.structs.replace(task, replaces=slot.live[0].id), new=True)]

    def _ended(self, service: Service, now: datetime) -> list[Change]:
        if service.rebalance:
            return [finished(service)]
        self._agenda.at(now + PAUSE, service.id)
        return []

    def _choose(self, service: Service, steady: list[Slot], now: datetime) -> tuple[Slot, NodeState] | None:
        """The replica to move from the fullest node, and the emptiest node that can take it."""
        on: Counter[str] = Counter(dict(self._view.on(service.id)))
        patient = not service.rebalance
        request = request_of(steady[0].live[0]) if steady else None
        if request is None:
            return None
        fits, filters = self._static.of(request), dynamic_filters(request)
        targets = [s for s in self._view.nodes.values() if fits(s) and passes(filters, request, s)]
        targets.sort(key=lambda s: (on[s.node.id], s.tasks, s.seq))
        steady.sort(key=lambda slot: (-on[slot.live[0].node_id or ""], -(slot.number or 0)))
        for slot in steady:
            task = slot.live[0]
            for target in targets:
                if on[task.node_id or ""] - on[target.node.id] < 2:
                    break
                ready_at = max(target.node.updated_at, task.running_since or now) + QUIET
                if patient and ready_at > now:
                    self._agenda.at(ready_at, service.id)
                    continue
                return slot, target
        return None


def finished(service: Service) -> Change:
    return changes.put("services", msgspec.structs.replace(service, rebalance=None))


def stuck(slot: Slot) -> Task | None:
    """A move whose target turned out to have no room."""
    task = slot.live[-1]
    return task if task.replaces and task.status.state == "pending" and task.status.err else None


def failed_move(slot: Slot, now: datetime) -> bool:
    """A replica that was to take over ended instead, not long ago."""
    last = slot.newest
    return last.replaces is not None and last.is_terminal and now - last.updated_at < PAUSE
