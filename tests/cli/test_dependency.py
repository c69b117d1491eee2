"""Conditions of `depends_on`: when they are met, and when they are given up."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from essaim.cli.progress.dependency import Dependency, Verdict
from tests.cli.test_tracker import ACTIVE, service, task

STARTED, HEALTHY, COMPLETED = "service_started", "service_healthy", "service_completed_successfully"
PID = {"ContainerStatus": {"PID": 7}}


def look(condition: str, tasks: list[Any], of: Any = None, now: float = 0.0) -> Verdict:
    return Dependency(condition).step(of or service(1), tasks, ACTIVE, now)


def starting(slot: int = 1, **status: Any) -> dict[str, Any]:
    found = task(slot, "starting")
    found["Status"] |= status
    return found


def failed(slot: int = 1, err: str = "boom", desired: str = "shutdown") -> dict[str, Any]:
    return task(slot, "failed", desired=desired, err=err)


@pytest.mark.parametrize(
    ("tasks", "met"),
    [
        ([], set()),
        ([task(1, "pending")], set()),
        ([starting()], set()),
        ([starting(**PID)], {STARTED}),
        ([task(1, "running")], {STARTED, HEALTHY}),
        ([task(1, "complete", desired="shutdown")], {STARTED, COMPLETED}),
        ([failed()], set()),
        ([failed(), task(1, "running")], {STARTED, HEALTHY}),
        ([task(1, "running", node="lost")], set()),
    ],
)
def test_condition_of_a_service_is_met_by(tasks: list[Any], met: set[str]) -> None:
    assert {condition for condition in (STARTED, HEALTHY, COMPLETED) if look(condition, tasks).is_met} == met


@pytest.mark.parametrize("condition", [STARTED, HEALTHY, COMPLETED])
def test_every_replica_counts(condition: str) -> None:
    state, desired = ("complete", "shutdown") if condition == COMPLETED else ("running", "running")
    one, both = [task(1, state, desired=desired)], [task(slot, state, desired=desired) for slot in (1, 2)]
    assert not look(condition, one, service(2)).is_met
    assert look(condition, both, service(2)).is_met


def test_job_is_started_by_its_first_tasks_and_completed_by_all() -> None:
    job = {"ID": "j", "Spec": {"Mode": {"ReplicatedJob": {"TotalCompletions": 2}}}}
    running = [task(1, "running", desired="complete")]
    assert look(STARTED, running, job).is_met
    assert not look(COMPLETED, running, job).is_met
    assert look(COMPLETED, [task(slot, "complete", desired="complete") for slot in (1, 2)], job).is_met


def test_service_of_no_replicas_is_not_waited_for() -> None:
    assert look(STARTED, [], service(0)).is_met
    assert look(HEALTHY, [], service(0)).is_met


@pytest.mark.parametrize("condition", [STARTED, HEALTHY, COMPLETED])
def test_replica_that_failed_too_often_ends_the_wait_with_the_reason(condition: str) -> None:
    waiting = task(1, "ready", desired="ready")
    assert look(condition, [failed(), failed(), waiting]).failure == ""
    assert look(condition, [failed(), failed(), failed(err="unhealthy"), waiting]).failure.startswith("failed 3 times")


def test_failures_of_several_replicas_do_not_add_up() -> None:
    tasks = [failed(slot) for slot in (1, 2, 3)] + [task(slot, "ready", desired="ready") for slot in (1, 2, 3)]
    assert look(HEALTHY, tasks, service(3)).failure == ""


def test_failure_that_nothing_restarts_ends_the_wait_after_a_moment() -> None:
    dependency = Dependency(HEALTHY)
    tasks = [failed(err="task: non-zero exit (3)")]
    assert dependency.step(service(1), tasks, ACTIVE, 0).failure == ""
    assert dependency.step(service(1), [*tasks, task(1, "new")], ACTIVE, 2).failure == ""
    assert dependency.step(service(1), tasks, ACTIVE, 4).failure == ""
    verdict = dependency.step(service(1), tasks, ACTIVE, 7)
    assert verdict.failure == "failed and is not started again: task: non-zero exit (3)"


def test_paused_update_ends_the_wait() -> None:
    paused = service(1, UpdateStatus={"State": "paused", "Message": "task x failed"})
    assert look(HEALTHY, [task(1, "starting")], paused).failure == "its update is paused: task x failed"


def test_patience_ends_the_wait_with_what_is_in_the_way() -> None:
    dependency = Dependency(HEALTHY, patience=10)
    pending = task(1, "pending", err="no suitable node")
    assert dependency.step(service(1), [pending], ACTIVE, 100).failure == ""
    assert dependency.step(service(1), [pending], ACTIVE, 109.9).failure == ""
    assert (
        dependency.step(service(1), [pending], ACTIVE, 110).failure == "did not get there within 10 s: no suitable node"
    )
    assert Dependency(HEALTHY).step(service(1), [pending], ACTIVE, 1e9).failure == ""


STATES = st.sampled_from(["new", "pending", "preparing", "starting", "running", "failed", "complete", "shutdown"])
TASKS = st.lists(st.builds(task, st.integers(1, 3), STATES), max_size=6)


@given(TASKS, st.integers(1, 3), st.sampled_from([STARTED, HEALTHY, COMPLETED]))
def test_verdict_is_what_counting_by_hand_says(tasks: list[Any], replicas: int, condition: str) -> None:
    good = {STARTED: {"running", "complete"}, HEALTHY: {"running"}, COMPLETED: {"complete"}}[condition]
    slots = {item["Slot"] for item in tasks if item["Status"]["State"] in good}
    verdict = look(condition, tasks, service(replicas))
    assert verdict.is_met == (len(slots) >= replicas)
    assert not (verdict.is_met and verdict.failure)
