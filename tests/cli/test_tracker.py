"""When a service has converged."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from essaim.cli.progress.tracker import Tracker, count_tasks

ACTIVE = frozenset({"n1", "n2"})


def service(replicas: int = 2, **more: Any) -> dict[str, Any]:
    spec = {"Name": "web", "Mode": {"Replicated": {"Replicas": replicas}}, **more.pop("Spec", {})}
    return {"ID": "s", "Spec": spec, **more}


def task(slot: int, state: str, node: str = "n1", desired: str = "running", **more: Any) -> dict[str, Any]:
    status = {"State": state, "Err": more.pop("err", "")}
    return {"Slot": slot, "NodeID": node, "DesiredState": desired, "Status": status, **more}


BOTH = [task(1, "running"), task(2, "running", "n2")]


def test_tracker_when_all_tasks_run_waits_for_the_monitor_time() -> None:
    tracker = Tracker("web")
    assert not tracker.step(service(), BOTH[:1], ACTIVE, 0).is_finished
    report = tracker.step(service(), BOTH, ACTIVE, 1)
    assert report.lines == (("verify", "Waiting 5 seconds to verify that tasks are stable..."),)
    assert not tracker.step(service(), BOTH, ACTIVE, 5.9).is_finished
    report = tracker.step(service(), BOTH, ACTIVE, 6)
    assert report.is_finished
    assert report.lines == (("verify", "Service web converged"),)


def test_tracker_monitor_time_is_the_update_s() -> None:
    tracker = Tracker("web")
    short = service(Spec={"UpdateConfig": {"Monitor": 10**9}})
    tracker.step(short, BOTH, ACTIVE, 0)
    assert tracker.step(short, BOTH, ACTIVE, 1).is_finished


def test_tracker_when_a_task_fails_while_verifying_starts_over() -> None:
    tracker = Tracker("web")
    tracker.step(service(), BOTH, ACTIVE, 0)
    report = tracker.step(service(), [BOTH[0], task(2, "failed", err="boom")], ACTIVE, 4)
    assert report.lines == (("verify", "Detected task failure"),)
    assert report.count.problem == "boom"
    tracker.step(service(), BOTH, ACTIVE, 5)
    assert not tracker.step(service(), BOTH, ACTIVE, 9).is_finished
    assert tracker.step(service(), BOTH, ACTIVE, 10).is_finished


def test_tracker_paused_update_is_a_failure() -> None:
    paused = service(UpdateStatus={"State": "paused", "Message": "update paused due to failure"})
    assert Tracker("web").step(paused, [], ACTIVE, 0).failure == "service update paused: update paused due to failure"
    paused = service(UpdateStatus={"State": "rollback_paused", "Message": "m"})
    assert Tracker("web").step(paused, [], ACTIVE, 0).failure == "service rollback paused: m"


def test_tracker_rollback_is_announced_once_and_ends_with_its_message() -> None:
    tracker = Tracker("web")
    started = service(UpdateStatus={"State": "rollback_started", "Message": "rolling back"})
    assert tracker.step(started, [], ACTIVE, 0).lines == (("rollback", "rolling back"),)
    assert tracker.step(started, [], ACTIVE, 1).lines == ()
    done = service(UpdateStatus={"State": "rollback_completed", "Message": "rollback completed"})
    tracker.step(done, BOTH, ACTIVE, 2)
    assert tracker.step(done, BOTH, ACTIVE, 9).lines[-1] == ("rollback", "rollback completed")


def test_tracker_job_is_complete_without_verifying() -> None:
    job = {
        "ID": "s",
        "Spec": {"Mode": {"ReplicatedJob": {"TotalCompletions": 2}}},
        "JobStatus": {"JobIteration": {"Index": 3}},
    }
    old = task(1, "complete", desired="complete", JobIteration={"Index": 2})
    new = [task(slot, "complete", desired="complete", JobIteration={"Index": 3}) for slot in (1, 2)]
    tracker = Tracker("job")
    assert not tracker.step(job, [old, new[0]], ACTIVE, 0).is_finished
    report = tracker.step(job, [old, *new], ACTIVE, 0)
    assert report.is_finished
    assert report.lines == (("", "job complete"),)


def test_tracker_scaled_to_zero_converges() -> None:
    tracker = Tracker("web")
    tracker.step(service(0), [], ACTIVE, 0)
    assert tracker.step(service(0), [], ACTIVE, 5).is_finished


ONCE = {"TaskTemplate": {"RestartPolicy": {"Condition": "none"}}}


def test_tracker_when_nothing_restarts_a_task_its_good_end_counts_and_its_failure_ends_the_wait() -> None:
    ended = task(1, "complete", desired="shutdown")
    tracker = Tracker("web")
    tracker.step(service(1, Spec=ONCE), [ended], ACTIVE, 0)
    assert tracker.step(service(1, Spec=ONCE), [ended], ACTIVE, 5).is_finished
    assert not Tracker("web").step(service(1), [ended], ACTIVE, 0).count.done
    tracker = Tracker("web")
    bad = [task(2, "running"), task(1, "failed", desired="shutdown", err="boom")]
    assert tracker.step(service(2, Spec=ONCE), bad, ACTIVE, 0).failure == ""
    assert tracker.step(service(2, Spec=ONCE), bad, ACTIVE, 0.9).failure == ""
    assert tracker.step(service(2, Spec=ONCE), bad, ACTIVE, 1).failure.endswith("is not started again: boom")


def test_count_global_service_waits_for_its_first_tasks() -> None:
    everywhere = {"Spec": {"Mode": {"Global": {}}}}
    assert str(count_tasks(everywhere, [], ACTIVE)) == "waiting for new tasks"
    found = [task(0, "running", "n1"), task(0, "starting", "n2"), task(0, "running", "gone")]
    count = count_tasks(everywhere, found, ACTIVE)
    assert (count.done, count.total, dict(count.others)) == (1, 2, {"starting": 1})


def test_count_tasks_of_lost_nodes_and_retired_ones_do_not_count() -> None:
    found = [task(1, "running", "lost"), task(2, "running", desired="shutdown"), task(3, "running")]
    assert count_tasks(service(3), found, ACTIVE).done == 1


STATES = st.sampled_from(["new", "pending", "preparing", "starting", "running", "failed", "complete", "shutdown"])
TASKS = st.lists(st.builds(task, st.integers(1, 4), STATES, st.sampled_from(["n1", "n2", "lost"])), max_size=8)


@given(st.lists(TASKS, max_size=8), st.integers(0, 3))
def test_tracker_never_finishes_unless_the_last_look_was_complete(
    looks: list[list[dict[str, Any]]], replicas: int
) -> None:
    tracker = Tracker("web")
    for now, tasks in enumerate(looks):
        report = tracker.step(service(replicas), tasks, ACTIVE, now * 3.0)
        running = {item["Slot"] for item in tasks if item["Status"]["State"] == "running" and item["NodeID"] in ACTIVE}
        assert report.count.done == len(running)
        if report.is_finished:
            assert len(running) >= replicas
