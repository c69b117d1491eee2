"""Rebalancing: on request and by itself, few at a time, start-first, and never back and forth."""

import msgspec
import pytest

from essaim.cluster.container import ContainerSpec, Mount
from essaim.cluster.service import Placement, Service, TaskSpec
from essaim.scheduler.orchestrate.rebalance import why_not
from tests.scheduler.world import World, replicated


def crowded(world: World, replicas: int, **fields: object) -> Service:
    """All replicas on two nodes, and a third one that has just come."""
    world.add_nodes(2)
    service = world.add_service(replicated("web", replicas, **fields))
    world.settle()
    world.add_node("n3")
    world.settle()
    assert "n3" not in world.per_node(service.id)
    return service


def ask(world: World, service: Service) -> None:
    world.put("services", msgspec.structs.replace(world.service(service.id), rebalance=True))


def test_nothing_moves_unasked() -> None:
    world = World()
    service = crowded(world, 6)
    world.pass_time(600, step=60)
    assert world.per_node(service.id) == {"n1": 3, "n2": 3}


def test_request_spreads_the_replicas_and_is_then_over() -> None:
    world = World()
    service = crowded(world, 6)
    most_live = 0

    def check(world: World) -> None:
        nonlocal most_live
        assert len({t.slot for t in world.running(service.id)}) == 6
        most_live = max(most_live, len(world.live(service.id)))

    world.checks.append(check)
    ask(world, service)
    world.settle()
    assert world.per_node(service.id) == {"n1": 2, "n2": 2, "n3": 2}
    assert world.service(service.id).rebalance is None
    assert most_live == 7, "one at a time"
    version = world.store.version
    ask(world, service)
    world.settle()
    assert world.store.version == version + 2, "nothing to do but to end the request"


def test_automatic_rebalancing_waits_until_things_are_quiet() -> None:
    world = World()
    service = crowded(world, 6, labels={"essaim.rebalance": "auto"})
    world.pass_time(25)
    assert world.per_node(service.id) == {"n1": 3, "n2": 3}
    world.pass_time(120)
    assert world.per_node(service.id) == {"n1": 2, "n2": 2, "n3": 2}
    version = world.store.version
    world.pass_time(1200, step=60)
    assert world.store.version == version


def test_gap_of_one_is_no_reason_to_move() -> None:
    world = World()
    world.add_nodes(2)
    service = world.add_service(replicated("web", 3, labels={"essaim.rebalance": "auto"}))
    world.settle()
    version = world.store.version
    ask(world, service)
    world.pass_time(600, step=60)
    assert world.store.version == version + 2


def test_node_without_room_is_no_target() -> None:
    from essaim.cluster.service import ResourceRequirements, Resources

    reserved = ResourceRequirements(reservations=Resources(nano_cpus=10**9))
    world = World()
    world.add_nodes(1)
    service = world.add_service(replicated("web", 4, task_fields={"resources": reserved}))
    world.settle()
    world.add_node("small", cpus=0.5)
    ask(world, service)
    world.settle()
    assert world.per_node(service.id) == {"n1": 4}
    assert world.service(service.id).rebalance is None


def test_move_that_fails_leaves_the_old_replica_and_ends_the_request() -> None:
    world = World()
    service = crowded(world, 6)
    world.ends = lambda task: "failed" if task.node_id == "n3" else None
    ask(world, service)
    world.pass_time(60, step=5)
    assert world.per_node(service.id) == {"n1": 3, "n2": 3}
    assert world.service(service.id).rebalance is None
    assert sum(t.is_terminal for t in world.tasks(service.id)) == 1


def test_large_service_moves_several_at_once() -> None:
    world = World()
    service = crowded(world, 60)
    most_live = 0

    def check(world: World) -> None:
        nonlocal most_live
        most_live = max(most_live, len(world.live(service.id)))

    world.checks.append(check)
    ask(world, service)
    world.settle(2000)
    assert world.per_node(service.id) == {"n1": 20, "n2": 20, "n3": 20}
    assert 61 <= most_live <= 63


@pytest.mark.parametrize(
    ("template", "words"),
    [
        (TaskSpec(placement=Placement(constraints=["node.role==worker"])), "placement constraints"),
        (
            TaskSpec(container_spec=ContainerSpec(mounts=[Mount(type="volume", source="d", target="/d")])),
            "writable mounts",
        ),
    ],
)
def test_service_that_must_not_move_is_left_alone_and_says_why(template: TaskSpec, words: str) -> None:
    world = World()
    world.add_nodes(1)
    service = world.add_service(msgspec.structs.replace(replicated("web", 4), task_template=template))
    world.settle()
    world.add_node("n2")
    assert words in (why_not(service) or "")
    ask(world, service)
    world.settle()
    assert world.per_node(service.id) == {"n1": 4}
    assert world.service(service.id).rebalance is None


def test_node_lost_while_a_replica_moves_there_costs_nothing() -> None:
    world = World()
    service = crowded(world, 4)
    world.agents["n3"].connected = False
    ask(world, service)
    world.settle()
    assert len(world.live(service.id)) == 5
    world.node_down("n3")
    world.settle()
    assert world.per_node(service.id) == {"n1": 2, "n2": 2}
    world.node_back("n3")
    world.settle()
    assert sum(world.per_node(service.id).values()) == 4
