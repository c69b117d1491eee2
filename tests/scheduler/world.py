"""A whole cluster without time, network or disk: the store, the real loops, and simulated agents, one step at a time.

`World.step()` gives every loop and every agent one turn; `settle()` steps until nothing changes any more; `pass_time`
moves the clock. Tests say what goes wrong; nothing here is random unless the test's own chance is.
"""

import os
import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from essaim.cluster import changes
from essaim.cluster.changes import Change, ChangeSet, Delete, NodeReport, Put, Report
from essaim.cluster.container import ContainerSpec
from essaim.cluster.node import Node, NodeDescription, NodeSpec, NodeStatus
from essaim.cluster.service import (
    EndpointSpec,
    Platform,
    PortConfig,
    Replicated,
    Resources,
    Service,
    ServiceMode,
    ServiceSpec,
    TaskSpec,
)
from essaim.cluster.shape import Version
from essaim.cluster.store import Outcome, Rejected, Store
from essaim.cluster.swarm import Cluster, default_spec
from essaim.cluster.task import ContainerStatus, Task, TaskEndpoint, TaskState, TaskStatus
from essaim.cluster.walls import Faults
from essaim.cluster.watch import Watch
from essaim.scheduler.leader import all_loops
from essaim.scheduler.loop import Loop
from essaim.scheduler.refusals import Refusals

LONG = bool(os.environ.get("ESSAIM_TEST_LONG"))
"""Properties are tried with the same examples each time, so that CI is steady; with --long with many new ones."""

START = datetime(2026, 1, 1, tzinfo=UTC)
GB = 1 << 30

Ends = Callable[[Task], str | None]
"""What becomes of a task that should start: None, it runs; else the state it ends in."""


@dataclass
class Agent:
    """Takes its tasks one step further each turn, as a node would. A node that is cut off does nothing."""

    node_id: str
    connected: bool = True
    tasks: dict[str, TaskState] = field(default_factory=dict)

    def turn(self, world: "World") -> list[Change]:
        if not self.connected:
            return []
        reports: list[Change] = []
        assigned = {t.id: t for t in world.store.tasks.by("node", self.node_id) if t.state >= TaskState.ASSIGNED}
        for task_id in list(self.tasks):
            if task_id not in assigned:
                del self.tasks[task_id]
        for task in assigned.values():
            known = self.tasks.setdefault(task.id, task.state)
            if task.is_terminal:
                self.tasks[task.id] = task.state
                continue
            state = self._next(known, task, world)
            if state != known:
                self.tasks[task.id] = state
                reports.append(Report(task.id, self.node_id, self._status(state, world), self._endpoints(state, task)))
        return reports

    def _next(self, known: TaskState, task: Task, world: "World") -> TaskState:
        if known >= TaskState.COMPLETE:
            return known
        if task.desired > TaskState.COMPLETE:
            return TaskState.SHUTDOWN
        if known < TaskState.READY:
            return TaskState.REJECTED if world.rejects(task) else TaskState.READY
        if task.desired < TaskState.RUNNING:
            return known
        end = world.ends(task)
        return TaskState.of(end) if end else TaskState.RUNNING

    def _status(self, state: TaskState, world: "World") -> TaskStatus:
        if state == TaskState.REJECTED:
            return TaskStatus(timestamp=world.now, state=state.label, message="preparing", err="no such image")
        ran = ContainerStatus(exit_code=1) if state == TaskState.FAILED else None
        return TaskStatus(timestamp=world.now, state=state.label, message="reported", container_status=ran)

    def _endpoints(self, state: TaskState, task: Task) -> list[TaskEndpoint] | None:
        if state != TaskState.RUNNING or not task.ports:
            return None
        return [
            TaskEndpoint(protocol=p.protocol or "tcp", target_port=p.target_port or 0, address="127.0.0.1", port=40000)
            for p in task.ports
        ]


class World:
    def __init__(self, seed: int = 0) -> None:
        self.store = Store()
        self.now = START
        self.index = 0
        self.chance = random.Random(seed)
        self.agents: dict[str, Agent] = {}
        self.ends: Ends = lambda task: None
        self.rejects: Callable[[Task], bool] = lambda task: False
        """Which tasks nodes turn away while they prepare them."""
        self.checks: list[Callable[[World], None]] = []
        self.put("clusters", Cluster(id="cluster", spec=default_spec()))
        self._watches: list[Watch] = []
        self.loops: list[tuple[Loop, Watch]] = []
        self.refusals: dict[str, Refusals] = {}
        self.faults = Faults()
        self.refuses: Callable[[Change], bool] = lambda change: False
        """Which changes of loops the log does not take, as if their objects had changed meanwhile."""
        self.notes: list[str] = []
        self.new_leader()

    # -- the log ------------------------------------------------------------------------------------------------

    def write(self, proposed: Sequence[Change], *, atomic: bool = False) -> Outcome:
        self.index += 1
        command = changes.encode(ChangeSet(list(proposed), self.now, atomic))
        outcome: Outcome = self.store.apply(self.index, command)
        for check in self.checks:
            check(self)
        return outcome

    def put(self, table: str, value: Any) -> Any:
        """Write an object as it is, whatever its version; as stored."""
        self.index += 1
        self.store.apply(self.index, changes.encode(ChangeSet([changes.put(table, value, force=True)], self.now)))
        return self.store.tables[table].get(value.id)

    # -- turns --------------------------------------------------------------------------------------------------

    def new_leader(self) -> None:
        """All loops anew, from the store alone."""
        for _, watch in self.loops:
            watch.__exit__()
        self.loops = []
        self.refusals = {}
        self.faults = Faults()
        for loop in all_loops(self.chance, self.faults):
            watch = self.store.watch(*loop.tables)
            watch.__enter__()
            loop.reset(self.store)
            self.loops.append((loop, watch))
            self.refusals[loop.name] = Refusals()

    def turn(self, loop: Loop, watch: Watch) -> bool:
        """One decision of one loop; whether it wrote anything."""
        refusals = self.refusals[loop.name]
        if events := watch.drain() + refusals.events(self.store):
            loop.observe(events)
        decision = loop.decide(self.store, self.now)
        self.notes += decision.notes
        if decision.changes:
            taken = [change for change in decision.changes if not self.refuses(change)]
            outcome = self.write(taken)
            refused = [rejection(change) for change in decision.changes if change not in taken]
            refusals.take(self.store, decision.changes, [*outcome.rejected, *refused])
        return bool(decision.changes) or decision.more

    def step(self) -> bool:
        """Every loop and every agent once; whether anything happened."""
        busy = [self.turn(loop, watch) for loop, watch in self.loops]
        for agent in self.agents.values():
            if reports := agent.turn(self):
                self.write(reports)
                busy.append(True)
        return any(busy)

    def settle(self, limit: int = 300) -> None:
        for _ in range(limit):
            if not self.step():
                return
        raise AssertionError(f"not settled after {limit} steps")

    def pass_time(self, seconds: float, *, step: float = 1.0) -> None:
        """Let time go by, settling every `step` seconds."""
        end = self.now + timedelta(seconds=seconds)
        while self.now < end:
            self.now = min(end, self.now + timedelta(seconds=step))
            self.settle()

    # -- the cluster --------------------------------------------------------------------------------------------

    def add_node(
        self,
        node_id: str,
        *,
        cpus: float = 4,
        memory: int = 8 * GB,
        labels: dict[str, str] | None = None,
        role: str = "worker",
        resources: Resources | None = None,
    ) -> Node:
        node = Node(
            id=node_id,
            spec=NodeSpec(role=role, labels=labels),
            description=NodeDescription(
                hostname=node_id,
                platform=Platform(architecture="x86_64", os="linux"),
                resources=resources or Resources(nano_cpus=int(cpus * 1e9), memory_bytes=memory),
                data_addr="127.0.0.1",
            ),
            status=NodeStatus(state="ready", addr="127.0.0.1"),
        )
        self.agents[node_id] = Agent(node_id)
        stored: Node = self.put("nodes", node)
        return stored

    def add_nodes(self, count: int) -> list[Node]:
        return [self.add_node(f"n{i}") for i in range(1, count + 1)]

    def change_node(self, node_id: str, **spec: Any) -> None:
        node = self.store.nodes.get(node_id)
        assert node is not None
        self.put("nodes", msgspec.structs.replace(node, spec=msgspec.structs.replace(node.spec, **spec)))

    def node_down(self, node_id: str) -> None:
        self.agents[node_id].connected = False
        self.write([NodeReport(node_id, NodeStatus(state="down", addr="127.0.0.1", message="heartbeat failure"))])

    def node_back(self, node_id: str) -> None:
        self.agents[node_id].connected = True
        self.write([NodeReport(node_id, NodeStatus(state="ready", addr="127.0.0.1"))])

    def add_service(self, spec: ServiceSpec, **fields: Any) -> Service:
        service = Service(id=f"svc-{spec.name}", spec=spec, spec_version=Version(index=self.index + 1), **fields)
        stored: Service = self.put("services", service)
        return stored

    def update_service(self, service_id: str, spec: ServiceSpec) -> Service:
        """As the API does it: the old specification is kept, the update status cleared."""
        service = self.service(service_id)
        changed = msgspec.structs.replace(
            service,
            spec=spec,
            previous_spec=service.spec,
            spec_version=Version(index=self.index + 1),
            previous_spec_version=service.spec_version,
            update_status=None,
        )
        stored: Service = self.put("services", changed)
        return stored

    def remove_service(self, service_id: str) -> None:
        self.write([changes.Delete("services", service_id)])

    # -- looking ------------------------------------------------------------------------------------------------

    def service(self, service_id: str) -> Service:
        service = self.store.services.get(service_id)
        assert service is not None
        return service

    def tasks(self, service_id: str) -> list[Task]:
        return self.store.tasks.by("service", service_id)

    def live(self, service_id: str) -> list[Task]:
        return [t for t in self.tasks(service_id) if t.is_live]

    def running(self, service_id: str) -> list[Task]:
        return [t for t in self.live(service_id) if t.state == TaskState.RUNNING]

    def per_node(self, service_id: str) -> dict[str, int]:
        found: dict[str, int] = {}
        for task in self.running(service_id):
            found[task.node_id or ""] = found.get(task.node_id or "", 0) + 1
        return found


def rejection(change: Change) -> Rejected:
    """What the store says when an object has changed meanwhile."""
    assert isinstance(change, Put | Delete)
    object_id = change.id if isinstance(change, Delete) else msgspec.msgpack.decode(change.object)["ID"]
    return Rejected("version", change.table, object_id)


def replicated(name: str, replicas: int, *, image: str = "web:1", **fields: Any) -> ServiceSpec:
    """`template` fields of the task are given as `task_fields`, ports as (published, target)."""
    task_fields = fields.pop("task_fields", {})
    ports: Iterable[tuple[int, int]] = fields.pop("ports", ())
    if ports:
        fields["endpoint_spec"] = EndpointSpec(
            ports=[PortConfig(protocol="tcp", target_port=t, published_port=p or None) for p, t in ports]
        )
    return ServiceSpec(
        name=name,
        task_template=TaskSpec(container_spec=ContainerSpec(image=image), **task_fields),
        mode=fields.pop("mode", ServiceMode(replicated=Replicated(replicas=replicas))),
        **fields,
    )


def with_image(spec: ServiceSpec, image: str) -> ServiceSpec:
    assert spec.task_template is not None
    container = msgspec.structs.replace(spec.task_template.container_spec, image=image)
    return msgspec.structs.replace(
        spec, task_template=msgspec.structs.replace(spec.task_template, container_spec=container)
    )


def image_of(task: Task) -> str:
    assert task.spec.container_spec is not None
    return task.spec.container_spec.image or ""


def with_replicas(spec: ServiceSpec, replicas: int) -> ServiceSpec:
    return msgspec.structs.replace(spec, mode=ServiceMode(replicated=Replicated(replicas=replicas)))
