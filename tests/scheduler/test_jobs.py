"""Jobs and their schedules."""

from collections import Counter
from datetime import UTC, datetime, timedelta

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from essaim.cluster.errors import InvalidArgument
from essaim.cluster.service import Empty, JobStatus, ReplicatedJob, RestartPolicy, Service, ServiceMode
from essaim.cluster.shape import Version
from essaim.cluster.task import TaskState
from essaim.scheduler.orchestrate.cron import schedule_of
from tests.scheduler.world import LONG, START, World, replicated

NANO = 10**9


def job(world: World, total: int | None, at_once: int | None, **fields: object) -> Service:
    mode = ServiceMode(replicated_job=ReplicatedJob(max_concurrent=at_once, total_completions=total))
    spec = replicated("job", 0, mode=mode, **fields)
    status = JobStatus(job_iteration=Version(index=0), last_execution=world.now)
    return world.add_service(spec, job_status=status)


def finish(world: World, state: str = "complete") -> None:
    """Every task that runs comes to its end."""
    from essaim.cluster.changes import Report

    for agent in world.agents.values():
        for task_id, known in list(agent.tasks.items()):
            task = world.store.tasks.get(task_id)
            if known == TaskState.RUNNING and task is not None:
                agent.tasks[task_id] = TaskState.of(state)
                status = msgspec.structs.replace(task.status, state=state)
                world.write([Report(task_id, agent.node_id, status)])


def states(world: World, service: Service) -> Counter[str]:
    return Counter(t.status.state for t in world.tasks(service.id))


@settings(max_examples=40, deadline=None, derandomize=not LONG)
@given(total=st.integers(1, 8), at_once=st.integers(1, 5), failures=st.integers(0, 6), seed=st.integers(0, 99))
def test_job_completes_its_total_and_never_exceeds_max_concurrent(
    total: int, at_once: int, failures: int, seed: int
) -> None:
    world = World(seed)
    world.add_nodes(2)
    service = job(world, total, at_once, task_fields={"restart_policy": RestartPolicy(delay=NANO)})

    def check(world: World) -> None:
        under_way = [t for t in world.tasks(service.id) if not t.is_terminal and t.desired <= TaskState.COMPLETE]
        assert len(under_way) <= at_once

    world.checks.append(check)
    for _ in range(400):
        world.settle()
        bad = failures > 0 and world.chance.random() < 0.5
        failures -= bad
        finish(world, "failed" if bad else "complete")
        world.now += timedelta(seconds=1)
    complete = [t for t in world.tasks(service.id) if t.state == TaskState.COMPLETE]
    assert sorted(t.slot or 0 for t in complete) == list(range(1, total + 1))
    assert all(t.is_terminal for t in world.tasks(service.id))


def test_job_without_figures_runs_once() -> None:
    world = World()
    world.add_nodes(2)
    service = job(world, None, None)
    world.settle()
    finish(world)
    world.settle()
    assert states(world, service) == {"complete": 1}


def test_job_runs_again_when_its_iteration_grows() -> None:
    world = World()
    world.add_nodes(1)
    service = job(world, 2, 2)
    world.settle()
    finish(world)
    world.settle()
    again = JobStatus(job_iteration=Version(index=1), last_execution=world.now)
    world.put("services", msgspec.structs.replace(world.service(service.id), job_status=again))
    world.settle()
    assert states(world, service) == {"running": 2}
    finish(world)
    world.settle()
    assert states(world, service) == {"complete": 2}


def test_job_without_restart_stays_failed() -> None:
    world = World()
    world.add_nodes(1)
    service = job(world, 2, 1, task_fields={"restart_policy": RestartPolicy(condition="none")})
    for _ in range(5):
        world.pass_time(30, step=10)
        finish(world, "failed")
    world.settle()
    assert states(world, service) == {"failed": 2}


def test_job_on_a_lost_node_is_done_elsewhere() -> None:
    world = World()
    world.add_nodes(2)
    service = job(world, 2, 2)
    world.settle()
    world.node_down("n2")
    world.settle()
    assert states(world, service) == {"running": 2, "orphaned": 1}
    finish(world)
    world.node_back("n2")
    world.settle()
    finish(world)
    world.settle()
    assert states(world, service) == {"complete": 2, "orphaned": 1}


def test_job_leaves_a_drained_node() -> None:
    world = World()
    world.add_nodes(2)
    service = job(world, 2, 2)
    world.settle()
    world.change_node("n2", availability="drain")
    world.settle()
    running = [t for t in world.tasks(service.id) if t.state == TaskState.RUNNING]
    assert {t.node_id for t in running} == {"n1"}
    assert len(running) == 2


def test_global_job_runs_once_on_every_node_and_on_new_ones() -> None:
    world = World()
    world.add_nodes(2)
    spec = replicated("each", 0, mode=ServiceMode(global_job=Empty()))
    service = world.add_service(spec, job_status=JobStatus(job_iteration=Version(index=0)))
    world.settle()
    finish(world)
    world.settle()
    world.add_node("n3")
    world.settle()
    finish(world)
    world.pass_time(60, step=20)
    assert {t.node_id for t in world.tasks(service.id)} == {"n1", "n2", "n3"}
    assert states(world, service) == {"complete": 3}


# -- schedules -----------------------------------------------------------------------------------------------------


def scheduled(world: World, text: str, **labels: str) -> Service:
    extra = {f"essaim.schedule.{key}": value for key, value in labels.items()}
    return job(world, 1, 1, labels={"essaim.schedule": text, **extra})


def runs(world: World, service: Service) -> int:
    return len(world.tasks(service.id))


def test_scheduled_job_waits_for_its_time_and_repeats() -> None:
    world = World()
    world.add_nodes(1)
    service = scheduled(world, "*/10 * * * *")
    world.settle()
    assert runs(world, service) == 0
    world.pass_time(600, step=60)
    assert states(world, service) == {"running": 1}
    finish(world)
    world.pass_time(600, step=60)
    assert states(world, service) == {"complete": 1, "running": 1}


@pytest.mark.parametrize(
    ("concurrency", "expected"),
    [
        ("forbid", {"running": 1}),
        ("allow", {"running": 2}),
        ("replace", {"shutdown": 1, "running": 1}),
    ],
)
def test_run_that_is_still_under_way_is_treated_as_declared(concurrency: str, expected: dict[str, int]) -> None:
    world = World()
    world.add_nodes(1)
    service = scheduled(world, "*/10 * * * *", concurrency=concurrency)
    world.pass_time(1200, step=60)
    assert states(world, service) == expected


def test_forbidden_run_is_passed_over_not_put_off() -> None:
    world = World()
    world.add_nodes(1)
    service = scheduled(world, "*/10 * * * *")
    world.pass_time(1200, step=60)
    finish(world)
    world.pass_time(540, step=60)
    assert states(world, service) == {"complete": 1}
    world.pass_time(60)
    assert states(world, service) == {"complete": 1, "running": 1}


def test_missed_runs_are_made_up_for_once_within_the_deadline() -> None:
    world = World()
    world.add_nodes(1)
    service = scheduled(world, "*/10 * * * *")
    world.settle()
    world.now += timedelta(hours=3)
    world.new_leader()
    world.settle()
    assert runs(world, service) == 1
    late = scheduled_late(world, "20m")
    world.settle()
    world.now = START + timedelta(hours=30, minutes=30)
    world.new_leader()
    world.settle()
    assert runs(world, late) == 0


def scheduled_late(world: World, deadline: str) -> Service:
    labels = {"essaim.schedule": "@daily", "essaim.schedule.deadline": deadline}
    mode = ServiceMode(replicated_job=ReplicatedJob(max_concurrent=1, total_completions=1))
    status = JobStatus(job_iteration=Version(index=0), last_execution=world.now)
    return world.add_service(replicated("late", 0, mode=mode, labels=labels), job_status=status)


def test_update_of_a_scheduled_job_starts_no_run() -> None:
    world = World()
    world.add_nodes(1)
    service = scheduled(world, "*/10 * * * *")
    world.pass_time(600, step=60)
    finish(world)
    world.settle()
    bumped = JobStatus(job_iteration=Version(index=2), last_execution=world.now)
    world.put("services", msgspec.structs.replace(world.service(service.id), job_status=bumped))
    world.settle()
    assert states(world, service) == {"complete": 1}
    world.pass_time(600, step=60)
    assert states(world, service) == {"complete": 1, "running": 1}


def test_history_of_runs_is_cut_to_the_limit() -> None:
    world = World()
    world.add_nodes(1)
    service = scheduled(world, "* * * * *")
    for _ in range(12):
        world.pass_time(60, step=30)
        finish(world)
    world.settle()
    assert runs(world, service) == 5
    newest = max(t.job_iteration.index for t in world.tasks(service.id) if t.job_iteration)
    assert sorted(t.job_iteration.index for t in world.tasks(service.id) if t.job_iteration) == list(
        range(newest - 4, newest + 1)
    )


def test_schedule_counts_in_its_time_zone() -> None:
    schedule = schedule_of({"essaim.schedule": "0 3 * * *", "essaim.schedule.timezone": "Europe/Paris"})
    assert schedule is not None
    assert schedule.next_after(datetime(2026, 1, 10, tzinfo=UTC)) == datetime(2026, 1, 10, 2, tzinfo=UTC)
    assert schedule.next_after(datetime(2026, 7, 10, tzinfo=UTC)) == datetime(2026, 7, 10, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        ({"essaim.schedule": "every day"}, "invalid schedule 'every day'"),
        ({"essaim.schedule": ""}, "invalid schedule"),
        ({"essaim.schedule": "@daily", "essaim.schedule.timezone": "Mars/Olympus"}, "unknown time zone 'Mars/Olympus'"),
        ({"essaim.schedule": "@daily", "essaim.schedule.timezone": "../etc/passwd"}, "unknown time zone"),
        ({"essaim.schedule": "@daily", "essaim.schedule.concurrency": "maybe"}, "it is forbid, allow or replace"),
        ({"essaim.schedule": "@daily", "essaim.schedule.deadline": "soon"}, "write it like 500ms, 2s or 1m30s"),
    ],
)
def test_schedule_that_cannot_be_read_is_refused(labels: dict[str, str], words: str) -> None:
    with pytest.raises(InvalidArgument, match=words):
        schedule_of(labels)


def test_schedule_on_a_service_that_is_no_job_is_said_and_changes_nothing() -> None:
    world = World()
    world.add_nodes(1)
    service = world.add_service(replicated("web", 1, labels={"essaim.schedule": "@daily"}))
    world.settle()
    reason = (
        "its schedule cannot be followed: only jobs can be scheduled: create the service with --mode replicated-job"
    )
    assert world.service(service.id).fault == reason
    world.settle()
    assert len(world.running(service.id)) == 1
