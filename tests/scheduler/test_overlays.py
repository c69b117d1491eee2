"""Virtual addresses in a whole cluster without network: who has one, for how long, and what nodes are told of it."""

from typing import Any

import msgspec
import pytest

from essaim.cluster.objects import Network, NetworkSpec
from essaim.cluster.overlay import OverlayNetwork, VirtualService
from essaim.cluster.service import EndpointSpec, NetworkAttachmentConfig, ServiceSpec
from essaim.cluster.task import Task
from essaim.cluster.watch import Event
from essaim.scheduler.allocate.addresses import virtual_ips
from essaim.scheduler.dispatch.overlays import concerns_networks, overlays

from .world import World, replicated, with_image, with_replicas


def network(network_id: str, subnet: str, **spec: Any) -> Network:
    gateway = subnet.rpartition(".")[0] + ".1"
    ipam = {"Config": [{"Subnet": subnet, "Gateway": gateway}]}
    return Network(id=network_id, spec=NetworkSpec(name=f"my-{network_id}", driver="overlay", ipam=ipam, **spec))


@pytest.fixture
def world() -> World:
    world = World()
    world.add_nodes(2)
    world.put("networks", network("mesh", "10.0.0.0/24", ingress=True))
    world.put("networks", network("one", "10.0.1.0/24"))
    world.put("networks", network("two", "10.0.2.0/24"))
    return world


def attached(name: str, *networks: str, mode: str | None = None, replicas: int = 2, **fields: Any) -> ServiceSpec:
    configs = [NetworkAttachmentConfig(target=each, aliases=["store"]) for each in networks]
    spec = replicated(name, replicas, task_fields={"networks": configs}, **fields)
    endpoint = msgspec.structs.replace(spec.endpoint_spec or EndpointSpec(), mode=mode)
    return msgspec.structs.replace(spec, endpoint_spec=endpoint)


def vips(world: World, name: str) -> dict[str | None, str | None]:
    return {v.network_id: v.addr for v in virtual_ips(world.service(f"svc-{name}"))}


def told(world: World, network_id: str = "one") -> OverlayNetwork:
    """What nodes are told of the network, all the same."""
    found = [t for tables in overlays(world.store).values() for t in tables if t.id == network_id]
    assert found
    assert all(each == found[0] for each in found)
    return found[0]


def addresses(tasks: list[Task], network_id: str = "one") -> list[str]:
    found = [
        a for t in tasks for n in t.networks_attachments or [] if n.network_id == network_id for a in n.addresses or []
    ]
    return sorted(a.partition("/")[0] for a in found)


def test_virtual_addresses_one_a_network_and_one_on_the_ingress_network_for_ports(world: World) -> None:
    world.add_service(attached("db", "one", "two", ports=[(8080, 80)]))
    world.add_service(attached("web", "one", mode="vip"))
    world.add_service(attached("old", "one", mode="dnsrr"))
    world.add_service(replicated("bare", 1, ports=[(8081, 80)]))
    world.settle()
    assert vips(world, "db") == {"mesh": "10.0.0.2/24", "one": "10.0.1.2/24", "two": "10.0.2.2/24"}
    assert (vips(world, "web"), vips(world, "old")) == ({"one": "10.0.1.3/24"}, {})
    assert vips(world, "bare") == {"mesh": "10.0.0.3/24"}


def test_virtual_address_lives_as_long_as_its_service_is_attached(world: World) -> None:
    world.add_service(attached("db", "one", "two"))
    world.settle()
    before = vips(world, "db")
    world.update_service("svc-db", with_image(with_replicas(attached("db", "one", "two"), 0), "web:2"))
    world.settle()
    world.new_leader()
    world.settle()
    assert vips(world, "db") == before
    world.update_service("svc-db", attached("db", "two", ports=[(0, 80)]))
    world.settle()
    assert vips(world, "db") == {"mesh": "10.0.0.2/24", "two": before["two"]}
    world.update_service("svc-db", attached("db", "two", mode="dnsrr"))
    world.settle()
    assert vips(world, "db") == {}


def test_virtual_address_of_a_removed_service_is_free_again(world: World) -> None:
    world.put("networks", network("tiny", "10.0.3.0/30"))
    world.add_service(attached("db", "tiny", replicas=0))
    world.settle()
    assert vips(world, "db") == {"tiny": "10.0.3.2/30"}
    world.add_service(attached("late", "tiny", replicas=0))
    world.settle()
    assert vips(world, "late") == {}
    world.remove_service("svc-db")
    world.settle()
    assert vips(world, "late") == {"tiny": "10.0.3.2/30"}


def test_names_stand_for_the_virtual_address_and_tasks_names_for_all_replicas(world: World) -> None:
    world.add_service(attached("db", "one"))
    world.add_service(attached("old", "one", mode="dnsrr", replicas=1))
    world.settle()
    names = told(world).names
    up, alone = addresses(world.running("svc-db")), addresses(world.running("svc-old"))
    vip = (vips(world, "db")["one"] or "").partition("/")[0]
    assert names["db"] == [vip]
    assert names["store"] == sorted([vip, *alone])
    assert names["tasks.db"] == up
    assert sorted(names["tasks.store"]) == sorted(up + alone)
    assert names["old"] == names["tasks.old"] == alone
    assert told(world).services == [VirtualService(vip, up, [])]


def test_replicas_that_are_to_stop_or_lost_keep_only_their_flows(world: World) -> None:
    world.add_service(attached("db", "one"))
    world.settle()
    first, second = world.running("svc-db")
    world.put("tasks", msgspec.structs.replace(first, desired_state="shutdown"))
    (service,) = told(world).services
    assert (service.up, service.leaving) == (addresses([second]), addresses([first]))
    world.node_down(second.node_id or "")
    (service,) = told(world).services
    assert (service.up, service.leaving) == ([], addresses([first, second]))
    assert told(world).names["db"] == [service.vip]
    assert "tasks.db" not in told(world).names


def test_unhealthy_replica_is_not_up(world: World) -> None:
    world.add_service(attached("db", "one"))
    world.settle()
    first, second = world.running("svc-db")
    status = msgspec.structs.replace(first.status, healthy=False)
    world.put("tasks", msgspec.structs.replace(first, status=status))
    assert told(world).services[0].up == addresses([second])


def test_concerns_networks_names_every_change_that_nodes_are_to_hear_of(world: World) -> None:
    """A second version: the tables themselves, before and after."""
    with world.store.watch() as watch:
        seen: list[tuple[bool, list[Event]]] = []
        before = overlays(world.store)

        def look(_: World) -> None:
            nonlocal before
            after = overlays(world.store)
            seen.append((before != after, watch.drain()))
            before = after

        world.checks.append(look)
        world.add_service(attached("db", "one"))
        world.settle()
        world.add_service(attached("web", "one", "two"))
        world.settle()
        world.update_service("svc-db", attached("db", "two"))
        world.settle()
        world.node_down("n1")
        world.pass_time(60)
        world.remove_service("svc-web")
        world.settle()
    assert sum(changed for changed, _ in seen) > 5
    for changed, events in seen:
        assert not changed or any(concerns_networks(event) for event in events)


def test_networks_of_the_service_itself_count_when_the_task_names_none(world: World) -> None:
    spec = replicated("db", 2, networks=[NetworkAttachmentConfig(target="one", aliases=["store"])])
    world.add_service(spec)
    world.settle()
    assert vips(world, "db") == {"one": "10.0.1.2/24"}
    assert addresses(world.running("svc-db")) == ["10.0.1.3", "10.0.1.4"]
    assert told(world).names["store"] == ["10.0.1.2"]
    before = world.running("svc-db")
    world.update_service("svc-db", msgspec.structs.replace(spec, labels={"a": "b"}))
    world.settle()
    assert [t.id for t in world.running("svc-db")] == [t.id for t in before]


def test_link_has_the_clusters_port_and_the_networks_mtu(world: World) -> None:
    world.put("networks", network("big", "10.0.3.0/24", options={"com.docker.network.driver.mtu": "8950"}))
    world.add_service(attached("db", "one", "big"))
    world.settle()
    assert (told(world).port, told(world).mtu, told(world, "big").mtu) == (4789, 1450, 8950)
    cluster = world.store.cluster
    world.put("clusters", msgspec.structs.replace(cluster, data_path_port=7789))
    assert (told(world).port, told(world, "big").port) == (7789, 7789)


def test_service_that_joins_or_leaves_a_network_gets_new_tasks_with_those_addresses(world: World) -> None:
    world.add_service(attached("db", "one"))
    world.settle()
    world.update_service("svc-db", attached("db", "two"))
    world.pass_time(60)
    running = world.running("svc-db")
    assert len(running) == 2
    assert (addresses(running, "one"), len(addresses(running, "two"))) == ([], 2)
    assert set(vips(world, "db")) == {"two"}
