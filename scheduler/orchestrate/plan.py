"""A plan: the changes that one decision about one service wants, collected so that each object changes at most once.

Pure: identifiers come from the chance that is passed in.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import msgspec

from essaim.cluster import changes
from essaim.cluster.changes import Change, Delete
from essaim.cluster.container import DriverSpec
from essaim.cluster.ids import Chance, new_id
from essaim.cluster.node import Node
from essaim.cluster.service import Service
from essaim.cluster.shape import Version
from essaim.cluster.task import RestartRecord, Task, TaskState
from essaim.scheduler.restart import is_held_back, is_released
from essaim.scheduler.tasks import Template, current_template, new_task

NodeOf = Callable[[str], Node | None]


@dataclass
class Plan:
    """`service` is the service as read; `log_driver` the cluster's default; `wake` the earliest time at which to look
    again without an event. `changed_at` is when a node last came or changed; `holds_back` says that tasks wait that
    such a change would release."""

    service: Service
    nodes: NodeOf
    now: datetime
    chance: Chance
    log_driver: DriverSpec | None = None
    wake: datetime | None = None
    changed_at: datetime | None = None
    holds_back: bool = False
    _service: Service | None = None
    _tasks: dict[str, Task] = field(default_factory=dict)
    _before: dict[str, Task] = field(default_factory=dict)
    _deleted: dict[str, Task] = field(default_factory=dict)
    _created: list[Task] = field(default_factory=list)

    def wake_at(self, when: datetime) -> None:
        self.wake = when if self.wake is None else min(self.wake, when)

    def node(self, task: Task) -> Node | None:
        return self.nodes(task.node_id) if task.node_id else None

    def create(
        self,
        *,
        template: Template | None = None,
        slot: int | None = None,
        node_id: str | None = None,
        desired: str = "running",
        start_after: datetime | None = None,
        restarts: RestartRecord | None = None,
        iteration: Version | None = None,
        after: Task | None = None,
        why: str | None = None,
    ) -> Task:
        """A new task; `after` is the newest one that its slot has had, `why` the error that it shows while it waits."""
        if start_after is not None and start_after <= self.now:
            start_after = None
        task = new_task(
            self.service,
            template or current_template(self.service),
            task_id=new_id(self.chance),
            slot=slot,
            node_id=node_id,
            desired=desired,
            start_after=start_after,
            restarts=restarts,
            now=self.now,
            iteration=iteration,
            generation=(after.generation or 0) + 1 if after else 1,
            log_driver=self.log_driver,
            why=why,
        )
        self._created.append(task)
        return task

    def is_early(self, task: Task) -> bool:
        """Whether a waiting task's time has yet to come; the plan looks again then."""
        if task.start_after is None or task.start_after <= self.now or is_released(task, self.service, self.changed_at):
            return False
        self.holds_back = self.holds_back or is_held_back(task, self.now)
        self.wake_at(task.start_after)
        return True

    def change(self, task: Task, **fields: Any) -> Task:
        """The task with `fields` replaced; earlier changes of this plan are kept."""
        current = self._tasks.get(task.id, task)
        changed = msgspec.structs.replace(current, **fields)
        if changed != current:
            self._before.setdefault(task.id, task)
            self._tasks[task.id] = changed
        return changed

    def retire(self, task: Task, desired: TaskState = TaskState.SHUTDOWN) -> None:
        """Have it stopped; a task that has no node yet, or whose node was removed, is done with at once."""
        if task.state < TaskState.ASSIGNED:
            self._deleted[task.id] = task
        elif task.desired < desired:
            self.change(task, desired_state=desired.label)

    def abandon(self, task: Task, why: str) -> None:
        """Give up a task whose node cannot be reached: it counts as ended, and the node stops it when it returns."""
        status = msgspec.structs.replace(
            task.status, state=TaskState.ORPHANED.label, timestamp=self.now, message="orphaned", err=why
        )
        self.change(task, status=status, desired_state=max(task.desired, TaskState.SHUTDOWN).label)

    def change_service(self, **fields: Any) -> None:
        self._service = msgspec.structs.replace(self._service or self.service, **fields)

    def changes(self) -> list[Change]:
        """Retirements before creations: should the set be cut, a slot is empty for a moment rather than doubled."""
        found: list[Change] = []
        if self._service is not None and self._service != self.service:
            found.append(changes.put("services", self._service))
        found += [Delete("tasks", t.id, t.version.index) for t in self._deleted.values()]
        found += [changes.put("tasks", t) for t in self._tasks.values() if t.id not in self._deleted]
        found += [changes.put("tasks", t, new=True) for t in self._created]
        return found

    @property
    def created(self) -> Iterable[Task]:
        return tuple(self._created)
