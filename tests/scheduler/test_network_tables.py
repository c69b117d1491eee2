"""The order to stop a replica waits until nobody sends it anything by its virtual address."""

import msgspec
import pytest

from essaim.cluster import wire
from essaim.cluster.task import Task
from essaim.scheduler.dispatch.network_tables import LIMIT, NetworkTables

from .test_overlays import attached, network
from .world import World, replicated


@pytest.fixture
def world() -> World:
    world = World()
    world.add_nodes(2)
    world.put("networks", network("one", "10.0.1.0/24"))
    world.put("networks", network("two", "10.0.2.0/24"))
    world.add_service(attached("db", "one"))
    world.settle()
    return world


@pytest.fixture
def tables(world: World) -> NetworkTables:
    made = NetworkTables()
    for node in world.store.nodes:
        made.connect(node.id)
    made.renew(world.store)
    return made


def version(tables: NetworkTables, node_id: str) -> int:
    message = wire.decode_to_agent(tables.message(node_id) or b"")
    assert isinstance(message, wire.Networks)
    return message.version


def told_to_stop(world: World, task: Task) -> Task:
    stored: Task = world.put("tasks", msgspec.structs.replace(task, desired_state="shutdown"))
    return stored


def test_order_to_stop_waits_for_rules_on_every_node_of_the_network(world: World, tables: NetworkTables) -> None:
    for node_id in ("n1", "n2"):
        tables.applied(node_id, version(tables, node_id))
    task = told_to_stop(world, world.running("svc-db")[0])
    tables.consider(task, world.store, 0.0)
    assert tables.release(0.0) == []
    tables.renew(world.store)
    tables.applied("n1", version(tables, "n1"))
    assert tables.release(0.1) == []
    assert tables.is_held(task.id)
    tables.applied("n2", version(tables, "n2"))
    assert tables.release(0.1) == [task.id]
    tables.consider(task, world.store, 0.2)
    assert not tables.is_held(task.id)


def test_order_to_stop_does_not_wait_for_who_is_away_or_slow(world: World, tables: NetworkTables) -> None:
    task, other = world.running("svc-db")
    tables.consider(told_to_stop(world, task), world.store, 0.0)
    tables.renew(world.store)
    tables.applied("n1", version(tables, "n1"))
    tables.disconnect("n2")
    assert tables.release(0.1) == [task.id]
    tables.connect("n2")
    tables.consider(told_to_stop(world, other), world.store, 1.0)
    tables.renew(world.store)
    assert tables.release(1.0 + LIMIT / 2) == []
    assert tables.release(1.0 + LIMIT) == [other.id]


def test_nothing_waits_without_a_virtual_address_or_before_it_runs(world: World, tables: NetworkTables) -> None:
    world.add_service(attached("old", "one", mode="dnsrr"))
    world.add_service(replicated("bare", 1, ports=[(8080, 80)]))
    world.settle()
    waiting = [told_to_stop(world, t) for name in ("svc-old", "svc-bare") for t in world.running(name)]
    preparing = msgspec.structs.replace(world.running("svc-db")[0], desired_state="shutdown")
    preparing = msgspec.structs.replace(preparing, status=msgspec.structs.replace(preparing.status, state="preparing"))
    ended = msgspec.structs.replace(preparing, status=msgspec.structs.replace(preparing.status, state="failed"))
    for task in (*waiting, preparing, ended):
        tables.consider(task, world.store, 0.0)
        assert not tables.is_held(task.id)


def test_version_grows_with_changes_of_the_nodes_own_tables_only(world: World, tables: NetworkTables) -> None:
    before = {node_id: (version(tables, node_id), tables.message(node_id)) for node_id in ("n1", "n2")}
    tables.renew(world.store)
    assert {node_id: (version(tables, node_id), tables.message(node_id)) for node_id in before} == before
    world.add_service(attached("web", "two", replicas=1))
    world.settle()
    (web,) = world.running("svc-web")
    tables.renew(world.store)
    grown = {node_id for node_id, (number, _) in before.items() if version(tables, node_id) > number}
    assert grown == {web.node_id}
    world.remove_service("svc-web")
    world.remove_service("svc-db")
    world.settle()
    tables.renew(world.store)
    assert wire.decode_to_agent(tables.message("n1") or b"") == wire.Networks([], version(tables, "n1"))
