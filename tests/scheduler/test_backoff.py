"""What ends before it runs is tried again ever later, in every kind of service; a change of it or a node resets it."""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from essaim.cluster.service import Empty, JobStatus, ReplicatedJob, RestartPolicy, ServiceMode, TaskSpec, UpdateConfig
from essaim.cluster.shape import NO_VERSION, Version
from essaim.cluster.task import RestartRecord, Task, TaskState, TaskStatus
from essaim.scheduler.restart import EARLY_FIRST, LONGEST, next_restart
from tests.scheduler.world import START, World, image_of, replicated, with_image, with_replicas

NANO = 1_000_000_000
MODES: dict[str, dict[str, Any]] = {
    "replicated": {},
    "global": {"mode": ServiceMode(global_=Empty())},
    "job": {"mode": ServiceMode(replicated_job=ReplicatedJob(total_completions=1))},
    "global job": {"mode": ServiceMode(global_job=Empty())},
}


class Attempts:
    """When nodes turned tasks of a service away."""

    def __init__(self, world: World, rejects: Callable[[Task], bool] = lambda task: True) -> None:
        self.at: list[float] = []
        self._world = world
        self._rejects = rejects
        world.rejects = self._reject

    def _reject(self, task: Task) -> bool:
        if self._rejects(task):
            self.at.append((self._world.now - START).total_seconds())
            return True
        return False


@pytest.mark.parametrize("kind", MODES)
def test_rejected_task_is_tried_again_ever_later(kind: str) -> None:
    world = World()
    world.add_nodes(1)
    attempts = Attempts(world)
    service = world.add_service(
        replicated("a", 1, **MODES[kind]), job_status=JobStatus(job_iteration=NO_VERSION) if "job" in kind else None
    )
    world.settle()
    world.pass_time(600, step=0.5)
    assert attempts.at[:6] == [0, 5, 15, 35, 75, 135]
    assert len(attempts.at) <= 5 + 600 / LONGEST.total_seconds()
    assert len(world.tasks(service.id)) <= 7, "the history is bounded"


@pytest.mark.parametrize("delay", [0, NANO // 10])
def test_hiccup_of_a_second_does_not_use_up_the_attempts(delay: int) -> None:
    world = World()
    world.add_nodes(1)
    policy = RestartPolicy(condition="any", max_attempts=1, delay=delay)
    Attempts(world, lambda task: world.now < START + timedelta(seconds=1.5))
    service = world.add_service(replicated("a", 2, task_fields={"restart_policy": policy}))
    world.settle()
    world.pass_time(10, step=0.1)
    assert len(world.running(service.id)) == 2


def test_waiting_replacement_says_when_and_why() -> None:
    world = World()
    world.add_nodes(1)
    Attempts(world)
    service = world.add_service(replicated("a", 1))
    world.settle()
    (waiting,) = world.live(service.id)
    assert (waiting.state, waiting.desired) == (TaskState.PENDING, TaskState.READY)
    assert waiting.status.err == "attempt 2 at 00:00:05 UTC, after: no such image"


@pytest.mark.parametrize("order", ["stop-first", "start-first"])
@pytest.mark.parametrize("action", ["pause", "continue", "rollback"])
def test_update_to_what_no_node_takes_is_not_hurried(order: str, action: str) -> None:
    world = World()
    world.add_nodes(1)
    config = UpdateConfig(order=order, failure_action=action, parallelism=1)
    service = world.add_service(replicated("a", 3, update_config=config, rollback_config=config))
    world.settle()
    world.pass_time(10)
    attempts = Attempts(world, lambda task: image_of(task) == "typo:1")
    world.update_service(service.id, with_image(service.spec, "typo:1"))
    world.settle()
    world.pass_time(600, step=1)
    assert len(attempts.at) <= 3 * (6 + 600 / LONGEST.total_seconds())
    if order == "start-first" or action == "rollback":
        assert len([t for t in world.running(service.id) if image_of(t) == "web:1"]) == 3, "what ran well was stopped"


def test_rollback_to_what_no_node_takes_any_more_is_not_hurried() -> None:
    world = World()
    world.add_nodes(1)
    config = UpdateConfig(failure_action="rollback", parallelism=0)
    service = world.add_service(replicated("a", 2, update_config=config, rollback_config=config))
    world.settle()
    world.pass_time(10)
    attempts = Attempts(world)
    world.update_service(service.id, with_image(service.spec, "typo:1"))
    world.settle()
    world.pass_time(600)
    assert len(attempts.at) <= 2 * (8 + 600 / LONGEST.total_seconds())


def test_replacement_is_not_hurried_while_its_predecessor_takes_long_to_stop() -> None:
    world = World()
    world.add_nodes(2)
    service = world.add_service(replicated("a", 1))
    world.settle()
    (old,) = world.running(service.id)
    attempts = Attempts(world, lambda task: image_of(task) == "typo:1")
    world.agents[old.node_id or ""].connected = False  # its node is slow to stop it
    world.change_node(old.node_id or "", availability="pause")
    world.update_service(service.id, with_image(service.spec, "typo:1"))
    world.settle()
    world.pass_time(60)
    assert len(attempts.at) <= 6


def test_changed_specification_is_tried_at_once() -> None:
    world = World()
    world.add_nodes(1)
    Attempts(world, lambda task: image_of(task) == "typo:1")
    service = world.add_service(replicated("a", 2, image="typo:1"))
    world.settle()
    world.pass_time(100)
    world.update_service(service.id, with_image(service.spec, "web:1"))
    world.settle()
    world.pass_time(2)
    assert len(world.running(service.id)) == 2


def test_changed_credentials_are_tried_at_once() -> None:
    world = World()
    world.add_nodes(1)
    wrong = True
    attempts = Attempts(world, lambda task: wrong)
    service = world.add_service(replicated("a", 2), spec_after=Version(index=1))
    world.settle()
    world.pass_time(100)
    wrong = False
    now = world.service(service.id)
    world.put("services", msgspec.structs.replace(now, registry_auth="right", spec_after=now.version))
    world.settle()
    assert len(world.running(service.id)) == 2
    assert len(attempts.at) <= 10


@pytest.mark.parametrize("change", ["comes", "returns", "changes"])
def test_node_that_comes_or_changes_is_tried_at_once(change: str) -> None:
    world = World()
    world.add_nodes(2)
    world.node_down("n2")
    good = {"comes": "n3", "returns": "n2", "changes": "n1"}[change]
    is_good = change != "changes"
    Attempts(world, lambda task: task.node_id != good or not is_good)
    service = world.add_service(replicated("a", 1))
    world.settle()
    world.pass_time(100)
    world.change_node("n1", availability="active" if change == "changes" else "pause")
    if change == "comes":
        world.add_node("n3")
    elif change == "returns":
        world.node_back("n2")
    else:
        is_good = True
        world.change_node("n1", labels={"image": "here"})
    world.pass_time(11)
    assert len(world.running(service.id)) == 1


def test_node_that_comes_and_goes_does_not_hurry_anything() -> None:
    world = World()
    world.add_nodes(2)
    attempts = Attempts(world)
    world.add_service(replicated("a", 1))
    world.settle()
    for _ in range(300):
        world.node_down("n2")
        world.pass_time(1)
        world.node_back("n2")
        world.pass_time(1)
    assert len(attempts.at) <= 600 / 10 + 6


def ended(record: RestartRecord | None, state: str, at: datetime, *, ran: bool) -> Task:
    return Task(
        id="t",
        spec=TaskSpec(),
        status=TaskStatus(state=state),
        restarts=record,
        updated_at=at,
        running_since=at - timedelta(minutes=5) if ran else None,
    )


@given(
    history=st.lists(st.tuples(st.sampled_from(["failed", "rejected"]), st.booleans()), min_size=1, max_size=12),
    delay=st.sampled_from([None, 0, NANO, 5 * NANO, 90 * NANO]),
)
def test_delay_is_that_of_a_naive_count_of_ends_before_running(
    history: list[tuple[str, bool]], delay: int | None
) -> None:
    record: RestartRecord | None = None
    now = START
    plain = 5.0 if delay is None else delay / NANO
    row = 0
    for state, ran in history:
        restart = next_restart(ended(record, state, now, ran=ran), RestartPolicy(delay=delay), now)
        assert restart is not None
        row = 0 if ran else row + 1
        wanted = plain
        if row:
            wanted = max(plain, EARLY_FIRST.total_seconds())
            for _ in range(row - 1):
                wanted *= 2
            wanted = max(plain, min(wanted, LONGEST.total_seconds()))
        assert (restart.at - now).total_seconds() == wanted
        record, now = restart.record, restart.at


def test_scaled_up_service_counts_each_slot_by_itself() -> None:
    world = World()
    world.add_nodes(1)
    attempts = Attempts(world, lambda task: task.slot == 1)
    service = world.add_service(replicated("a", 1))
    world.settle()
    world.pass_time(30)
    world.update_service(service.id, with_replicas(service.spec, 4))
    world.settle()
    assert {t.slot for t in world.running(service.id)} == {2, 3, 4}
    assert len(attempts.at) <= 5
