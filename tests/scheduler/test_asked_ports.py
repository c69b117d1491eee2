"""Ports of auth servers that other services' labels name are opened, reached and no longer asked."""

from typing import Any

import msgspec
import pytest

from essaim.cluster import changes
from essaim.cluster.task import TaskState
from essaim.scheduler.allocate.auth_server_ports import AskedPorts
from essaim.scheduler.traffic.routes import route_table

from .world import START, World, replicated

ADDRESS = "traefik.http.middlewares.m.forwardauth.address"
NAMESPACE = "com.docker.stack.namespace"


def asking(address: str, stack: str = "st") -> dict[str, str]:
    return {ADDRESS: address, NAMESPACE: stack}


def ports_of(world: World, name: str) -> dict[int, int]:
    """Target ports of the service in the table, each with the number of its endpoints that are up."""
    services = {service.name: service for service in route_table(world.store).services}
    found = services[name].ports if name in services else []
    return {port.target_port: sum(one.state == "up" for one in port.endpoints) for port in found}


def relabel(world: World, name: str, labels: dict[str, str]) -> None:
    service = world.service(f"svc-{name}")
    world.put("services", msgspec.structs.replace(service, spec=msgspec.structs.replace(service.spec, labels=labels)))


@pytest.mark.parametrize("auth_first", [True, False])
def test_port_that_another_services_labels_ask_at_is_reached(auth_first: bool) -> None:
    world = World()
    world.add_nodes(2)
    specs: list[Any] = [
        replicated("st_auth", 2),
        replicated("st_app", 1, labels=asking("http://auth:9091/verify"), ports=[(80, 80)]),
    ]
    for spec in specs if auth_first else reversed(specs):
        world.add_service(spec)
        world.settle()
    assert ports_of(world, "st_auth") == {9091: 2}


def test_label_that_comes_later_replaces_tasks_once_and_one_that_goes_replaces_none() -> None:
    world = World()
    world.add_nodes(2)
    world.add_service(replicated("st_auth", 2, ports=[(4000, 80)]))
    world.add_service(replicated("st_app", 1))
    world.settle()
    before = {task.id for task in world.running("svc-st_auth")}
    relabel(world, "st_app", asking("http://auth:9091"))
    world.settle()
    world.pass_time(30)
    after = {task.id for task in world.running("svc-st_auth")}
    assert before.isdisjoint(after)
    assert ports_of(world, "st_auth") == {9091: 2, 80: 2}
    relabel(world, "st_app", {})
    world.settle()
    assert ports_of(world, "st_auth") == {80: 2}
    relabel(world, "st_app", asking("http://auth:9091"))
    world.settle()
    world.pass_time(30)
    assert ports_of(world, "st_auth") == {9091: 2, 80: 2}
    assert {task.id for task in world.running("svc-st_auth")} == after
    assert all(task.state == TaskState.RUNNING for task in world.live("svc-st_auth"))


def test_port_that_is_open_anyway_replaces_nothing() -> None:
    world = World()
    world.add_nodes(1)
    world.add_service(replicated("st_auth", 1, ports=[(4000, 80)]))
    world.settle()
    before = {task.id for task in world.running("svc-st_auth")}
    world.add_service(replicated("st_app", 1, labels=asking("http://auth/")))
    world.settle()
    assert {task.id for task in world.running("svc-st_auth")} == before


@pytest.mark.parametrize(
    ("address", "stack", "found"),
    [
        ("http://auth:9091", "st", {"st_auth": [9091]}),
        ("http://auth:9091", "other", {"auth": [9091]}),
        ("http://tasks.st_auth:1", "", {"st_auth": [1]}),
        ("https://auth:9091", "st", {}),
        ("http://nobody:9091", "st", {}),
        ("http://st_app:9091", "st", {}),
    ],
)
def test_who_is_meant_is_who_gateways_would_ask(address: str, stack: str, found: dict[str, list[int]]) -> None:
    world = World()
    world.add_service(replicated("auth", 0))
    world.add_service(replicated("st_auth", 0))
    world.add_service(replicated("st_app", 0, labels=asking(address, stack)))
    world.settle()
    assert {s.spec.name: s.asked_ports for s in world.store.services if s.asked_ports} == found


def test_service_that_comes_takes_the_place_of_the_one_that_was_meant() -> None:
    world = World()
    world.add_service(replicated("auth", 0))
    world.add_service(replicated("st_app", 0, labels=asking("http://auth:9091")))
    world.settle()
    world.add_service(replicated("st_auth", 0))
    world.settle()
    assert {s.spec.name: s.asked_ports for s in world.store.services if s.asked_ports} == {"st_auth": [9091]}
    world.remove_service("svc-st_app")
    world.settle()
    assert not any(s.asked_ports for s in world.store.services)


def test_change_that_was_rejected_is_made_again() -> None:
    world = World()
    auth = world.add_service(replicated("auth", 0))
    world.add_service(replicated("app", 0, labels=asking("http://auth:9091")))
    loop = AskedPorts()
    loop.reset(world.store)
    with world.store.watch("services") as watch:
        assert len(loop.decide(world.store, START).changes) == 1
        assert loop.decide(world.store, START).changes == []
        # Somebody else was faster: what the loop has found never arrives.
        world.put("services", msgspec.structs.replace(world.service(auth.id), rebalance=True))
        loop.observe(watch.drain())
        (again,) = loop.decide(world.store, START).changes
    assert isinstance(again, changes.Put)
