"""A decision whose write was refused is made anew, in every loop: nothing waits for an event that has been already."""

import random
from datetime import timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from essaim.cluster import changes
from essaim.cluster.changes import Change, Delete, Report
from essaim.cluster.objects import Network, NetworkSpec
from essaim.cluster.service import (
    Empty,
    JobStatus,
    NetworkAttachmentConfig,
    Replicated,
    ReplicatedJob,
    RestartPolicy,
    Service,
    ServiceMode,
    ServiceSpec,
)
from essaim.cluster.shape import NO_VERSION
from essaim.cluster.store import Rejected, Store
from essaim.cluster.task import TaskState, TaskStatus
from essaim.scheduler.refusals import FREE, MOST, Refusals
from tests.scheduler.world import LONG, World, image_of, rejection, replicated, with_image, with_replicas

NET = [NetworkAttachmentConfig(target="net")]


def story(world: World) -> None:
    """Something for every loop to do: ports, addresses, placement, updates, jobs, schedules, moves, forgetting."""
    world.ends = lambda task: "complete" if "job" in (task.service_id or "") else None
    world.add_nodes(2)
    subnet = {"Config": [{"Subnet": "10.0.1.0/24"}]}
    world.put("networks", Network(id="net", spec=NetworkSpec(name="net", driver="overlay", ipam=subnet)))
    labels = {"traefik.http.middlewares.m.forwardauth.address": "http://other:4180/"}
    web = world.add_service(replicated("web", 3, ports=[(0, 80)], labels=labels, task_fields={"networks": NET}))
    other = world.add_service(replicated("other", 2, labels={"essaim.rebalance": "auto"}))
    world.add_service(replicated("all", 1, mode=ServiceMode(global_=Empty())))
    job = ServiceMode(replicated_job=ReplicatedJob(total_completions=3, max_concurrent=2))
    status = JobStatus(job_iteration=NO_VERSION, last_execution=world.now)
    world.add_service(replicated("job", 1, mode=job), job_status=status)
    timed = replicated("timed-job", 1, mode=job, labels={"essaim.schedule": "* * * * *"})
    world.add_service(timed, job_status=status)
    world.pass_time(3)
    world.update_service(web.id, with_image(world.service(web.id).spec, "web:2"))
    world.pass_time(30, step=10)
    world.update_service(other.id, with_replicas(world.service(other.id).spec, 1))
    world.add_node("n3")
    world.node_down("n2")
    world.pass_time(30, step=10)
    world.node_back("n2")
    world.put("services", msgspec.structs.replace(world.service(other.id), rebalance=True))
    world.pass_time(60, step=10)
    world.remove_service("svc-job")
    world.pass_time(60, step=10)


def check(world: World) -> None:
    web = world.service("svc-web")
    assert [image_of(t) for t in world.running(web.id)] == ["web:2"] * 3
    assert all(t.networks_attachments for t in world.running(web.id))
    assert web.endpoint is not None
    assert web.endpoint.virtual_ips
    assert web.endpoint.ports
    assert web.endpoint.ports[0].published_port
    assert web.update_status is not None
    assert web.update_status.state == "completed"
    assert world.service("svc-other").asked_ports == [4180]
    assert world.service("svc-other").rebalance is None
    assert len(world.running("svc-other")) == 1
    assert len(world.running("svc-all")) == 3
    assert world.tasks("svc-job") == []
    done = [t for t in world.tasks("svc-timed-job") if t.state == TaskState.COMPLETE]
    assert len(done) >= 6
    assert all(not s.fault for s in world.store.services)


def test_loops_whose_every_change_is_refused_once_come_to_the_same_end() -> None:
    """One change after the other: each run refuses another one, as if its object had changed meanwhile."""
    counted = World()
    total = 0

    def count(change: Change) -> bool:
        nonlocal total
        total += 1
        return False

    counted.refuses = count
    story(counted)
    check(counted)
    assert total > 80
    for wanted in range(total):
        world, seen = World(), 0

        def refuse(change: Change, wanted: int = wanted) -> bool:
            nonlocal seen
            seen += 1
            return seen == wanted + 1

        world.refuses = refuse
        story(world)
        check(world)


@settings(
    max_examples=500 if LONG else 12, derandomize=not LONG, deadline=None, suppress_health_check=list(HealthCheck)
)
@given(rate=st.sampled_from([0.05, 0.3, 0.8]), seed=st.integers(0, 1 << 30))
def test_loops_whose_changes_are_refused_by_chance_come_to_the_same_end(rate: float, seed: int) -> None:
    world = World(seed)
    chance = random.Random(seed)
    world.refuses = lambda change: chance.random() < rate
    story(world)
    world.refuses = lambda change: False
    world.pass_time(70, step=10)
    check(world)


@pytest.mark.parametrize("state", ["preparing", "ready", "starting"])
def test_waiting_task_whose_start_lost_a_race_with_a_report_is_started(state: str) -> None:
    world = World()
    world.add_nodes(1)
    service = world.add_service(replicated("a", 1, task_fields={"restart_policy": RestartPolicy(delay=500_000_000)}))
    world.settle()
    (first,) = world.running(service.id)
    world.pass_time(60)
    world.agents["n1"].tasks[first.id] = TaskState.COMPLETE
    world.write([Report(first.id, "n1", TaskStatus(timestamp=world.now, state="complete", message="finished"), None)])
    world.agents["n1"].connected = False
    world.settle()
    (new,) = [t for t in world.live(service.id) if t.id != first.id]
    world.now += timedelta(seconds=0.6)
    loop, watch = next(pair for pair in world.loops if pair[0].name == "orchestrator")
    loop.observe(watch.drain())
    decision = loop.decide(world.store, world.now)
    world.write([Report(new.id, "n1", TaskStatus(timestamp=world.now, state=state, message="reported"), None)])
    loop.observe(watch.drain())  # the report's event comes, and means nothing to this loop
    outcome = world.write(decision.changes)
    assert [one.id for one in outcome.rejected] == [new.id]
    world.refusals[loop.name].take(world.store, decision.changes, outcome.rejected)
    world.agents["n1"].connected = True
    world.pass_time(10)
    assert [t.id for t in world.running(service.id)] == [new.id]


def stored(*services: Service) -> Store:
    store = Store()
    for index, service in enumerate(services, 1):
        made = changes.ChangeSet([changes.put("services", service, new=True)], World().now)
        store.apply(index, changes.encode(made))
    return store


def service(name: str, **fields: Any) -> Service:
    return Service(id=name, spec=ServiceSpec(name=name, mode=ServiceMode(replicated=Replicated(replicas=1))), **fields)


def test_refused_change_is_shown_as_its_object_is_now() -> None:
    store = stored(service("a"))
    refusals = Refusals()
    proposed = [
        changes.put("services", service("a")),
        Delete("services", "b", 3),
        changes.put("services", service("c")),
    ]
    refusals.take(store, proposed, [rejection(change) for change in proposed])
    events = refusals.events(store)
    assert [(e.kind, e.object.id, e.old is None) for e in events] == [("update", "a", True), ("delete", "c", False)]
    assert refusals.events(store) == []


def test_refused_set_that_nobody_can_read_is_looked_at_as_a_whole() -> None:
    store = stored(service("a"))
    refusals = Refusals()
    refusals.take(store, [changes.put("services", service("a"))], [Rejected("undecodable", "", "")])
    assert [e.object.id for e in refusals.events(store)] == ["a"]


def test_change_that_is_refused_again_and_again_waits_ever_longer() -> None:
    store = stored(service("a"))
    refusals = Refusals()
    pauses = []
    for _ in range(FREE + 12):
        refusals.take(store, [changes.put("services", service("a"))], [Rejected("name", "services", "a")])
        pauses.append(refusals.pause)
        refusals.events(store)
    assert pauses[:FREE] == [0.0] * FREE
    assert pauses == sorted(pauses)
    assert pauses[-1] == MOST
    refusals.take(store, [changes.put("services", service("a"))], [])
    refusals.take(store, [changes.put("services", service("a"))], [Rejected("version", "services", "a")])
    assert refusals.pause == 0.0
