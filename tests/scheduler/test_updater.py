"""Rolling updates: limits are kept for every policy, failures are acted on, a new leader goes on."""

import random
from collections.abc import Callable
from datetime import timedelta

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from essaim.cluster.service import Empty, RestartPolicy, Service, ServiceMode, ServiceSpec, UpdateConfig
from essaim.cluster.shape import Version
from essaim.cluster.task import Task, TaskState
from tests.scheduler.world import LONG, World, image_of, replicated, with_image

NANO = 1_000_000_000


def running_service(
    world: World, replicas: int, config: UpdateConfig, *, rollback: UpdateConfig | None = None, nodes: int = 3
) -> Service:
    world.add_nodes(nodes)
    spec = replicated("web", replicas, update_config=config, rollback_config=rollback)
    service = world.add_service(spec)
    world.settle()
    assert len(world.running(service.id)) == replicas
    return service


def up_slots(world: World, service_id: str) -> int:
    return len({t.slot for t in world.running(service_id)})


def state_of(world: World, service_id: str) -> str:
    status = world.service(service_id).update_status
    return status.state if status else ""


@settings(max_examples=40, deadline=None, derandomize=not LONG)
@given(
    replicas=st.integers(1, 7),
    parallelism=st.integers(0, 4),
    delay=st.integers(0, 5),
    order=st.sampled_from(["stop-first", "start-first"]),
    seed=st.integers(0, 10_000),
    leader_changes=st.booleans(),
)
def test_update_never_exceeds_its_parallelism(
    replicas: int, parallelism: int, delay: int, order: str, seed: int, leader_changes: bool
) -> None:
    world = World(seed)
    chance = random.Random(seed)
    config = UpdateConfig(parallelism=parallelism, delay=delay * NANO, order=order, monitor=2 * NANO)
    service = running_service(world, replicas, config)
    most = parallelism or replicas

    def check(world: World) -> None:
        tasks = world.tasks(service.id)
        if order == "start-first":
            assert up_slots(world, service.id) == replicas
            assert sum(t.is_live for t in tasks) <= replicas + most
        else:
            assert up_slots(world, service.id) >= replicas - most
        running = [t for t in tasks if not t.is_terminal and t.desired == TaskState.RUNNING]
        assert len(running) <= replicas + (most if order == "start-first" else 0)

    world.checks.append(check)
    world.update_service(service.id, with_image(service.spec, "web:2"))
    for _ in range(600):
        if leader_changes and chance.random() < 0.1:
            world.new_leader()
        slow = chance.choice(list(world.agents))
        world.agents[slow].connected = chance.random() < 0.7
        world.step()
        world.now += timedelta(milliseconds=chance.choice([1, 200, 900]))
        if state_of(world, service.id) == "completed":
            break
    assert state_of(world, service.id) == "completed"
    assert [image_of(t) for t in world.running(service.id)] == ["web:2"] * replicas


def test_update_waits_its_delay_between_slots() -> None:
    world = World()
    service = running_service(world, 3, UpdateConfig(parallelism=1, delay=10 * NANO))
    world.update_service(service.id, with_image(service.spec, "web:2"))
    world.settle()

    def updated() -> int:
        return sum(image_of(t) == "web:2" for t in world.running(service.id))

    assert updated() == 1
    world.pass_time(9)
    assert updated() == 1
    world.pass_time(1)
    assert updated() == 2
    world.pass_time(10)
    assert updated() == 3
    assert state_of(world, service.id) == "updating"
    world.pass_time(6)
    assert state_of(world, service.id) == "completed"


def bad_image(image: str) -> Callable[[Task], str | None]:
    return lambda task: "failed" if image_of(task) == image else None


@pytest.mark.parametrize("order", ["stop-first", "start-first"])
def test_failing_update_is_paused_and_goes_no_further(order: str) -> None:
    world = World()
    service = running_service(world, 4, UpdateConfig(parallelism=1, order=order))
    world.ends = bad_image("bad")
    world.update_service(service.id, with_image(service.spec, "bad"))
    world.pass_time(60, step=2)
    assert state_of(world, service.id) == "paused"
    good = [t for t in world.running(service.id) if image_of(t) == "web:1"]
    assert len(good) == (4 if order == "start-first" else 3)
    status = world.service(service.id).update_status
    assert status is not None
    assert "update paused due to failure or early termination of task" in (status.message or "")


@pytest.mark.parametrize("order", ["stop-first", "start-first"])
def test_failing_update_rolls_back_by_itself(order: str) -> None:
    world = World()
    config = UpdateConfig(parallelism=2, order=order, failure_action="rollback", monitor=5 * NANO)
    service = running_service(world, 5, config)
    world.ends = bad_image("bad")
    world.update_service(service.id, with_image(service.spec, "bad"))
    world.pass_time(120, step=2)
    assert state_of(world, service.id) == "rollback_completed"
    assert [image_of(t) for t in world.running(service.id)] == ["web:1"] * 5
    stored = world.service(service.id)
    assert stored.previous_spec is None
    assert stored.spec_version == service.spec_version
    failed = [t for t in world.tasks(service.id) if t.state == TaskState.FAILED]
    assert failed
    assert {t.desired_state for t in failed} == {"shutdown"}, "nothing follows them any more"


def test_failing_update_goes_on_when_told_to_continue() -> None:
    world = World()
    service = running_service(world, 4, UpdateConfig(parallelism=1, failure_action="continue"))
    world.ends = bad_image("bad")
    world.update_service(service.id, with_image(service.spec, "bad"))
    world.pass_time(120, step=2)
    assert state_of(world, service.id) == "completed"
    assert all(image_of(t) == "bad" for t in world.live(service.id))


@settings(max_examples=30, deadline=None, derandomize=not LONG)
@given(replicas=st.integers(1, 8), parallelism=st.integers(1, 3), ratio=st.sampled_from([0.0, 0.2, 0.5, 0.8]))
def test_failures_beyond_the_ratio_stop_the_update(replicas: int, parallelism: int, ratio: float) -> None:
    world = World()
    service = running_service(world, replicas, UpdateConfig(parallelism=parallelism, max_failure_ratio=ratio))
    world.ends = bad_image("bad")
    world.update_service(service.id, with_image(service.spec, "bad"))
    world.pass_time(90, step=3)
    touched = {t.slot for t in world.tasks(service.id) if image_of(t) == "bad"}
    assert state_of(world, service.id) == "paused"
    assert ratio * replicas < len(touched) <= ratio * replicas + parallelism


def test_tolerated_failures_let_the_update_complete() -> None:
    world = World()
    service = running_service(world, 4, UpdateConfig(parallelism=1, max_failure_ratio=0.5))
    world.ends = lambda task: "failed" if image_of(task) == "web:2" and task.slot in (1, 3) else None
    world.update_service(service.id, with_image(service.spec, "web:2"))
    world.pass_time(120, step=2)
    assert state_of(world, service.id) == "completed"
    assert {t.slot for t in world.running(service.id)} == {2, 4}


def test_task_that_fails_after_the_monitoring_time_is_no_failure_of_the_update() -> None:
    world = World()
    service = running_service(world, 2, UpdateConfig(parallelism=1, delay=20 * NANO, monitor=3 * NANO))
    world.update_service(service.id, with_image(service.spec, "web:2"))
    world.pass_time(10)
    task = next(t for t in world.running(service.id) if image_of(t) == "web:2")
    crash(world, task)
    world.pass_time(60)
    assert state_of(world, service.id) == "completed"


def crash(world: World, task: Task) -> None:
    from essaim.cluster.changes import Report

    world.agents[task.node_id or ""].tasks[task.id] = TaskState.FAILED
    failed = msgspec.structs.replace(task.status, state="failed", timestamp=world.now)
    world.write([Report(task.id, task.node_id or "", failed)])
    world.settle()


def test_paused_update_restarts_what_fails_as_it_was() -> None:
    world = World()
    spec_fields = {"restart_policy": RestartPolicy(delay=0)}
    world.add_nodes(2)
    spec = replicated("web", 3, task_fields=spec_fields, update_config=UpdateConfig(parallelism=1))
    service = world.add_service(spec)
    world.settle()
    world.ends = bad_image("bad")
    world.update_service(service.id, with_image(spec, "bad"))
    world.pass_time(5)
    assert state_of(world, service.id) == "paused"
    old = next(t for t in world.running(service.id) if image_of(t) == "web:1")
    crash(world, old)
    world.pass_time(2)
    replacement = next(t for t in world.live(service.id) if t.slot == old.slot)
    assert image_of(replacement) == "web:1"
    assert replacement.state == TaskState.RUNNING


def test_rollback_by_hand_brings_the_old_tasks_back() -> None:
    world = World()
    service = running_service(world, 3, UpdateConfig(parallelism=1), rollback=UpdateConfig(parallelism=0))
    changed = world.update_service(service.id, with_image(service.spec, "web:2"))
    world.pass_time(30)
    from essaim.cluster.service import UpdateStatus

    world.put(
        "services",
        msgspec.structs.replace(
            world.service(service.id),
            spec=service.spec,
            spec_version=service.spec_version,
            previous_spec=changed.spec,
            previous_spec_version=changed.spec_version,
            update_status=UpdateStatus(state="rollback_started", started_at=world.now),
        ),
    )
    world.pass_time(20)
    assert state_of(world, service.id) == "rollback_completed"
    assert [image_of(t) for t in world.running(service.id)] == ["web:1"] * 3


def test_change_during_an_update_goes_straight_to_the_newest() -> None:
    world = World()
    service = running_service(world, 4, UpdateConfig(parallelism=1, delay=5 * NANO))
    world.update_service(service.id, with_image(service.spec, "web:2"))
    world.pass_time(7)
    world.update_service(service.id, with_image(service.spec, "web:3"))
    world.pass_time(60)
    assert [image_of(t) for t in world.running(service.id)] == ["web:3"] * 4
    assert state_of(world, service.id) == "completed"


def test_global_service_is_updated_node_by_node() -> None:
    world = World()
    world.add_nodes(4)
    spec = replicated("all", 0, mode=ServiceMode(global_=Empty()), update_config=UpdateConfig(parallelism=1))
    service = world.add_service(spec)
    world.settle()

    def check(world: World) -> None:
        assert len(world.running(service.id)) >= 3

    world.checks.append(check)
    world.update_service(service.id, with_image(spec, "web:2"))
    world.pass_time(20)
    assert [image_of(t) for t in world.running(service.id)] == ["web:2"] * 4


def test_broken_slots_are_updated_first() -> None:
    world = World()
    world.ends = lambda task: "failed" if task.slot == 3 and image_of(task) == "web:1" else None
    world.add_nodes(1)
    service = world.add_service(replicated("web", 3, update_config=UpdateConfig(parallelism=1, delay=60 * NANO)))
    world.settle()
    world.update_service(service.id, with_image(service.spec, "web:2"))
    world.settle()
    assert [t.slot for t in world.running(service.id) if image_of(t) == "web:2"] == [3]


def test_unhealthy_task_holds_the_update_up() -> None:
    world = World()
    service = running_service(world, 2, UpdateConfig(parallelism=1))
    world.update_service(service.id, with_image(service.spec, "web:2"))

    def sicken(world: World) -> None:
        for task in world.running(service.id):
            if image_of(task) == "web:2" and task.status.healthy is None:
                sick = msgspec.structs.replace(task.status, healthy=False)
                world.put("tasks", msgspec.structs.replace(task, status=sick))

    for _ in range(40):
        world.step()
        sicken(world)
        world.now += timedelta(seconds=1)
    assert [image_of(t) for t in world.running(service.id)].count("web:1") == 1


def test_spec_made_equal_again_needs_no_update() -> None:
    world = World()
    service = running_service(world, 2, UpdateConfig())
    before = {t.id for t in world.running(service.id)}
    spec: ServiceSpec = msgspec.structs.replace(service.spec, labels={"x": "y"})
    stored = world.put(
        "services", msgspec.structs.replace(service, spec=spec, spec_version=Version(index=world.index + 1))
    )
    world.pass_time(10)
    assert {t.id for t in world.live(service.id)} == before
    assert {t.spec_version for t in world.live(service.id)} == {stored.spec_version}
