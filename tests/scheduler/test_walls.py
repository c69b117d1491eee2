"""What nobody foresaw: each place where a decision is made about one of many raises for one service; the others go on.

The faulty service is marked, shows why in lists of tasks, keeps what it has, and is well again once it is repaired.
"""

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from essaim.api.control import lookup
from essaim.api.control.tasks import select
from essaim.certificates.asked import survey
from essaim.certificates.asked.survey import Survey
from essaim.cluster.service import JobStatus, NetworkAttachmentConfig, Service
from essaim.cluster.shape import NO_VERSION
from essaim.cluster.task import TaskState
from essaim.cluster.walls import MOST, Faults, Unfit, Walls, words
from essaim.scheduler.allocate import address_loop, auth_server_ports, port_loop
from essaim.scheduler.dispatch import assignments, network_tables, overlays
from essaim.scheduler.dispatch.assignments import Told
from essaim.scheduler.dispatch.network_tables import NetworkTables
from essaim.scheduler.orchestrate import cron, orchestrator, reaper, rebalance
from essaim.scheduler.place import placement_loop
from essaim.scheduler.traffic import routes, traffic
from tests.scheduler.test_hostile_specs import JOB, Neighbourhood
from tests.scheduler.world import START, World, replicated, with_image, with_replicas

BAD = "svc-bad"
BUG = "a bug that nobody foresaw"


def concerns(value: Any) -> bool:
    """Whether an argument is the bad service, or something of it."""
    if isinstance(value, tuple | list):
        return any(concerns(one) for one in value)
    if isinstance(value, dict):
        return "is-bad" in value
    if hasattr(value, "object"):
        return concerns(value.object)
    names = [getattr(value, name, None) for name in ("id", "service_id", "service_name")]
    return value == BAD or BAD in names or "bad" in names


class Bug:
    """Breaks a function for whatever concerns the bad service, while it is `on`."""

    def __init__(self, broken: Callable[..., Any]) -> None:
        self.on = True
        self.hits = 0
        self._broken = broken

    def __call__(self, *arguments: Any) -> Any:
        if self.on and any(concerns(one) for one in arguments):
            self.hits += 1
            raise ZeroDivisionError(BUG)
        return self._broken(*arguments)


LOOPS: list[tuple[Any, str]] = [
    (port_loop, "allocate"),
    (auth_server_ports, "asked_addresses"),
    (address_loop, "vip_networks"),
    (cron, "fire"),
    (orchestrator, "plan_service"),
    (placement_loop, "request_of"),
    (placement_loop, "is_waiting"),
    (rebalance, "numbered"),
    (reaper, "surplus"),
    (routes, "route_service"),
    (survey, "wanted_by"),
]


def bad_service(world: World) -> Service:
    fields = {"networks": [NetworkAttachmentConfig(target="net")]}
    labels = {"is-bad": "", "essaim.rebalance": "auto"}
    return world.add_service(replicated("bad", 1, ports=[(9090, 90)], labels=labels, task_fields=fields))


def bad_job(world: World) -> Service:
    spec = replicated("bad", 1, mode=JOB, labels={"essaim.schedule": "* * * * *"})
    return world.add_service(spec, job_status=JobStatus(job_iteration=NO_VERSION, last_execution=world.now))


def change(world: World, tag: str) -> None:
    spec = with_image(world.service(BAD).spec, f"bad:{tag}")
    world.update_service(BAD, msgspec.structs.replace(spec, labels={**(spec.labels or {}), "tag": tag}))


@pytest.mark.parametrize(("module", "name"), LOOPS, ids=[f"{m.__name__}.{n}" for m, n in LOOPS])
def test_loop_with_a_bug_for_one_service_serves_the_others_and_marks_it(
    module: Any, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    neighbourhood = Neighbourhood()
    world = neighbourhood.world
    bug = Bug(getattr(module, name))
    monkeypatch.setattr(module, name, bug)
    seen = Survey(world.faults)
    bad = bad_job(world) if module is cron else bad_service(world)
    world.settle()
    change(world, "2")
    seen.take(world.store)
    neighbourhood.live()
    neighbourhood.check()
    assert bug.hits > 0
    world.pass_time(2)
    fault = world.service(bad.id).fault
    assert fault is not None
    assert BUG in fault
    shown = select(world.store, {"service": ["bad"]})
    assert fault in [task.status.err for task in shown]
    assert len([note for note in world.notes if BUG in note]) == 1, "it is said once, not each time"
    bug.on = False
    change(world, "3")
    seen.take(world.store)
    neighbourhood.live()
    world.pass_time(2)
    assert world.service(bad.id).fault is None
    assert fault not in [task.status.err for task in select(world.store, {"service": ["bad"]})]


def test_faulty_service_keeps_what_runs_and_shows_the_fault_beside_it(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    world.add_nodes(1)
    bad = bad_service(world)
    world.settle()
    (before,) = world.running(bad.id)
    monkeypatch.setattr(orchestrator, "plan_service", Bug(orchestrator.plan_service))
    world.update_service(bad.id, with_replicas(world.service(bad.id).spec, 3))
    world.pass_time(30)
    assert world.running(bad.id) == [before]
    shown = select(world.store, {"service": ["bad"], "desired-state": ["running"]})
    assert [(t.slot, t.state) for t in shown] == [(1, TaskState.RUNNING), (2, TaskState.PENDING)]
    assert BUG in (shown[1].status.err or "")
    assert lookup.task(world.store, shown[1].id) == shown[1]
    assert select(world.store, {"node": ["n1"]}) == [before]


def test_faulty_service_is_tried_ever_less_often_and_at_once_when_it_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    world.add_nodes(1)
    bug = Bug(orchestrator.plan_service)
    monkeypatch.setattr(orchestrator, "plan_service", bug)
    bad = bad_service(world)
    world.pass_time(600)
    assert 6 < bug.hits <= 6 + 600 / MOST.total_seconds() + 1
    before = bug.hits
    change(world, "2")
    world.settle()
    assert bug.hits == before + 1
    assert world.service(bad.id).fault


def test_new_leader_keeps_the_marks_until_it_has_looked_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    world.add_nodes(1)
    bug = Bug(orchestrator.plan_service)
    monkeypatch.setattr(orchestrator, "plan_service", bug)
    bad = bad_service(world)
    world.pass_time(1)
    assert world.service(bad.id).fault
    version = world.service(bad.id).version
    world.new_leader()
    world.pass_time(30)
    assert world.service(bad.id).version == version, "the mark came and went"
    bug.on = False
    world.new_leader()
    world.pass_time(30)
    assert world.service(bad.id).fault is None


def test_routes_of_a_faulty_service_keep_the_endpoints_that_still_are(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    world.add_nodes(1)
    bad = world.add_service(replicated("bad", 2, ports=[(9090, 90)]))
    world.settle()
    cache = routes.RouteCache(world.faults)
    before = cache.table(world.store).services[0]
    assert len(before.ports[0].endpoints) == 2
    monkeypatch.setattr(routes, "route_service", Bug(routes.route_service))
    with world.store.watch(*cache.tables) as watch:
        world.update_service(bad.id, with_replicas(world.service(bad.id).spec, 1))
        world.settle()
        cache.observe(watch.drain())
    after = cache.table(world.store).services[0]
    assert BUG in (after.fault or "")
    assert [e.task_id for e in after.ports[0].endpoints] == [t.id for t in world.running(bad.id)]


def test_network_tables_beside_a_task_that_cannot_be_read_name_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    neighbourhood = Neighbourhood()
    world = neighbourhood.world
    bad_service(world)
    world.settle()
    monkeypatch.setattr(overlays, "_places_of", Bug(overlays._places_of))
    tables = NetworkTables(world.faults)
    tables.renew(world.store)
    fault = world.faults.of(BAD)
    assert fault is not None
    assert BUG in fault.reason
    found = overlays.overlays(world.store)
    assert {name for table in found["n1"] for name in table.names} >= {"web", "tasks.web"}


@pytest.mark.parametrize(
    ("module", "name"), [(assignments, "mark_of"), (network_tables, "_balanced"), (traffic, "serves")]
)
def test_sessions_beside_a_task_that_cannot_be_read_tell_of_the_others(
    module: Any, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    neighbourhood = Neighbourhood()
    world = neighbourhood.world
    bad_service(world)
    world.settle()
    bug = Bug(getattr(module, name))
    monkeypatch.setattr(module, name, bug)
    change(world, "2")
    tables = NetworkTables(world.faults)
    with world.store.watch("tasks") as watch:
        world.settle()
        events = watch.drain()
    neighbourhood.traffic.observe(events, 0)
    for event in events:
        tables.consider(msgspec.structs.replace(event.object, desired_state="shutdown"), world.store, 0)
    told = [t.service_id for n in ("n1", "n2") for t in Told(n).full(world.store, lambda _: False).tasks]
    assert told.count("svc-web") == 2
    assert bug.hits > 0


@pytest.mark.parametrize("fields", [{"desired_state": "levitating"}, {"state": "lost"}])
def test_task_in_an_unknown_state_stops_no_loop(fields: dict[str, str]) -> None:
    neighbourhood = Neighbourhood()
    world = neighbourhood.world
    bad = bad_service(world)
    world.settle()
    (task,) = world.running(bad.id)
    world.agents.clear()
    if "state" in fields:
        task = msgspec.structs.replace(task, status=msgspec.structs.replace(task.status, state="lost"))
    else:
        task = msgspec.structs.replace(task, **fields)
    world.put("tasks", task)
    world.new_leader()
    world.settle()
    assert "KeyError" in (world.service(bad.id).fault or "")
    other = world.add_service(replicated("other", 1))
    world.settle()
    assert [t.state for t in world.tasks(other.id)] == [TaskState.ASSIGNED]


def test_walls_words_of_an_error_are_one_printable_line() -> None:
    assert words(ValueError("a\0b\nc\u202e")) == "ValueError: a\ufffdb\ufffdc\ufffd"
    assert words(ValueError()) == "ValueError"
    assert len(words(ValueError("x" * 10_000))) < 320
    assert words(Unfit("scale it down")) == "scale it down"


def test_walls_leave_an_object_alone_until_its_time_or_its_change() -> None:
    faults = Faults()
    walls = Walls("it cannot be done", faults)

    def fail() -> int:
        raise ZeroDivisionError

    assert walls.attempt("a", 1, START, fail, 0) == 0
    assert walls.attempt("a", 1, START, lambda: 5, 0) == 0
    assert walls.attempt("a", 2, START, lambda: 5, 0) == 5
    assert faults.of("a") is None
    assert walls.attempt("b", 1, START, fail, 0) == 0
    again = walls.retry_at("b")
    assert again is not None
    assert walls.attempt("b", 1, again, lambda: 5, 0) == 5
