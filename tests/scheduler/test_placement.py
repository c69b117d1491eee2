"""Placement: a naive second scheduler agrees on spread; filters forbid what they should and say why."""

from datetime import UTC, datetime

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from essaim.cluster.container import ContainerSpec
from essaim.cluster.errors import InvalidArgument
from essaim.cluster.node import EngineDescription, Node, NodeDescription, NodeSpec, NodeStatus
from essaim.cluster.service import (
    DiscreteResource,
    Empty,
    GenericResource,
    NamedResource,
    Placement,
    PlacementPreference,
    Platform,
    PortConfig,
    ResourceRequirements,
    Resources,
    ServiceMode,
    SpreadOver,
    TaskSpec,
)
from essaim.cluster.swarm import default_spec
from essaim.cluster.task import Task, TaskState, TaskStatus
from essaim.scheduler.constraints import parse
from essaim.scheduler.place.filters import request_of
from essaim.scheduler.place.placement import Placing, StaticChecks
from essaim.scheduler.place.placement_loop import assign
from essaim.scheduler.place.view import ClusterView
from tests.scheduler.world import GB, LONG, World, replicated

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def make_node(
    number: int,
    *,
    cpus: int = 100,
    labels: dict[str, str] | None = None,
    state: str = "ready",
    availability: str = "active",
) -> Node:
    return Node(
        id=f"n{number:03}",
        spec=NodeSpec(labels=labels, availability=availability),
        description=NodeDescription(
            hostname=f"host{number}", resources=Resources(nano_cpus=cpus * 10**9, memory_bytes=64 * GB)
        ),
        status=NodeStatus(state=state),
    )


def make_task(
    number: int, service: str, *, node_id: str | None = None, cpus: int = 0, placement: Placement | None = None
) -> Task:
    reserved = ResourceRequirements(reservations=Resources(nano_cpus=cpus * 10**9)) if cpus else None
    return Task(
        id=f"t{number}",
        spec=TaskSpec(container_spec=ContainerSpec(image="x"), resources=reserved, placement=placement),
        service_id=service,
        node_id=node_id,
        status=TaskStatus(state="running" if node_id else "pending"),
    )


def naive_place(nodes: list[Node], tasks: list[Task], new: Task) -> str | None:
    """Swarm's rule, as one would write it down: look at every node, count, sort."""
    best: tuple[int, int, int] | None = None
    chosen = None
    for index, node in enumerate(nodes):
        here = [t for t in tasks if t.node_id == node.id]
        if node.status.state != "ready" or node.spec.availability != "active":
            continue
        assert node.description is not None
        assert node.description.resources is not None
        used = sum(cpus_of(t) for t in here)
        if cpus_of(new) and used + cpus_of(new) > (node.description.resources.nano_cpus or 0):
            continue
        placement = new.spec.placement or Placement()
        if placement.constraints == ["node.labels.zone==a"] and (node.spec.labels or {}).get("zone") != "a":
            continue
        same = sum(t.service_id == new.service_id for t in here)
        if placement.max_replicas and same >= placement.max_replicas:
            continue
        rank = (same, len(here), index)
        if best is None or rank < best:
            best, chosen = rank, node.id
    return chosen


def cpus_of(task: Task) -> int:
    reserved = task.spec.resources.reservations if task.spec.resources else None
    return (reserved.nano_cpus if reserved else None) or 0


nodes_strategy = st.lists(
    st.tuples(st.sampled_from([1, 3, 100]), st.sampled_from(["a", "b"]), st.sampled_from(["ready", "ready", "down"])),
    min_size=1,
    max_size=8,
)
existing = st.lists(st.tuples(st.sampled_from("xyz"), st.integers(0, 7), st.integers(0, 1)), max_size=20)
groups = st.lists(
    st.tuples(
        st.sampled_from("xyz"),
        st.integers(1, 12),
        st.integers(0, 1),
        st.sampled_from([None, ["node.labels.zone==a"]]),
        st.sampled_from([None, None, 1, 3]),
    ),
    min_size=1,
    max_size=4,
)


@settings(max_examples=300, deadline=None, derandomize=not LONG)
@given(nodes_strategy, existing, groups)
def test_spread_agrees_with_a_naive_scheduler(
    shapes: list[tuple[int, str, str]],
    before: list[tuple[str, int, int]],
    wanted: list[tuple[str, int, int, list[str] | None, int | None]],
) -> None:
    nodes = [
        make_node(i, cpus=cpus, labels={"zone": zone}, state=state) for i, (cpus, zone, state) in enumerate(shapes)
    ]
    tasks = [
        make_task(n, service, node_id=nodes[where % len(nodes)].id, cpus=cpus)
        for n, (service, where, cpus) in enumerate(before)
    ]
    view = ClusterView()
    view.reset(nodes, tasks)
    static = StaticChecks()
    number = 1000
    for service, count, cpus, constraints, most in wanted:
        placement = Placement(constraints=constraints, max_replicas=most)
        request = request_of(make_task(0, service, cpus=cpus, placement=placement))
        placing = Placing(view, request, static, NOW)
        touched = []
        for _ in range(count):
            number += 1
            task = make_task(number, service, cpus=cpus, placement=placement)
            state = placing.next()
            expected = naive_place(nodes, tasks, task)
            assert (state.node.id if state else None) == expected
            if state is None:
                break
            bound = assign(task, state, request, NOW)
            view.put(bound, rerank=False)
            touched.append(state)
            tasks.append(bound)
        view.rerank(touched)


def place_all(view: ClusterView, tasks: list[Task], strategy: str = "spread") -> dict[str, int]:
    request = request_of(tasks[0], strategy)
    placing = Placing(view, request, StaticChecks(), NOW)
    found: dict[str, int] = {}
    for task in tasks:
        state = placing.next()
        if state is None:
            break
        view.put(assign(task, state, request, NOW))
        found[state.node.id] = found.get(state.node.id, 0) + 1
    return found


def test_preferences_divide_tasks_by_label_before_nodes() -> None:
    view = ClusterView()
    nodes = [make_node(i, labels={"zone": "a" if i < 6 else "b"}) for i in range(8)]
    view.reset(nodes, [])
    over_zones = Placement(preferences=[PlacementPreference(spread=SpreadOver(spread_descriptor="node.labels.zone"))])
    found = place_all(view, [make_task(n, "x", placement=over_zones) for n in range(12)])
    assert sum(count for node, count in found.items() if int(node[1:]) < 6) == 6
    assert found["n006"] == found["n007"] == 3


def test_nested_preferences_divide_within_each_branch() -> None:
    view = ClusterView()
    shapes = [("a", "1"), ("a", "1"), ("a", "2"), ("b", "3")]
    view.reset([make_node(i, labels={"zone": z, "rack": r}) for i, (z, r) in enumerate(shapes)], [])
    preferences = [
        PlacementPreference(spread=SpreadOver(spread_descriptor=f"node.labels.{label}")) for label in ("zone", "rack")
    ]
    found = place_all(view, [make_task(n, "x", placement=Placement(preferences=preferences)) for n in range(8)])
    assert found == {"n000": 1, "n001": 1, "n002": 2, "n003": 4}


def test_preferences_fill_other_branches_when_one_is_full() -> None:
    view = ClusterView()
    view.reset([make_node(0, cpus=1, labels={"zone": "a"}), make_node(1, cpus=9, labels={"zone": "b"})], [])
    over_zones = Placement(preferences=[PlacementPreference(spread=SpreadOver(spread_descriptor="node.labels.zone"))])
    found = place_all(view, [make_task(n, "x", cpus=1, placement=over_zones) for n in range(6)])
    assert found == {"n000": 1, "n001": 5}


def test_binpack_fills_a_node_before_the_next() -> None:
    view = ClusterView()
    view.reset([make_node(i, cpus=4) for i in range(3)], [make_task(0, "y", node_id="n001", cpus=1)])
    found = place_all(view, [make_task(n, "x", cpus=1) for n in range(1, 6)], "binpack")
    assert found == {"n001": 3, "n000": 2}


def test_node_that_keeps_failing_a_service_comes_last() -> None:
    view = ClusterView()
    view.reset([make_node(0), make_node(1)], [make_task(0, "y", node_id="n001")])
    for number in range(5):
        failed = make_task(10 + number, "x", node_id="n000")
        status = TaskStatus(state="failed")
        at = NOW.replace(second=number)
        view.put(msgspec.structs.replace(failed, status=status, updated_at=at))
    assert place_all(view, [make_task(50, "x"), make_task(51, "x")]) == {"n001": 2}
    assert place_all(view, [make_task(60, "z")]) == {"n000": 1}


def test_generic_resources_are_counted_and_named() -> None:
    view = ClusterView()
    stock = Resources(
        generic_resources=[
            GenericResource(discrete_resource_spec=DiscreteResource(kind="ssd", value=2)),
            *(GenericResource(named_resource_spec=NamedResource(kind="gpu", value=f"g{i}")) for i in (1, 2)),
        ]
    )
    node = msgspec.structs.replace(make_node(0), description=NodeDescription(hostname="h", resources=stock))
    view.reset([node], [])
    wanted = Resources(
        generic_resources=[GenericResource(discrete_resource_spec=DiscreteResource(kind="gpu", value=1))]
    )
    spec = TaskSpec(resources=ResourceRequirements(reservations=wanted))
    tasks = [msgspec.structs.replace(make_task(n, "x"), spec=spec) for n in range(3)]
    request = request_of(tasks[0])
    placing = Placing(view, request, StaticChecks(), NOW)
    given_out = []
    for task in tasks[:2]:
        state = placing.next()
        assert state is not None
        bound = assign(task, state, request, NOW)
        view.put(bound)
        assigned = bound.assigned_generic_resources or []
        given_out += [g.named_resource_spec.value for g in assigned if g.named_resource_spec]
    assert sorted(given_out) == ["g1", "g2"]
    assert placing.next() is None
    view.remove("t0")
    assert Placing(view, request, StaticChecks(), NOW).next() is not None


def pending_reason(world: World, service_id: str) -> str:
    (task,) = {t.status.err for t in world.live(service_id) if t.node_id is None}
    return task or ""


def test_pending_task_says_why_counted_by_cause() -> None:
    world = World()
    world.add_node("n1", memory=1 * GB, labels={"zone": "a"})
    world.add_node("n2", memory=1 * GB, labels={"zone": "a"})
    world.add_node("n3", memory=64 * GB, labels={"zone": "b"})
    fields = {
        "placement": Placement(constraints=["node.labels.zone==a"]),
        "resources": ResourceRequirements(reservations=Resources(memory_bytes=8 * GB)),
    }
    service = world.add_service(replicated("web", 2, task_fields=fields))
    world.settle()
    assert pending_reason(world, service.id) == (
        "no suitable node (insufficient memory on 2 nodes; constraint node.labels.zone==a not satisfied on 1 node)"
    )
    world.change_node("n3", labels={"zone": "a"})
    world.settle()
    assert world.per_node(service.id) == {"n3": 2}
    assert all(t.status.err is None for t in world.running(service.id))


def test_nodes_that_take_no_work_are_named_as_such() -> None:
    world = World()
    world.add_nodes(3)
    world.change_node("n1", availability="drain")
    world.change_node("n2", availability="pause")
    world.node_down("n3")
    service = world.add_service(replicated("web", 1))
    world.settle()
    assert pending_reason(world, service.id) == (
        "no suitable node (2 nodes not available for new tasks; 1 node not ready)"
    )


def test_gateway_only_node_gets_no_task_whatever_its_availability() -> None:
    world = World()
    world.add_nodes(2)
    edge = world.store.nodes.get("n2")
    assert edge is not None
    assert edge.description is not None
    gateway = msgspec.structs.replace(edge.description, runtime="gateway")
    world.put("nodes", msgspec.structs.replace(edge, description=gateway))
    spread = world.add_service(replicated("web", 3))
    everywhere = world.add_service(msgspec.structs.replace(replicated("each", 1), mode=ServiceMode(global_=Empty())))
    world.settle()
    assert world.per_node(spread.id) == {"n1": 3}
    assert world.per_node(everywhere.id) == {"n1": 1}
    world.change_node("n1", availability="pause")
    late = world.add_service(replicated("late", 1))
    world.settle()
    assert pending_reason(world, late.id) == (
        "no suitable node (1 node not available for new tasks; 1 node only serving as gateway)"
    )


def test_node_that_becomes_gateway_only_loses_its_tasks() -> None:
    world = World()
    world.add_nodes(2)
    service = world.add_service(replicated("web", 2))
    world.settle()
    assert world.per_node(service.id) == {"n1": 1, "n2": 1}
    edge = world.store.nodes.get("n2")
    assert edge is not None
    assert edge.description is not None
    world.put(
        "nodes",
        msgspec.structs.replace(edge, description=msgspec.structs.replace(edge.description, runtime="gateway")),
    )
    world.pass_time(30)
    assert world.per_node(service.id) == {"n1": 2}


def test_host_mode_ports_do_not_share_a_node() -> None:
    world = World()
    world.add_nodes(2)
    spec = replicated("web", 3, ports=[(8080, 80)])
    assert spec.endpoint_spec is not None
    ports = [PortConfig(protocol="tcp", target_port=80, published_port=8080, publish_mode="host")]
    service = world.add_service(
        msgspec.structs.replace(spec, endpoint_spec=msgspec.structs.replace(spec.endpoint_spec, ports=ports))
    )
    world.settle()
    assert world.per_node(service.id) == {"n1": 1, "n2": 1}
    assert pending_reason(world, service.id) == "no suitable node (host-mode port already in use on 2 nodes)"


def test_max_replicas_per_node_is_a_limit() -> None:
    world = World()
    world.add_nodes(2)
    service = world.add_service(replicated("web", 5, task_fields={"placement": Placement(max_replicas=2)}))
    world.settle()
    assert world.per_node(service.id) == {"n1": 2, "n2": 2}
    world.add_node("n3")
    world.settle()
    assert world.per_node(service.id) == {"n1": 2, "n2": 2, "n3": 1}


def test_platform_of_the_image_must_be_the_nodes() -> None:
    world = World()
    world.add_nodes(1)
    arm = Placement(platforms=[Platform(architecture="arm64", os="linux")])
    amd = Placement(platforms=[Platform(architecture="amd64", os="linux")])
    stuck = world.add_service(replicated("arm", 1, task_fields={"placement": arm}))
    runs = world.add_service(replicated("amd", 1, task_fields={"placement": amd}))
    world.settle()
    assert pending_reason(world, stuck.id) == "no suitable node (unsupported platform on 1 node)"
    assert len(world.running(runs.id)) == 1


def test_binpack_is_a_choice_of_the_service_and_of_the_cluster() -> None:
    world = World()
    world.add_nodes(3)
    reserved = {"resources": ResourceRequirements(reservations=Resources(nano_cpus=10**9))}
    labelled = replicated("packed", 3, task_fields=reserved, labels={"essaim.placement.strategy": "binpack"})
    service = world.add_service(labelled)
    world.settle()
    assert sorted(world.per_node(service.id).values()) == [3]
    cluster = world.store.cluster
    assert cluster is not None
    spec = msgspec.structs.replace(default_spec(), placement_strategy="binpack")
    world.put("clusters", msgspec.structs.replace(cluster, spec=spec))
    other = world.add_service(replicated("other", 3, task_fields=reserved))
    world.settle()
    assert sorted(world.per_node(other.id).values()) in ([1, 2], [3])


NODE = Node(
    id="abc",
    spec=NodeSpec(role="manager", labels={"zone": "a", "a.b/c": "x y"}),
    description=NodeDescription(
        hostname="Host-1",
        platform=Platform(os="linux", architecture="x86_64"),
        engine=EngineDescription(labels={"disk": "ssd"}),
    ),
    status=NodeStatus(state="ready", addr="10.1.2.3"),
)


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ("node.id==abc", True),
        ("node.id == abd", False),
        ("node.hostname==host-1", True),
        ("node.hostname!=host-1", False),
        ("node.role==manager", True),
        ("node.role != manager", False),
        ("node.platform.os==linux", True),
        ("node.platform.arch==x86_64", True),
        ("node.platform.arch==amd64", True),
        ("node.labels.zone==a", True),
        ("node.labels.zone!=b", True),
        ("node.labels.none==a", False),
        ("node.labels.none!=a", True),
        ("node.labels.a.b/c==x y", True),
        ("engine.labels.disk==ssd", True),
        ("engine.labels.disk!=ssd", False),
        ("node.ip==10.1.2.3", True),
        ("node.ip==10.1.0.0/16", True),
        ("node.ip!=10.2.0.0/16", True),
    ],
)
def test_constraint_holds_as_swarm_reads_it(text: str, holds: bool) -> None:
    assert parse(text).holds(NODE) is holds


@pytest.mark.parametrize(
    "text", ["", "node.role", "node.role=manager", "node.color==red", "node.labels.==x", "a==", "=="]
)
def test_constraint_that_cannot_be_read_is_refused(text: str) -> None:
    with pytest.raises(InvalidArgument, match="invalid constraint"):
        parse(text)


def test_task_whose_node_no_longer_fits_is_moved() -> None:
    world = World()
    world.add_node("n1", labels={"zone": "a"})
    world.add_node("n2", labels={"zone": "a"})
    fields = {"placement": Placement(constraints=["node.labels.zone==a"])}
    service = world.add_service(replicated("web", 4, task_fields=fields))
    world.settle()
    world.change_node("n1", labels={"zone": "b"})
    world.settle()
    assert world.per_node(service.id) == {"n2": 4}
    assert all(t.state == TaskState.RUNNING for t in world.live(service.id))


@settings(max_examples=60, deadline=None, derandomize=not LONG)
@given(st.integers(1, 30), st.integers(1, 5), st.integers(1, 6), st.integers(0, 10_000))
def test_group_placed_in_many_rounds_is_spread_as_in_one(replicas: int, nodes: int, slice_: int, seed: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("essaim.scheduler.place.placement_loop.SLICE", slice_)
        world = World(seed)
        world.add_nodes(nodes)
        world.add_service(replicated("other", world.chance.randrange(4)))
        world.settle()
        service = world.add_service(replicated("web", replicas))
        for _ in range(world.chance.randrange(6)):
            world.step()
        if world.chance.random() < 0.5:
            world.add_node("late", cpus=0.1)
        world.settle()
    counts = [len([t for t in world.live(service.id) if t.node_id == f"n{n}"]) for n in range(1, nodes + 1)]
    assert sum(world.per_node(service.id).values()) == replicas
    assert max(counts) - min(counts) <= 1
