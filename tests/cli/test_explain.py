"""`essaim service explain` and `essaim inspect`: why tasks do not run, in words and in full."""

import json
from typing import Any

import pytest

from essaim.cli.output.explained import explanation, folded, gateway_says
from essaim.cli.output.tasks import Names
from tests.cli.conftest import NOW
from tests.cli.samples import NODE_ID

EARLIER, LATER = "2024-01-31T12:03:00Z", "2024-01-31T12:04:00Z"
NAMES = Names({"s1": "web"}, {"n1": "node1", "n2": "node2"})


def service(running: int = 0, wanted: int = 1, **more: Any) -> dict[str, Any]:
    status = {"RunningTasks": running, "DesiredTasks": wanted, "CompletedTasks": 4}
    return {"ID": "s1", "Spec": {"Name": "web", "Mode": {"Replicated": {}}}, "ServiceStatus": status, **more}


def task(
    state: str, slot: int = 1, *, at: str = LATER, node: str = "", err: str = "", said: str = ""
) -> dict[str, Any]:
    status = {"State": state, "Err": err, "Message": said, "Timestamp": at}
    made = {"ID": f"{slot}{state}{at}", "ServiceID": "s1", "Slot": slot, "NodeID": node, "CreatedAt": at}
    return {**made, "Status": status, "DesiredState": "running"}


def explained(of: dict[str, Any], *tasks: dict[str, Any], said: tuple[str, ...] = ()) -> list[str]:
    return explanation(of, tasks, NAMES, said, NOW).splitlines()


def test_explanation_of_pending_task_gives_reason_and_what_to_do() -> None:
    reason = (
        "no suitable node (insufficient memory on 2 nodes; constraint node.labels.ssd==true not satisfied on 1 node)"
    )
    assert explained(service(), task("pending", err=reason)) == [
        "web: 0 of 1 replicas running",
        f"  web.1: pending, on no node yet (About a minute ago): {reason}",
        "  what to do: Give nodes what the constraint asks for (essaim node update --label-add), or change it",
        "  what to do: Ask for less (--reserve-cpu, --reserve-memory, --generic-resource), or add a node",
    ]


def test_explanation_tells_what_became_of_the_attempt_before() -> None:
    lines = explained(
        service(),
        task("failed", at=EARLIER, node="n2", err="task: non-zero exit (1)"),
        task("pending", err="waits for 5 s"),
    )
    assert lines[2] == "  the last attempt of web.1: failed on node2 (2 minutes ago): task: non-zero exit (1)"
    assert lines[3] == "  what to do: The program ends by itself: see essaim service logs web"


def test_explanation_says_an_error_once() -> None:
    lines = explained(
        service(), task("rejected", at=EARLIER, node="n1", err="no"), task("pending", err="attempt 2, after: no")
    )
    assert lines[1:] == ["  web.1: pending, on no node yet (About a minute ago): attempt 2, after: no"]


def test_explanation_leaves_the_past_of_running_tasks_out() -> None:
    lines = explained(
        service(1), task("failed", at=EARLIER, node="n2", err="x"), task("running", node="n1", said="started")
    )
    assert lines == ["web: 1 of 1 replicas running", "  web.1: running on node1 (About a minute ago)"]


def test_explanation_counts_tasks_of_the_same_fate() -> None:
    lines = explained(service(0, 5), *(task("rejected", slot, node="n1", err="no") for slot in range(5, 0, -1)))
    assert lines[1:] == ["  web.1, web.2, web.3 and 2 more: rejected on node1 (About a minute ago): no"]


def test_explanation_shows_what_was_left_out_of_a_running_task() -> None:
    lines = explained(service(1), task("running", node="n1", said="started; left out: CapAdd has no meaning"))
    assert lines[1].endswith("; left out: CapAdd has no meaning")


def test_explanation_shows_progress_of_a_pull() -> None:
    assert explained(service(), task("preparing", node="n1", said="pulling: 3 of 9 MB"))[1].endswith(
        "pulling: 3 of 9 MB"
    )


def test_explanation_leaves_slots_out_that_are_no_longer_wanted() -> None:
    gone = {**task("shutdown", 2, node="n1"), "DesiredState": "shutdown"}
    assert len(explained(service(1), task("running", node="n1"), gone)) == 2


def test_explanation_of_a_paused_update_and_of_the_gateway() -> None:
    paused = service(1, UpdateStatus={"State": "paused", "Message": "task x failed"})
    assert explained(paused, said=("gateway: router a is not served",))[1:] == [
        "  update paused: task x failed",
        "  gateway: router a is not served",
    ]


@pytest.mark.parametrize(
    ("mode", "text"),
    [({"Global": {}}, "runs on 2 of 3 nodes"), ({"ReplicatedJob": {}}, "a job; 4 tasks completed, 2 running")],
)
def test_explanation_counts_by_mode(mode: dict[str, Any], text: str) -> None:
    of = service(2, 3)
    of["Spec"]["Mode"] = mode
    assert explained(of) == [f"web: {text}"]


def test_gateway_says_what_is_wrong_with_this_service_alone() -> None:
    endpoints = [
        {"task_name": "web.1.x", "verdict": "up", "reason": "check passed"},
        {"task_name": "web.2.y", "verdict": "down", "reason": "connection refused"},
    ]
    ours = {
        "id": "s1",
        "fault": "broken",
        "warnings": ["no port"],
        "ports": [{"published": 80, "endpoints": endpoints}],
    }
    assert gateway_says({"services": [ours, {**ours, "id": "s2"}]}, "s1") == [
        "faulty: broken",
        "gateway: no port",
        "gateway: web.2.y gets no requests at 80: down, connection refused",
    ]
    assert gateway_says({}, "s1") == []


def test_folded_keeps_lines_within_the_terminal() -> None:
    text = "web: 0 of 1\n  web.1: pending: " + "a reason that goes on " * 9 + "\n"
    lines = folded(text, 50).splitlines()
    assert max(map(len, lines)) <= 50
    assert lines[0] == "web: 0 of 1"
    assert all(line.startswith("      ") for line in lines[2:])
    assert folded(text, None) == folded(text, 10) == text


async def test_explain_tells_of_known_services_and_names_unknown_ones(essaim: Any, engine: Any) -> None:
    engine.task_state = lambda service: "rejected"
    await essaim("service", "create", "-d", "--no-resolve-image", "--name", "web", "nginx")
    done = await essaim("service", "explain", "web", "nope")
    assert done.out.startswith("web: 0 of 1 replicas running\n  web.1: rejected on ")
    assert (done.code, done.err) == (1, "no such service: nope\n")


async def test_inspect_finds_objects_of_every_kind(essaim: Any, engine: Any) -> None:
    await essaim("service", "create", "-d", "--no-resolve-image", "--name", "web", "nginx")
    task_id = next(iter(engine.tasks))
    done = await essaim("inspect", task_id, "web", NODE_ID)
    assert [found["ID"] for found in json.loads(done.out)] == [task_id, next(iter(engine.services)), NODE_ID]
    state = await essaim("inspect", "--type", "task", "--format", "{{.Status.State}}", task_id)
    assert state.out == "running\n"


async def test_inspect_of_what_is_not_there_says_so(essaim: Any) -> None:
    done = await essaim("inspect", "nope")
    assert (done.code, done.out) == (1, "[]\n")
    assert done.err == "Error: No such object: nope. Containers are shown by docker inspect\n"
    done = await essaim("inspect", "--type", "pod", "nope")
    assert done.err.startswith('"pod" is not a valid value for --type: it is one of node, network, service, task')
