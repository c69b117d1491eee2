"""The placement loop: gives a node to every task that waits for one, and says why where it cannot.

Waiting tasks are grouped by service version; a group is looked at when a task joins it, and all groups when room may
have come: a node changed, or a task ended. Global tasks come with their node and are only checked against it.

Pure: decides only.
"""

from datetime import UTC, datetime, timedelta
from functools import partial

import msgspec

from essaim.cluster import changes
from essaim.cluster.changes import Change
from essaim.cluster.store import Store
from essaim.cluster.task import Task, TaskState, TaskStatus
from essaim.cluster.walls import Faults, Walls
from essaim.cluster.watch import Event
from essaim.scheduler.agenda import Agenda
from essaim.scheduler.allocate.addresses import needs_addresses
from essaim.scheduler.loop import Decision
from essaim.scheduler.restart import is_held_back

from .filters import Request, dynamic_filters, explain, passes, request_of
from .placement import Placing, StaticChecks
from .resources import with_generic
from .view import ClusterView, NodeState

SLICE = 3000
"""Tasks a round."""
TELL_EVERY = timedelta(seconds=2)
"""A reason that changes is written at most this often for a group: it may have thousands of tasks."""
STRATEGY_LABEL = "essaim.placement.strategy"

BEGINNING = datetime.min.replace(tzinfo=UTC)
"""Before the first decision: all that is held back waits until then."""

Group = tuple[str, int]


def is_waiting(task: Task) -> bool:
    """Its addresses, where it is to have some, come first (`addressing`)."""
    return task.state < TaskState.ASSIGNED and task.desired <= TaskState.COMPLETE and not needs_addresses(task)


def _key(group: Group) -> str:
    return f"{group[0]} {group[1]}"


def group_of(task: Task) -> Group:
    return (task.service_id or task.id, task.spec_version.index if task.spec_version else 0)


class Placer:
    name = "placement"
    tables = ("tasks", "nodes", "clusters")

    def __init__(self, faults: Faults | None = None) -> None:
        self._walls = Walls("its tasks cannot be placed", faults)
        self._observing = Walls("one of its tasks cannot be read", faults)
        self.view = ClusterView()
        self._static = StaticChecks()
        self._waiting: dict[Group, dict[str, Task]] = {}
        self._groups: dict[str, Group] = {}
        self._due: dict[Group, None] = {}
        self._told: dict[Group, datetime] = {}
        self._tell_at: dict[Group, datetime] = {}
        self._strategy = "spread"
        self._now = BEGINNING
        self._later = Agenda()
        """Ids of tasks that are held back until their time (`restart`)."""
        self._carried: tuple[Group, int, Placing] | None = None
        """A group that was not finished in one round goes on where it was, if nothing else has happened since."""

    def reset(self, store: Store) -> None:
        self._walls.reset()
        self._static.clear()
        self._waiting.clear()
        self._groups.clear()
        self._due.clear()
        self._told.clear()
        self._tell_at.clear()
        self._later.clear()
        self._carried = None
        self._take_strategy(store)
        self.view.reset(store.nodes, ())
        for task in store.tasks:
            self._observe_task(Event("create", "tasks", task, None))

    def observe(self, events: list[Event]) -> None:
        room = False
        for event in events:
            if event.table == "tasks":
                room = self._observe_task(event) or room
            elif event.table == "nodes":
                room = True
                if event.kind == "delete":
                    self.view.remove_node(event.object.id)
                else:
                    self.view.put_node(event.object)
            else:
                room = True
        if room:
            self._due.update(dict.fromkeys(self._waiting))

    def _observe_task(self, event: Event) -> bool:
        """Take in a task; whether room came free."""
        task: Task = event.object
        if event.kind == "delete":
            self._observing.clear(task.id)
            self._no_longer(task)
            return self.view.remove(task.id)
        return self._observing.guard(task.id, task.service_id or "", self._take_in, False, task, event.old)

    def _take_in(self, task: Task, old: Task | None) -> bool:
        if not is_waiting(task):
            self._no_longer(task)
        elif is_held_back(task, self._now):
            self._no_longer(task)
            self._later.at(task.start_after or self._now, task.id)
        else:
            only_told = old is not None and task.status.err != old.status.err
            self._wait(task, due=not only_told)
        return self.view.put(task)

    def _wait(self, task: Task, *, due: bool = True) -> None:
        group = group_of(task)
        if self._groups.get(task.id, group) != group:
            self._no_longer(task)
        self._groups[task.id] = group
        self._waiting.setdefault(group, {})[task.id] = task
        if due:
            self._due[group] = None

    def _no_longer(self, task: Task) -> None:
        group = self._groups.pop(task.id, None)
        if group is not None and (waiting := self._waiting.get(group)) is not None:
            waiting.pop(task.id, None)
            if not waiting:
                del self._waiting[group]
                self._due.pop(group, None)
                self._told.pop(group, None)
                self._tell_at.pop(group, None)
                self._walls.clear(_key(group))

    def _take_strategy(self, store: Store) -> None:
        cluster = store.cluster
        strategy = (cluster.spec.placement_strategy if cluster else None) or "spread"
        if strategy != self._strategy:
            self._strategy, self._carried = strategy, None

    def decide(self, store: Store, now: datetime) -> Decision:
        self._take_strategy(store)
        self._now = now
        for task_id in self._later.take(now, SLICE):
            if (task := store.tasks.get(task_id)) is not None:
                self._observe_task(Event("update", "tasks", task, None))
        for group, when in list(self._tell_at.items()):
            if when <= now:
                del self._tell_at[group]
                self._due[group] = None
        found: list[Change] = []
        while self._due and len(found) < SLICE:
            group = next(iter(self._due))
            waiting = self._waiting.get(group)
            room = SLICE - len(found)
            if waiting is None or self._attempt(group, waiting, room, now, found):
                del self._due[group]
            if waiting is not None and not waiting:
                self._waiting.pop(group, None)
        decision = Decision(found, min(self._tell_at.values(), default=None), bool(self._due) or self._later.has_due)
        decision.look_again(self._later.next_time())
        return decision

    def _attempt(self, group: Group, waiting: dict[str, Task], room: int, now: datetime, found: list[Change]) -> bool:
        """As `_decide_group`; a group that cannot be decided about is looked at again later."""
        key = _key(group)
        subject = next(iter(waiting.values())).spec
        decide = partial(self._decide_group, group, waiting, room, now, found)
        is_done = self._walls.attempt(key, subject, now, decide, True, group[0])
        if (again := self._walls.retry_at(key)) is not None:
            self._tell_at[group] = again
        return is_done

    def _decide_group(
        self, group: Group, waiting: dict[str, Task], room: int, now: datetime, found: list[Change]
    ) -> bool:
        """Place up to `room` tasks of a group; whether nothing is left to be done for it now."""
        first = next(iter(waiting.values()))
        strategy = (first.service_labels or {}).get(STRATEGY_LABEL) or self._strategy
        request = request_of(first, strategy)
        placing = self._take_carried(group)
        touched: dict[str, NodeState] = {}
        stuck: dict[str, list[Task]] = {}
        unfinished = False
        try:
            for task in list(waiting.values()):
                if room <= 0:
                    break
                if task.node_id:
                    state = self._preassigned(request, task)
                elif "" in stuck:
                    state = None  # all tasks of a group are equal: what has no room for one has none for the next
                else:
                    placing = placing or Placing(self.view, request, self._static, now)
                    state = placing.next()
                if state is None:
                    stuck.setdefault(task.node_id or "", []).append(task)
                    continue
                assigned = assign(task, state, request, now)
                found.append(changes.put("tasks", assigned))
                self.view.put(assigned, rerank=False)
                touched[state.node.id] = state
                del waiting[task.id]
                self._groups.pop(task.id, None)
                room -= 1
            unfinished = room <= 0 and bool(waiting) and placing is not None
        finally:
            self.view.rerank(touched.values(), keep_order=unfinished)
        if unfinished and placing is not None:
            self._carried = (group, self.view.epoch, placing)
        if stuck:
            self._tell(group, request, stuck, now, found)
        return room > 0

    def _take_carried(self, group: Group) -> Placing | None:
        carried, self._carried = self._carried, None
        return carried[2] if carried is not None and carried[:2] == (group, self.view.epoch) else None

    def _preassigned(self, request: Request, task: Task) -> NodeState | None:
        state = self.view.nodes.get(task.node_id or "")
        if state is None or not self._static.of(request)(state):
            return None
        return state if passes(dynamic_filters(request), request, state) else None

    def _tell(
        self, group: Group, request: Request, stuck: dict[str, list[Task]], now: datetime, found: list[Change]
    ) -> None:
        """Write into the tasks why they wait."""
        told = self._told.get(group)
        early = told is not None and now - told < TELL_EVERY
        wrote = False
        for node_id, tasks in stuck.items():
            own = self.view.nodes.get(node_id)
            reason = explain(request, [own] if own else [] if node_id else self.view.nodes.values())
            for task in tasks:
                if task.status.err == reason:
                    continue
                if early and task.status.err:
                    self._tell_at[group] = (told or now) + TELL_EVERY
                    continue
                status = TaskStatus(timestamp=now, state="pending", message="pending task scheduling", err=reason)
                found.append(changes.put("tasks", msgspec.structs.replace(task, status=status)))
                wrote = True
        if wrote:
            self._told[group] = now


def assign(task: Task, state: NodeState, request: Request, now: datetime) -> Task:
    """The task, bound to the node."""
    status = TaskStatus(timestamp=now, state="assigned", message="scheduler assigned task to node")
    bound = msgspec.structs.replace(task, node_id=state.node.id, status=status)
    return with_generic(bound, state.stock, request.demand)
