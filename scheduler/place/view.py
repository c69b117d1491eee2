"""The scheduler's view of the nodes: what runs where, what is left, who failed where. Derived from the store alone.

Every task counts by its id, so taking in the same task twice changes nothing: a placement is entered at once, and the
store's event about it later confirms or corrects it.

- A task counts for spreading while it is meant to run; its reservations and host ports are held until it has ended.

Pure: tasks and nodes in, counts out.
"""

from collections import Counter, deque
from collections.abc import Iterable
from datetime import datetime, timedelta

from sortedcontainers import SortedList

from essaim.cluster.node import Node
from essaim.cluster.task import Task, TaskState

from .resources import Stock, demand_of

FAILURES = 5
FAILURE_MEMORY = timedelta(minutes=5)
"""A node where a service (in one version) failed this often within this time is taken only if there is no other."""

HostPort = tuple[str, int]


class NodeState:
    """One node. `seq` orders nodes that are otherwise equal."""

    __slots__ = ("generation", "holding", "node", "ports", "rank", "seq", "services", "stock", "tasks")

    def __init__(self, node: Node, seq: int) -> None:
        self.node = node
        self.seq = seq
        self.tasks = 0
        self.services: Counter[str] = Counter()
        self.ports: Counter[HostPort] = Counter()
        self.holding: dict[str, Task] = {}
        self.stock = Stock.of(node.description.resources if node.description else None)
        self.rank: tuple[int, int, str] = (0, seq, node.id)
        self.generation = 0


def host_ports(task: Task) -> list[HostPort]:
    return [
        (port.protocol or "tcp", port.published_port)
        for port in task.ports or ()
        if port.publish_mode == "host" and port.published_port
    ]


def counts(task: Task) -> bool:
    """It is meant to run where it is."""
    return task.desired <= TaskState.COMPLETE and task.state < TaskState.COMPLETE


def holds(task: Task) -> bool:
    """It was placed and has not ended: its reservations are taken."""
    return task.node_id is not None and TaskState.ASSIGNED <= task.state < TaskState.COMPLETE


class ClusterView:
    def __init__(self) -> None:
        self.nodes: dict[str, NodeState] = {}
        self.by_total: SortedList = SortedList()
        self._on: dict[str, dict[str, int]] = {}
        self._tasks: dict[str, Task] = {}
        self._homeless: dict[str, dict[str, Task]] = {}
        self._failures: dict[tuple[str, int], dict[str, deque[datetime]]] = {}
        self._seq = 0
        self.epoch = 0
        """Grows with every change but for a task that comes again as it is known."""

    def reset(self, nodes: Iterable[Node], tasks: Iterable[Task]) -> None:
        for known in (self.nodes, self.by_total, self._on, self._tasks, self._homeless, self._failures):
            known.clear()
        self.epoch += 1
        for node in nodes:
            self.put_node(node)
        for task in tasks:
            self.put(task)

    # -- nodes --------------------------------------------------------------------------------------------------

    def put_node(self, node: Node) -> None:
        self.epoch += 1
        old = self.nodes.get(node.id)
        self._seq += old is None
        state = NodeState(node, old.seq if old else self._seq)
        state.generation = old.generation + 1 if old else 0
        if old is not None:
            self.by_total.discard(old.rank)
        self.nodes[node.id] = state
        tasks = old.holding.values() if old else self._homeless.pop(node.id, {}).values()
        for task in tasks:
            self._enter(state, task, count=old is None)
        self._rerank(state)

    def remove_node(self, node_id: str) -> None:
        state = self.nodes.pop(node_id, None)
        if state is None:
            return
        self.epoch += 1
        self.by_total.discard(state.rank)
        self._homeless[node_id] = state.holding
        for service_id in state.services:
            self._on.get(service_id, {}).pop(node_id, None)

    def rerank(self, states: Iterable[NodeState], *, keep_order: bool = False) -> None:
        """After placements: put the nodes where they belong in the order of load.

        `keep_order`: somebody still reads the present order; make a new one beside it.
        """
        states = list(states)
        if len(states) * 4 < len(self.nodes) and not keep_order:
            for state in states:
                self._rerank(state)
            return
        for state in states:
            state.rank = (state.tasks, state.seq, state.node.id)
        self.by_total = SortedList(state.rank for state in self.nodes.values())

    def _rerank(self, state: NodeState) -> None:
        self.by_total.discard(state.rank)
        state.rank = (state.tasks, state.seq, state.node.id)
        self.by_total.add(state.rank)

    # -- tasks --------------------------------------------------------------------------------------------------

    def put(self, task: Task, *, rerank: bool = True) -> bool:
        """Take in a task as it is now; whether room came free."""
        old = self._tasks.get(task.id)
        if not holds(task):
            freed = self.remove(task.id)
            if task.state in (TaskState.FAILED, TaskState.REJECTED):
                self._note_failure(task)
            return freed
        self._tasks[task.id] = task
        if old is not None and self._same(old, task):
            self._held_by(task)[task.id] = task
            return False
        self.epoch += 1
        freed = old is not None and self._leave(old, rerank=rerank)
        state = self.nodes.get(task.node_id or "")
        if state is None:
            self._homeless.setdefault(task.node_id or "", {})[task.id] = task
            return freed
        self._enter(state, task)
        if rerank:
            self._rerank(state)
        return freed

    def remove(self, task_id: str) -> bool:
        old = self._tasks.pop(task_id, None)
        self.epoch += old is not None
        return old is not None and self._leave(old)

    def _held_by(self, task: Task) -> dict[str, Task]:
        state = self.nodes.get(task.node_id or "")
        return state.holding if state else self._homeless.setdefault(task.node_id or "", {})

    @staticmethod
    def _same(old: Task, new: Task) -> bool:
        return (
            old.node_id == new.node_id
            and counts(old) == counts(new)
            and old.spec.resources == new.spec.resources
            and old.ports == new.ports
        )

    def _enter(self, state: NodeState, task: Task, *, count: bool = True) -> None:
        state.holding[task.id] = task
        state.stock.take(demand_of(task.spec), task.assigned_generic_resources or ())
        if task.ports:
            state.ports.update(host_ports(task))
        if counts(task):
            state.tasks += 1
            service = task.service_id or ""
            state.services[service] += 1
            if count:
                on = self._on.setdefault(service, {})
                on[state.node.id] = on.get(state.node.id, 0) + 1

    def _leave(self, task: Task, *, rerank: bool = True) -> bool:
        state = self.nodes.get(task.node_id or "")
        if state is None:
            self._homeless.get(task.node_id or "", {}).pop(task.id, None)
            return False
        state.holding.pop(task.id, None)
        state.stock.take(demand_of(task.spec), task.assigned_generic_resources or (), -1)
        if task.ports:
            state.ports.subtract(host_ports(task))
        if counts(task):
            state.tasks -= 1
            service = task.service_id or ""
            self._less(state.services, service)
            on = self._on.get(service)
            if on is not None:
                on[state.node.id] = on.get(state.node.id, 0) - 1
                if on[state.node.id] <= 0:
                    del on[state.node.id]
        if rerank:
            self._rerank(state)
        return True

    @staticmethod
    def _less(counter: Counter[str], key: str) -> None:
        counter[key] -= 1
        if counter[key] <= 0:
            del counter[key]

    def on(self, service_id: str) -> dict[str, int]:
        """Node -> number of the service's tasks there, where there are any."""
        return self._on.get(service_id, {})

    # -- failures -----------------------------------------------------------------------------------------------

    def _note_failure(self, task: Task) -> None:
        if not task.node_id or not task.service_id:
            return
        key = (task.service_id, task.spec_version.index if task.spec_version else 0)
        times = self._failures.setdefault(key, {}).setdefault(task.node_id, deque(maxlen=FAILURES))
        if not times or times[-1] < task.updated_at:
            times.append(task.updated_at)

    def failing(self, service_id: str, version: int, now: datetime) -> frozenset[str]:
        """Nodes where that version of the service keeps failing."""
        by_node = self._failures.get((service_id, version))
        if not by_node:
            return frozenset()
        for node_id, times in list(by_node.items()):
            if now - times[-1] > FAILURE_MEMORY:
                del by_node[node_id]
        if not by_node:
            del self._failures[(service_id, version)]
        return frozenset(
            node_id for node_id, times in by_node.items() if len(times) == FAILURES and now - times[0] <= FAILURE_MEMORY
        )
