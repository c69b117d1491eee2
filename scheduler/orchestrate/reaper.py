"""The reaper: forgets tasks that are over.

- A task whose desired state is `remove` goes once it has ended (or its node was removed).
- Of each slot, as many ended tasks are kept as the cluster's TaskHistoryRetentionLimit says (5 unless set, all if it is
  negative, as in Swarm); while an update runs at least one more, which the updater goes by.

Pure: decides only.
"""

import sys
from collections import defaultdict
from datetime import datetime
from functools import partial

from essaim.cluster.changes import Change, Delete
from essaim.cluster.service import Service
from essaim.cluster.store import Store
from essaim.cluster.task import Task, TaskState
from essaim.cluster.walls import Faults, Walls
from essaim.cluster.watch import Event
from essaim.scheduler.agenda import Agenda
from essaim.scheduler.loop import Decision
from essaim.scheduler.tasks import is_gone

from .slots import by_age
from .updater import RUNNING_PHASES

DEFAULT_HISTORY = 5
SLICE = 200
"""Services a round."""


class Reaper:
    name = "reaper"
    tables = ("tasks", "clusters", "nodes")

    def __init__(self, faults: Faults | None = None) -> None:
        self._walls = Walls("its history cannot be cut short", faults)
        self._agenda = Agenda()
        self._limit = DEFAULT_HISTORY
        self._all = True

    def reset(self, store: Store) -> None:
        self._all = True

    def observe(self, events: list[Event]) -> None:
        for event in events:
            if event.table == "tasks":
                if event.kind != "delete" and may_go(event.object):
                    self._agenda.add(event.object.service_id or "")
            elif event.table == "clusters" or event.kind == "delete" or went_down(event):
                self._all = True

    def decide(self, store: Store, now: datetime) -> Decision:
        if self._all:
            self._all = False
            for task in store.tasks:
                self._agenda.add(task.service_id or "")
        cluster = store.cluster
        orchestration = cluster.spec.orchestration if cluster else None
        limit = orchestration.task_history_retention_limit if orchestration else None
        self._limit = DEFAULT_HISTORY if limit is None else limit if limit >= 0 else sys.maxsize
        found: list[Change] = []
        for service_id in self._agenda.take(now, SLICE):
            reap = partial(self._reap, store, service_id)
            found += self._walls.attempt(service_id, None, now, reap, ())
            if (again := self._walls.retry_at(service_id)) is not None:
                self._agenda.at(again, service_id)
        return Decision(found, self._agenda.next_time(), self._agenda.has_due)

    def _reap(self, store: Store, service_id: str) -> list[Change]:
        tasks = store.tasks.by("service", service_id)
        found = surplus(store.services.get(service_id), tasks, store, self._limit)
        return [Delete("tasks", task.id, task.version.index) for task in found]


def surplus(service: Service | None, tasks: list[Task], store: Store, limit: int) -> list[Task]:
    """The service's tasks that are to be forgotten."""
    status = service.update_status if service else None
    updating = status is not None and status.state in RUNNING_PHASES
    keep = max(limit, 2 if updating else 1 if is_job(service) else 0)
    found: list[Task] = []
    ended: dict[tuple[int | None, str], list[Task]] = defaultdict(list)
    for task in tasks:
        if task.desired == TaskState.REMOVE:
            if task.is_terminal or task.state < TaskState.ASSIGNED or is_gone(store.nodes.get(task.node_id or "")):
                found.append(task)
        elif task.is_terminal:
            place = (task.slot, "" if task.slot is not None else task.node_id or "")
            ended[place].append(task)
    for past in ended.values():
        if len(past) > keep:
            found += [task for task in sorted(past, key=by_age)[: len(past) - keep] if is_settled(task)]
    return found


def may_go(task: Task) -> bool:
    """It is over, as far as can be read."""
    try:
        return task.is_terminal or task.desired == TaskState.REMOVE
    except KeyError:
        return True


def is_job(service: Service | None) -> bool:
    """What a job has completed must not be forgotten, or it would be done again."""
    mode = service.spec.mode if service else None
    return mode is not None and (mode.replicated_job is not None or mode.global_job is not None)


def went_down(event: Event) -> bool:
    return event.old is not None and event.object.status.state == "down" and event.old.status.state != "down"


def is_settled(task: Task) -> bool:
    """The orchestrator has dealt with its end, or never will."""
    return task.desired > TaskState.RUNNING
