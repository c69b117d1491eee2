"""Each invariant, against managers and Engines that show something wrong: it has to be told."""

import asyncio
from copy import deepcopy
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

from .invariants import TASK_LABEL, containers_match, nodes_ready, replicas_run, writes_kept
from .ledger import Book
from .world import World

Shown = dict[str, Any]


def node(name: str, *, leader: bool = False, state: str = "ready") -> Shown:
    manager = {"Reachability": "reachable"} | ({"Leader": True} if leader else {})
    return {
        "ID": f"id-{name}",
        "Description": {"Hostname": name},
        "Spec": {"Availability": "active", "Role": "manager"},
        "Status": {"State": state},
        "ManagerStatus": manager,
    }


def task(identifier: str, host: str, *, state: str = "running", desired: str = "running", slot: int = 1) -> Shown:
    return {
        "ID": identifier,
        "ServiceID": "web",
        "NodeID": f"id-{host}",
        "Slot": slot,
        "DesiredState": desired,
        "Status": {"State": state},
    }


def container(identifier: str, state: str = "running") -> Shown:
    return {
        "Id": f"c-{identifier}",
        "Names": [f"/web.1.{identifier}"],
        "State": state,
        "Status": state,
        "Labels": {TASK_LABEL: identifier},
    }


@dataclass
class Shows(World):
    """A world of two managers that show what is written here."""

    shown: dict[str, dict[str, Any]] = field(default_factory=dict)
    engines: dict[str, list[Shown]] = field(default_factory=dict)

    @property
    def hosts(self) -> Any:
        return [SimpleNamespace(name=name) for name in self.engines]

    async def read(self, path: str, query: Any = None, *, host: Any = None) -> Any:
        return deepcopy(self.shown[host.name if host else "h1"][path])

    async def containers(self, host: Any, query: str = "") -> list[Shown]:
        return self.engines[host.name]


def world(**changes: Any) -> Shows:
    """Two managers and one service of two replicas, all well, but for the `changes` of h1's view."""
    view = {
        "/nodes": [node("h1", leader=True), node("h2")],
        "/services": [{"ID": "web", "Spec": {"Name": "soak_web", "Mode": {"Replicated": {"Replicas": 2}}}}],
        "/tasks": [task("a", "h1"), task("b", "h2", slot=2)],
        "/configs": [],
    }
    mine = view | {f"/{name}": value for name, value in changes.items()}
    engines = {"h1": [container("a")], "h2": [container("b")]}
    return Shows(None, {}, managers={"h1", "h2"}, shown={"h1": mine, "h2": view}, engines=engines)


def told(check: Any, at: Shows, *arguments: Any) -> str:
    return "; ".join(asyncio.run(check(at, *arguments)))


def test_checks_of_a_cluster_that_is_well_have_no_complaint() -> None:
    for check in (nodes_ready, replicas_run, containers_match):
        assert told(check, world()) == ""
    assert told(writes_kept, world(), Book()) == ""


def test_node_that_one_manager_sees_down_is_told() -> None:
    at = world(nodes=[node("h1", leader=True), node("h2", state="down")])
    assert "h2 is down and active as h1 sees it" in told(nodes_ready, at)


def test_managers_that_see_different_leaders_are_told() -> None:
    assert "not one leader" in told(nodes_ready, world(nodes=[node("h1"), node("h2", leader=True)]))
    assert "not one leader" in told(nodes_ready, world(nodes=[node("h1"), node("h2")]))


def test_service_with_a_replica_too_few_or_too_many_is_told() -> None:
    few = world(tasks=[task("a", "h1"), task("b", "h2", state="failed", desired="shutdown")])
    assert "soak_web has tasks {'running': 1}, wanted 2 running" in told(replicas_run, few)
    many = world(tasks=[task("a", "h1"), task("b", "h2"), task("c", "h2")])
    assert "{'running': 3}" in told(replicas_run, many)
    waiting = world(tasks=[task("a", "h1"), task("b", "h2", state="ready", desired="ready")])
    assert "'ready': 1" in told(replicas_run, waiting)


def test_update_that_is_stuck_is_told() -> None:
    at = world()
    at.shown["h1"]["/services"][0]["UpdateStatus"] = {"State": "paused", "Message": "why"}
    assert "the update of soak_web is paused: why" in told(replicas_run, at)


def test_containers_without_task_and_tasks_without_container_are_told() -> None:
    stray, missing, ended, made = world(), world(), world(), world()
    stray.engines["h1"].append(container("x", "exited"))
    missing.engines["h2"] = [container("b", "exited")]
    ended.shown["h1"]["/tasks"].append(task("c", "h1", state="failed", desired="shutdown"))
    made.shown["h1"]["/tasks"].append(task("c", "h1", state="rejected", desired="shutdown"))
    failed = deepcopy(ended)
    failed.engines["h1"].append(container("c", "created"))
    ended.engines["h1"].append(container("c"))
    made.engines["h1"].append(container("c", "created"))
    assert "a container of a forgotten task: web.1.x" in told(containers_match, stray)
    assert "h2 runs no container for task b (slot 2)" in told(containers_match, missing)
    assert "h1 runs web.1.c, whose task is failed" in told(containers_match, ended)
    assert "h1 has web.1.c created, whose task is rejected" in told(containers_match, made)
    # What could not be started is kept with its failed task.
    assert told(containers_match, failed) == ""


def test_write_that_one_manager_lost_is_told() -> None:
    book = Book()
    book.began("ledger-1")
    book.made("ledger-1", "id")
    at = world(configs=[{"Spec": {"Name": "ledger-1"}}])
    assert told(writes_kept, at, book) == "h2: 1 acknowledged writes are lost, ledger-1 first"
