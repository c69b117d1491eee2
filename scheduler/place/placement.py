"""Placement: which nodes a group of equal tasks goes to.

Strategies:
- spread (Swarm's): the node with the fewest tasks of the service, then with the fewest tasks, then the oldest one.
  Nodes where the service keeps failing come last, whatever their load.
- spread over preferences: tasks are divided evenly over the values of the first label, within each over the values of
  the next, and within the last as above.
- binpack: the fullest node that still has room (by the scarcer of CPU and memory reserved, then by tasks).

Cost: nodes without a task of the service are taken from one order of all nodes by load, read only as far as needed;
a group of k tasks looks at about k nodes, not at all of them (1,000 or 10,000 nodes: the same time a task). All tasks
of a group are equal, so a node that refuses one is out for the rest.

Pure: a view in (and brought up to date), nodes out.
"""

import heapq
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Protocol

from essaim.scheduler.constraints import lookup

from .filters import STATIC, Request, dynamic_filters, passes
from .resources import Stock
from .view import ClusterView, NodeState

Key = tuple[int | float, ...]


class Source(Protocol):
    """Gives nodes, best first. `give_back` after a task was put on the node; without it the node is out."""

    def take(self) -> NodeState | None: ...

    def give_back(self, state: NodeState) -> None: ...


class StaticChecks:
    """The verdicts of the static filters, remembered per kind of request and node."""

    def __init__(self) -> None:
        self._known: dict[tuple[object, ...], dict[str, tuple[int, bool]]] = {}

    def clear(self) -> None:
        self._known.clear()

    def of(self, request: Request) -> Callable[[NodeState], bool]:
        if len(self._known) > 1000:
            self._known.clear()
        known = self._known.setdefault(request.static_key, {})

        def check(state: NodeState) -> bool:
            node_id = state.node.id
            found = known.get(node_id)
            if found is None or found[0] != state.generation:
                found = known[node_id] = (state.generation, passes(STATIC, request, state))
            return found[1]

        return check


class Spread:
    """All nodes in Swarm's order, lazily."""

    def __init__(self, view: ClusterView, request: Request, fits: Callable[[NodeState], bool], now: datetime) -> None:
        self._view = view
        self._request = request
        self._fits = fits
        self._failing = view.failing(request.service_id, request.version, now)
        on = view.on(request.service_id)
        self._heap: list[tuple[Key, NodeState]] = []
        known = {*on, *self._failing}
        for node_id in known:
            state = view.nodes.get(node_id)
            if state is not None and fits(state):
                self._heap.append((self._key(state), state))
        heapq.heapify(self._heap)
        self._fresh = self._unused(known)
        self._head = next(self._fresh, None)

    def _key(self, state: NodeState) -> Key:
        failing = state.node.id in self._failing
        return (failing, state.services[self._request.service_id], state.tasks, state.seq)

    def _unused(self, known: set[str]) -> Iterator[NodeState]:
        """Nodes without a task of the service, least loaded first."""
        nodes, fits = self._view.nodes, self._fits
        for _, _, node_id in self._view.by_total:
            if node_id not in known and fits(state := nodes[node_id]):
                yield state

    def take(self) -> NodeState | None:
        head = self._head
        if head is not None and (not self._heap or (0, 0, head.tasks, head.seq) < self._heap[0][0]):
            self._head = next(self._fresh, None)
            return head
        return heapq.heappop(self._heap)[1] if self._heap else None

    def give_back(self, state: NodeState) -> None:
        heapq.heappush(self._heap, (self._key(state), state))


class Binpack:
    """The fullest node first, until it is full."""

    def __init__(self, view: ClusterView, request: Request, fits: Callable[[NodeState], bool], now: datetime) -> None:
        failing = view.failing(request.service_id, request.version, now)
        states = [state for state in view.nodes.values() if fits(state)]
        states.sort(key=lambda s: (s.node.id in failing, -fullness(s), -s.tasks, s.seq), reverse=True)
        self._rest = states

    def take(self) -> NodeState | None:
        return self._rest.pop() if self._rest else None

    def give_back(self, state: NodeState) -> None:
        self._rest.append(state)


def fullness(state: NodeState) -> float:
    """The reserved part of the node's scarcer resource, 0 to 1."""
    whole = Stock.of(state.node.description.resources if state.node.description else None)
    cpu = 1 - state.stock.cpu / whole.cpu if whole.cpu else 0.0
    memory = 1 - state.stock.memory / whole.memory if whole.memory else 0.0
    return max(cpu, memory)


class Leaf:
    """The nodes of one combination of label values."""

    def __init__(self, states: list[NodeState], service_id: str, failing: frozenset[str]) -> None:
        self._service_id = service_id
        self._failing = failing
        self.count: int = sum(state.services[service_id] for state in states)
        self._heap = [(self._key(state), state) for state in states]
        heapq.heapify(self._heap)

    def _key(self, state: NodeState) -> Key:
        return (state.node.id in self._failing, state.services[self._service_id], state.tasks, state.seq)

    def take(self) -> NodeState | None:
        return heapq.heappop(self._heap)[1] if self._heap else None

    def give_back(self, state: NodeState) -> None:
        self.count += 1
        heapq.heappush(self._heap, (self._key(state), state))


class Branch:
    """The values of one label; the one with the fewest tasks of the service is next."""

    def __init__(self, children: "list[tuple[str, Leaf | Branch]]") -> None:
        self.count: int = sum(child.count for _, child in children)
        self._heap = [(child.count, value, child) for value, child in children]
        heapq.heapify(self._heap)
        self._path: dict[str, tuple[str, Leaf | Branch]] = {}

    def take(self) -> NodeState | None:
        while self._heap:
            _, value, child = self._heap[0]
            state = child.take()
            if state is not None:
                self._path[state.node.id] = (value, child)
                return state
            heapq.heappop(self._heap)
        return None

    def give_back(self, state: NodeState) -> None:
        value, child = self._path[state.node.id]
        child.give_back(state)
        self.count += 1
        # A child is taken from only while it is first, and given back to before the next is taken.
        heapq.heapreplace(self._heap, (child.count, value, child))


def tree(states: list[NodeState], request: Request, failing: frozenset[str], depth: int = 0) -> Leaf | Branch:
    if depth == len(request.preferences):
        return Leaf(states, request.service_id, failing)
    values: dict[str, list[NodeState]] = {}
    for state in states:
        values.setdefault(lookup(state.node, request.preferences[depth]), []).append(state)
    return Branch([(value, tree(group, request, failing, depth + 1)) for value, group in sorted(values.items())])


def source(view: ClusterView, request: Request, static: StaticChecks, now: datetime) -> Source:
    fits = static.of(request)
    if request.strategy == "binpack":
        return Binpack(view, request, fits, now)
    if request.preferences:
        failing = view.failing(request.service_id, request.version, now)
        return tree([s for s in view.nodes.values() if fits(s)], request, failing)
    return Spread(view, request, fits, now)


class Placing:
    """Places the tasks of one group, one after the other."""

    def __init__(self, view: ClusterView, request: Request, static: StaticChecks, now: datetime) -> None:
        self._request = request
        self._source = source(view, request, static, now)
        self._filters = dynamic_filters(request)
        self._last: NodeState | None = None

    def next(self) -> NodeState | None:
        """The node for one more task, or None when there is none. The caller enters the task into the view at once."""
        if self._last is not None:
            self._source.give_back(self._last)
            self._last = None
        filters = self._filters
        while (state := self._source.take()) is not None:
            if not filters or passes(filters, self._request, state):
                self._last = state
                return state
        return None
