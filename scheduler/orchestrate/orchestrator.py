"""The orchestrator: looks at each service that something happened to, and plans towards what it declares.

Services are decided one at a time, a slice of them a round. A service waits until its ports are allocated. Tasks
without a service (it was removed) are told to go.

Pure: chance comes in.
"""

from datetime import datetime, timedelta
from functools import partial

import msgspec

from essaim.cluster import changes
from essaim.cluster.changes import Change, Delete
from essaim.cluster.container import DriverSpec
from essaim.cluster.ids import Chance
from essaim.cluster.service import Service
from essaim.cluster.store import Store
from essaim.cluster.task import Task, TaskState
from essaim.cluster.walls import Faults, Unfit, Walls
from essaim.cluster.watch import Event
from essaim.scheduler.agenda import Agenda
from essaim.scheduler.allocate.ports import is_allocated
from essaim.scheduler.loop import Decision
from essaim.scheduler.tasks import MOST_TASKS, is_gone, is_up, wanted_tasks

from .global_service import plan_global
from .jobs import plan_global_job, plan_replicated_job
from .plan import Plan
from .replicated import plan_replicated

SLICE = 100
"""Services a round."""
HOPE_REST = timedelta(seconds=10)
"""Between two changes of nodes that let waiting tasks go on early."""


class Orchestrator:
    name = "orchestrator"
    tables = ("services", "tasks", "nodes")

    def __init__(self, chance: Chance, faults: Faults | None = None) -> None:
        self._chance = chance
        self._walls = Walls("its tasks cannot be looked after", faults)
        self._agenda = Agenda()
        self._node_changed: dict[str, bool] = {}
        # Services with tasks that are held back (`restart`), and when nodes last changed so that they may go on.
        self._holding: set[str] = set()
        self._hope = False
        self._changed_at: datetime | None = None

    def reset(self, store: Store) -> None:
        self._agenda.clear()
        self._node_changed.clear()
        self._holding.clear()
        self._hope = False
        self._walls.reset()
        for service in store.services:
            self._agenda.add(service.id)
        for task in store.tasks:
            if task.service_id:
                self._agenda.add(task.service_id)

    def observe(self, events: list[Event]) -> None:
        for event in events:
            if event.table == "services":
                self._agenda.add(event.object.id)
            elif event.table == "nodes":
                self._node_changed[event.object.id] = True
                self._hope = self._hope or gives_hope(event)
            elif event.object.service_id and matters(event):
                self._agenda.add(event.object.service_id)

    def decide(self, store: Store, now: datetime) -> Decision:
        self._spread_node_changes(store)
        held_until = self._release_held(now)
        found: list[Change] = []
        for service_id in self._agenda.take(now, SLICE):
            service = store.services.get(service_id)
            subject = (service.spec, service.pending_delete) if service is not None else None
            look = partial(self._look, service_id, service, store, now)
            found += self._walls.attempt(service_id, subject, now, look, ())
            if (again := self._walls.retry_at(service_id)) is not None:
                self._agenda.at(again, service_id)
        decision = Decision(found, self._agenda.next_time(), self._agenda.has_due)
        decision.look_again(held_until)
        return decision

    def _release_held(self, now: datetime) -> datetime | None:
        """After a change of a node what is held back may go on, but not each time for a node that comes and goes: when
        to look again."""
        if not (self._hope and self._holding):
            self._hope = False
            return None
        if self._changed_at is not None and now < self._changed_at + HOPE_REST:
            return self._changed_at + HOPE_REST
        self._hope = False
        self._changed_at = now
        for service_id in self._holding:
            self._agenda.add(service_id)
        return None

    def _look(self, service_id: str, service: Service | None, store: Store, now: datetime) -> list[Change]:
        tasks = store.tasks.by("service", service_id)
        self._holding.discard(service_id)
        if service is None or service.pending_delete:
            return dismiss(service, tasks)
        if not is_allocated(service):
            return []
        plan = plan_service(service, tasks, store, now, self._chance, self._changed_at)
        found = plan.changes()
        if plan.holds_back:
            self._holding.add(service_id)
        if plan.wake is not None:
            self._agenda.at(plan.wake, service_id)
        return found

    def _spread_node_changes(self, store: Store) -> None:
        """A change of a node concerns the services that have tasks there, and all that want one on every node."""
        if not self._node_changed:
            return
        for node_id in self._node_changed:
            for task in store.tasks.by("node", node_id):
                if task.service_id:
                    self._agenda.add(task.service_id)
        self._node_changed.clear()
        for service in store.services:
            mode = service.spec.mode
            if mode and (mode.global_ is not None or mode.global_job is not None):
                self._agenda.add(service.id)


def matters(event: Event) -> bool:
    """Steps on the way to running, and news of a task that goes on running, change nothing that is decided by."""
    if event.kind != "update" or event.old is None:
        return True
    return decided_by(event.old) != decided_by(event.object)


def decided_by(task: Task) -> tuple[object, ...]:
    state = task.state
    if TaskState.ASSIGNED <= state < TaskState.RUNNING:
        state = TaskState.ASSIGNED
    why = task.status.err if state < TaskState.ASSIGNED else None
    return (state, task.desired_state, task.node_id, task.spec_version, is_up(task), why)


def gives_hope(event: Event) -> bool:
    """Whether what no node could run so far may run now: a node came, came back, or is another one than it was."""
    old, new = event.old, event.object
    if event.kind == "delete" or not new.is_ready:
        return False
    return old is None or not old.is_ready or old.spec != new.spec or old.description != new.description


def plan_service(
    service: Service,
    tasks: list[Task],
    store: Store,
    now: datetime,
    chance: Chance,
    changed_at: datetime | None = None,
) -> Plan:
    """What the service needs next, whatever its mode. Raises Unfit for more tasks than a service can have."""
    if (wanted := wanted_tasks(service.spec)) > MOST_TASKS:
        raise Unfit(f"{wanted} tasks are wanted, and a service has {MOST_TASKS} at most: scale it down")
    plan = Plan(service, store.nodes.get, now, chance, default_log_driver(store), changed_at=changed_at)
    for task in tasks:
        if task.desired > TaskState.COMPLETE and not task.is_terminal and task.node_id and is_gone(plan.node(task)):
            plan.abandon(task, "the node was lost while the task was to stop")
    mode = service.spec.mode
    if mode is not None and mode.global_ is not None:
        plan_global(plan, tasks, list(store.nodes))
    elif mode is not None and mode.replicated_job is not None:
        plan_replicated_job(plan, tasks)
    elif mode is not None and mode.global_job is not None:
        plan_global_job(plan, tasks, list(store.nodes))
    else:
        plan_replicated(plan, tasks)
    return plan


def default_log_driver(store: Store) -> DriverSpec | None:
    return store.cluster.spec.log_driver if store.cluster else None


def dismiss(service: Service | None, tasks: list[Task]) -> list[Change]:
    """The tasks of a removed service go; a service that is only marked for removal goes after its last task."""
    if service is not None and not tasks:
        return [Delete("services", service.id, service.version.index)]
    found: list[Change] = []
    for task in tasks:
        if task.state < TaskState.ASSIGNED:
            found.append(Delete("tasks", task.id, task.version.index))
        elif task.desired != TaskState.REMOVE:
            found.append(changes.put("tasks", msgspec.structs.replace(task, desired_state=TaskState.REMOVE.label)))
    return found
