"""From any reachable state the loops converge to what is declared, and on the way no rule is broken.

Hypothesis makes the history: nodes come, fail, return, are drained and removed; services are made, changed, scaled and
removed; tasks fail; loops take their turns one by one, are reset by a change of leader, and lose writes.
"""

from collections import Counter
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from essaim.cluster import changes
from essaim.cluster.container import ContainerSpec, Mount
from essaim.cluster.service import (
    Empty,
    Placement,
    Replicated,
    ResourceRequirements,
    Resources,
    RestartPolicy,
    ServiceMode,
    ServiceSpec,
    TaskSpec,
    UpdateConfig,
)
from essaim.cluster.task import Task, TaskState
from essaim.cluster.watch import Event
from tests.scheduler.world import LONG, World, image_of

NANO = 1_000_000_000
SECONDS = st.integers(0, 3).map(lambda n: n * NANO)

updates = st.builds(
    UpdateConfig,
    parallelism=st.integers(0, 3),
    delay=SECONDS,
    monitor=SECONDS,
    order=st.sampled_from(["stop-first", "start-first"]),
    failure_action=st.sampled_from(["continue", "pause", "rollback"]),
    max_failure_ratio=st.sampled_from([0.0, 0.3, 1.0]),
)
containers = st.builds(
    ContainerSpec,
    image=st.sampled_from(["web:1", "web:2", "web:3"]),
    mounts=st.sampled_from([None, [Mount(type="volume", source="data", target="/data")]]),
)
placements = st.builds(
    Placement,
    constraints=st.sampled_from([None, ["node.labels.zone==a"], ["node.labels.zone!=a"], ["node.hostname!=n1"]]),
    max_replicas=st.sampled_from([None, None, 1, 2]),
)
templates = st.builds(
    TaskSpec,
    container_spec=containers,
    placement=placements,
    restart_policy=st.builds(RestartPolicy, delay=SECONDS),
    resources=st.sampled_from(
        [None, ResourceRequirements(reservations=Resources(nano_cpus=NANO)), ResourceRequirements()]
    ),
)
modes = st.one_of(
    st.integers(0, 4).map(lambda n: ServiceMode(replicated=Replicated(replicas=n))),
    st.just(ServiceMode(global_=Empty())),
)
specs = st.builds(
    ServiceSpec, name=st.just(""), task_template=templates, mode=modes, update_config=updates, rollback_config=updates
)
names = st.sampled_from(["a", "b", "c"])


class Checked(RuleBasedStateMachine):
    """The world, and what must hold of it: after every write, and once everything has settled."""

    def __init__(self) -> None:
        super().__init__()
        self.watch_over(World())

    def watch_over(self, world: World) -> None:
        self.world = world
        self.failing = 0
        """How many of the next starts fail."""
        self.lossy = False
        """Nodes were lost: two copies may run until that is known."""
        self.events = world.store.watch("tasks", limit=1_000_000)
        self.events.__enter__()
        world.ends = self._ends
        world.checks.append(self._check_write)

    def _ends(self, task: Task) -> str | None:
        if self.failing:
            self.failing -= 1
            return "failed"
        return None

    # -- rules checked after every single write --------------------------------------------------------------------

    def _check_write(self, world: World) -> None:
        for event in self.events.drain():
            if event.kind != "delete" and self._was_placed(event):
                self._check_placement(event.object)
        self._check_slots()

    @staticmethod
    def _was_placed(event: Event) -> bool:
        new = event.object
        return new.state == TaskState.ASSIGNED and (event.old is None or event.old.state < TaskState.ASSIGNED)

    def _check_placement(self, task: Task) -> None:
        store = self.world.store
        node = store.nodes.get(task.node_id or "")
        if node is None:
            return  # removed between decision and write: the store takes it, and the orchestrator replaces it
        here = [t for t in store.tasks.by("node", node.id) if TaskState.ASSIGNED <= t.state < TaskState.COMPLETE]
        reserved = sum(self._cpus(t) for t in here)
        assert node.description is not None
        assert node.description.resources is not None
        assert reserved <= (node.description.resources.nano_cpus or 0), "a node is promised more than it has"
        placement = task.spec.placement or Placement()
        zone = (node.spec.labels or {}).get("zone")
        for constraint in placement.constraints or []:
            verdict = {
                "node.labels.zone==a": zone == "a",
                "node.labels.zone!=a": zone != "a",
                "node.hostname!=n1": node.hostname != "n1",
            }[constraint]
            assert verdict, f"{constraint} does not hold on {node.id}"
        # Tasks of another version may have been placed after it in the same write, under another limit.
        kin = (task.service_id, task.spec_version)
        same = [t for t in here if (t.service_id, t.spec_version) == kin and t.desired <= TaskState.RUNNING]
        assert not placement.max_replicas or len(same) <= placement.max_replicas
        assert node.is_ready
        assert node.spec.availability == "active"

    @staticmethod
    def _cpus(task: Task) -> int:
        reserved = task.spec.resources.reservations if task.spec.resources else None
        return (reserved.nano_cpus if reserved else None) or 0

    def _check_slots(self) -> None:
        """At most one task a slot may run, two while one takes over start-first (or off a drained node)."""
        store = self.world.store
        running: Counter[tuple[str, Any]] = Counter()
        for task in store.tasks:
            node = store.nodes.get(task.node_id or "")
            lost = bool(task.node_id) and (node is None or node.status.state == "down")
            if not task.is_terminal and not lost and task.desired == TaskState.RUNNING:
                running[task.service_id or "", task.slot or task.node_id] += 1
        most = 3 if self.lossy else 2
        assert all(count <= most for count in running.values())
        if self.lossy:
            return
        for (service_id, place), count in running.items():
            service = store.services.get(service_id)
            if service is None or count < 2:
                continue
            orders = {c.order for c in (service.spec.update_config, service.spec.rollback_config) if c}
            template = service.spec.task_template
            stateful = bool(template and template.container_spec and template.container_spec.mounts)
            if stateful and orders == {"stop-first"}:
                self._must_be_handover_from_before(service_id, place)

    def _must_be_handover_from_before(self, service_id: str, place: Any) -> None:
        """Two at once although the service is stop-first now: one of them must stem from an older declaration."""
        versions = {
            t.spec_version
            for t in self.world.tasks(service_id)
            if t.is_live and (t.slot or t.node_id) == place and t.desired == TaskState.RUNNING
        }
        assert len(versions) > 1, "two tasks run in one slot of a stop-first service"

    # -- convergence -----------------------------------------------------------------------------------------------

    def teardown(self) -> None:
        world = self.world
        self.failing = 0
        for node in world.store.nodes:
            world.change_node(node.id, availability="active", labels={"zone": "ab"[int(node.id[1:]) % 2]})
            if not node.is_ready:
                world.node_back(node.id)
        for service in world.store.services:
            if service.update_status and service.update_status.state in ("paused", "rollback_paused"):
                world.put("services", msgspec.structs.replace(service, update_status=None))
        world.pass_time(400, step=10)
        self.failing = 0
        for service in world.store.services:
            self._check_converged(service.id)
        gone = [t.id for t in world.store.tasks if world.store.services.get(t.service_id or "") is None]
        assert gone == [], "tasks outlive their service"
        before = self._picture()
        world.new_leader()
        world.pass_time(60, step=20)
        assert self._picture() == before, "a settled cluster is left alone"

    def _picture(self) -> object:
        """All but the reasons of tasks that wait, which are told anew only when room may have come."""
        tasks = {(t.id, t.state, t.desired, t.node_id, t.spec_version) for t in self.world.store.tasks}
        return tasks, {s.id: s.version for s in self.world.store.services}

    def _check_converged(self, service_id: str) -> None:
        world = self.world
        service = world.service(service_id)
        live = world.live(service_id)
        template = service.spec.task_template
        assert template is not None
        assert template.container_spec is not None
        placement = template.placement or Placement()
        fitting = [n for n in world.store.nodes if self._fits(placement, n)]
        stuck = {t.slot or t.node_id for t in live if t.state != TaskState.RUNNING}
        places = Counter(t.slot or t.node_id for t in live)
        for place, count in places.items():
            # Start-first keeps the old task while its successor finds no place.
            assert count == 1 or (count == 2 and place in stuck), "more than one live task in a slot"
        if service.spec.mode and service.spec.mode.global_ is not None:
            assert set(places) <= {n.id for n in fitting}
            assert len(places) == len(fitting)
        else:
            mode = service.spec.mode
            assert mode is not None
            assert mode.replicated is not None
            assert len(places) == mode.replicated.replicas
        status = service.update_status
        paused = status is not None and status.state in ("paused", "rollback_paused")
        for task in live:
            if task.state != TaskState.RUNNING:
                assert task.status.err, f"{task.name} waits and does not say why"
            if not stuck and not paused:  # an update waits for a slot that finds no place
                assert image_of(task) == template.container_spec.image

    @staticmethod
    def _fits(placement: Placement, node: Any) -> bool:
        zone = (node.spec.labels or {}).get("zone")
        return all(
            {
                "node.labels.zone==a": zone == "a",
                "node.labels.zone!=a": zone != "a",
                "node.hostname!=n1": node.id != "n1",
            }[c]
            for c in placement.constraints or []
        )


class Cluster(Checked):
    """What may happen to it."""

    @initialize(nodes=st.integers(1, 3), seed=st.integers(0, 1000))
    def begin(self, nodes: int, seed: int) -> None:
        self.watch_over(World(seed))
        for _ in range(nodes):
            self.add_node()

    @rule()
    def add_node(self) -> None:
        number = len(self.world.agents) + 1
        if number <= 5:
            self.world.add_node(f"n{number}", cpus=3, labels={"zone": "ab"[number % 2]})

    @rule(name=names, spec=specs)
    def declare(self, name: str, spec: ServiceSpec) -> None:
        """A new service, or another declaration of one that is there (its mode stays what it is)."""
        spec = msgspec.structs.replace(spec, name=name)
        old = self.world.store.services.get(f"svc-{name}")
        if old is None and not self.world.tasks(f"svc-{name}"):
            self.world.add_service(spec)
        elif old is None:
            return  # the tasks of its namesake are still going; in a real cluster it would have another id
        elif (old.spec.mode and old.spec.mode.global_ is None) == (spec.mode and spec.mode.global_ is None):
            self.world.update_service(old.id, spec)

    @rule(name=names, count=st.integers(0, 6))
    def scale(self, name: str, count: int) -> None:
        service = self.world.store.services.get(f"svc-{name}")
        if service is not None and service.spec.mode and service.spec.mode.replicated is not None:
            mode = ServiceMode(replicated=Replicated(replicas=count))
            self.world.update_service(service.id, msgspec.structs.replace(service.spec, mode=mode))

    @rule(name=names)
    def remove_service(self, name: str) -> None:
        self.world.remove_service(f"svc-{name}")

    @rule(number=st.integers(1, 5))
    def lose_node(self, number: int) -> None:
        if f"n{number}" in self.world.agents:
            self.lossy = True
            self.world.node_down(f"n{number}")

    @rule(number=st.integers(1, 5))
    def return_node(self, number: int) -> None:
        if (node := self.world.store.nodes.get(f"n{number}")) is not None and not node.is_ready:
            self.world.node_back(f"n{number}")

    @rule(number=st.integers(1, 5))
    def remove_node(self, number: int) -> None:
        node = self.world.store.nodes.get(f"n{number}")
        if node is not None and len(self.world.store.nodes) > 1:
            self.lossy = True
            self.world.agents[node.id].connected = False
            self.world.write([changes.Delete("nodes", node.id)])

    @rule(number=st.integers(1, 5), what=st.sampled_from(["active", "pause", "drain"]))
    def change_availability(self, number: int, what: str) -> None:
        if self.world.store.nodes.get(f"n{number}") is not None:
            self.world.change_node(f"n{number}", availability=what)

    @rule(number=st.integers(1, 5), zone=st.sampled_from(["a", "b"]))
    def change_label(self, number: int, zone: str) -> None:
        if self.world.store.nodes.get(f"n{number}") is not None:
            self.world.change_node(f"n{number}", labels={"zone": zone})

    @rule(count=st.integers(1, 3))
    def let_tasks_fail(self, count: int) -> None:
        self.failing = count

    @rule(name=names)
    def crash_a_task(self, name: str) -> None:
        running = self.world.running(f"svc-{name}")
        for task in running[:1]:
            status = msgspec.structs.replace(task.status, state="failed", err="crashed")
            if self.world.agents[task.node_id or ""].connected:
                self.world.agents[task.node_id or ""].tasks[task.id] = TaskState.FAILED
                self.world.write([changes.Report(task.id, task.node_id or "", status)])

    @rule(which=st.integers(0, 3))
    def turn_one_loop(self, which: int) -> None:
        loop, watch = self.world.loops[which % len(self.world.loops)]
        self.world.turn(loop, watch)

    @rule(which=st.integers(0, 3))
    def lose_a_write(self, which: int) -> None:
        """A decision is made and never written; the loop starts anew, as the driver has it do."""
        loop, watch = self.world.loops[which % len(self.world.loops)]
        loop.observe(watch.drain())
        loop.decide(self.world.store, self.world.now)
        loop.reset(self.world.store)

    @rule(number=st.integers(1, 5))
    def turn_one_agent(self, number: int) -> None:
        if (agent := self.world.agents.get(f"n{number}")) is not None:
            self.world.write(agent.turn(self.world))

    @rule(times=st.integers(1, 4))
    def turn_everything(self, times: int) -> None:
        for _ in range(times):
            self.world.step()

    @rule()
    def change_leader(self) -> None:
        self.world.new_leader()

    @rule(seconds=st.integers(1, 8))
    def let_time_pass(self, seconds: int) -> None:
        self.world.pass_time(seconds)


TestCluster = Cluster.TestCase
TestCluster.settings = settings(
    max_examples=4000 if LONG else 150,
    stateful_step_count=60 if LONG else 40,
    derandomize=not LONG,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
TestCluster.pytestmark = [pytest.mark.timeout(1200 if LONG else 60)]
