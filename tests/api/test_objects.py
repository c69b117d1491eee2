"""/secrets, /configs, /networks, /nodes, /tasks: status codes, wording, filters."""

import base64
import json
from typing import Any

import pytest

from essaim.cluster.changes import NodeReport
from essaim.cluster.node import NodeDescription, NodeStatus
from essaim.daemon.membership.joins import JoinMessage, admit
from tests.api.conftest import Served

RPC = "rpc error: code = "
DATA = base64.b64encode(b"hush").decode()


async def names(served: Served, path: str, filters: str) -> list[str]:
    found = await served.call("GET", f"{path}?filters={filters}")
    return [o["Spec"]["Name"] for o in found]


@pytest.mark.parametrize("noun", ["secret", "config"])
async def test_object_lives_from_creation_to_removal(served: Served, noun: str) -> None:
    path = f"/{noun}s"
    made = await served.call("POST", f"{path}/create", {"Name": "extsec", "Labels": {"a": "b"}, "Data": DATA}, 201)
    body = {"Name": "extsec", "Data": DATA}
    assert await served.error("POST", f"{path}/create", body) == (
        409,
        f"{RPC}AlreadyExists desc = {noun} extsec already exists",
    )
    shown = await served.call("GET", f"{path}/extsec")
    assert shown["ID"] == made["ID"]
    assert shown["Spec"].get("Data") == (DATA if noun == "config" else None)
    version = shown["Version"]["Index"]
    await served.call("POST", f"{path}/{made['ID']}/update?version={version}", {"Name": "extsec", "Labels": {"c": "d"}})
    assert (await served.call("GET", f"{path}/extsec"))["Spec"]["Labels"] == {"c": "d"}
    stale = await served.error("POST", f"{path}/extsec/update?version={version}", {"Name": "extsec"})
    assert stale == (500, f"{RPC}Unknown desc = update out of sequence")
    changed = {"Name": "extsec", "Data": base64.b64encode(b"other").decode()}
    assert await served.error("POST", f"{path}/extsec/update?version={version + 1}", changed) == (
        400,
        f"{RPC}InvalidArgument desc = only updates to Labels are allowed",
    )
    await served.call("DELETE", f"{path}/extsec", status=204)
    assert await served.error("DELETE", f"{path}/extsec") == (404, f"{noun} extsec not found")


@pytest.mark.parametrize("noun", ["secret", "config"])
async def test_object_in_use_is_not_removed(served: Served, noun: str) -> None:
    made = await served.call("POST", f"/{noun}s/create", {"Name": "x", "Data": DATA}, 201)
    title = noun.capitalize()
    reference = {f"{title}ID": made["ID"], f"{title}Name": "x", "File": {"Name": "x"}}
    template = {"ContainerSpec": {"Image": "essaim/whoami", f"{title}s": [reference]}}
    await served.create("user", template=template)
    assert await served.error("DELETE", f"/{noun}s/x") == (
        400,
        f"{RPC}InvalidArgument desc = {noun} 'x' is in use by the following service: user",
    )
    await served.create("also", template=template)
    _, message = await served.error("DELETE", f"/{noun}s/x")
    assert message.endswith("in use by the following services: also, user")


async def test_object_filters_match_prefixes_and_names(served: Served) -> None:
    for name in ("extsec", "extra", "other"):
        await served.call("POST", "/secrets/create", {"Name": name, "Data": DATA, "Labels": {"n": name}}, 201)
    assert set(await names(served, "/secrets", '{"name":{"ext":true}}')) == {"extsec", "extra"}
    assert await names(served, "/secrets", '{"names":["ext"]}') == []
    assert await names(served, "/secrets", '{"names":["extra"]}') == ["extra"]
    assert await names(served, "/secrets", '{"label":["n=other"]}') == ["other"]


@pytest.mark.parametrize("data", [None, "", "not base64!"])
async def test_secret_without_proper_data_is_refused(served: Served, data: str | None) -> None:
    status, _ = await served.error("POST", "/secrets/create", {"Name": "a", "Data": data})
    assert status == 400


async def test_network_gets_a_subnet_of_its_own(served: Served) -> None:
    for name in ("a", "b"):
        assert set(await served.call("POST", "/networks/create", {"Name": name, "Driver": "overlay"}, 201)) == {
            "Id",
            "Warning",
        }
    subnets = [
        (await served.call("GET", f"/networks/{name}"))["IPAM"]["Config"][0]["Subnet"] for name in ("ingress", "a", "b")
    ]
    assert subnets == ["10.0.0.0/24", "10.0.1.0/24", "10.0.2.0/24"]
    body = {"Name": "c", "Driver": "overlay", "IPAM": {"Config": [{"Subnet": "10.0.1.128/25"}]}}
    status, message = await served.error("POST", "/networks/create", body)
    assert status == 403
    assert "Pool overlaps" in message


@pytest.mark.parametrize(
    "config", [{"Subnet": "nonsense"}, {"Subnet": 5}, {"Subnet": "10.9.0.0/24", "Gateway": "10.8.0.1"}, "text"]
)
async def test_network_with_a_wrong_subnet_is_refused(served: Served, config: Any) -> None:
    body = {"Name": "c", "Driver": "overlay", "IPAM": {"Config": [config]}}
    status, message = await served.error("POST", "/networks/create", body)
    assert (status, bool(message)) == (400, True)


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({"Options": {"encrypted": ""}}, "encrypted overlay networks are not supported"),
        ({"Options": {"com.docker.network.driver.mtu": "huge"}}, "invalid com.docker.network.driver.mtu 'huge'"),
        ({"Options": {"com.docker.network.driver.mtu": "70000"}}, "use 576 to 65000"),
        ({"IPAM": {"Driver": "mine"}}, "invalid IPAM.Driver 'mine'"),
        ({"IPAM": {"Config": [{"Subnet": "fd00::/64"}]}}, "a subnet of IPv4 is needed"),
        ({"IPAM": {"Config": [{"Subnet": "10.9.0.0/24", "IPRange": "10.8.0.0/28"}]}}, "no matching subnet for range"),
        (
            {"IPAM": {"Config": [{"Subnet": "10.9.0.0/24", "AuxiliaryAddresses": {"a": "10.8.0.1"}}]}},
            "no matching subnet for aux-address 10.8.0.1",
        ),
        (
            {"IPAM": {"Config": [{"Subnet": "10.9.0.0/24", "AuxiliaryAddresses": {"a": "x"}}]}},
            "auxiliary address a='x'",
        ),
    ],
)
async def test_network_of_a_kind_that_cannot_be_had_is_refused(served: Served, body: Any, says: str) -> None:
    status, message = await served.error("POST", "/networks/create", {"Name": "c", "Driver": "overlay"} | body)
    assert status == 400
    assert says in message


async def test_network_with_range_auxiliary_addresses_and_options_is_kept_as_asked(served: Served) -> None:
    config = {
        "Subnet": "10.9.0.0/24",
        "Gateway": "10.9.0.254",
        "IPRange": "10.9.0.0/28",
        "AuxiliaryAddresses": {"a": "10.9.0.3"},
    }
    options = {"com.docker.network.driver.mtu": "1300"}
    body = {"Name": "c", "Driver": "overlay", "IPAM": {"Config": [config]}, "Options": options, "EnableIPv6": True}
    made = await served.call("POST", "/networks/create", body, 201)
    assert made["Warning"].startswith("IPv6 has no effect")
    shown = await served.call("GET", "/networks/c")
    assert (shown["IPAM"]["Config"], shown["Options"]) == ([config], options)


async def test_network_is_listed_inspected_and_removed(served: Served) -> None:
    made = await served.call("POST", "/networks/create", {"Name": "ov1", "Driver": "overlay", "Attachable": True}, 201)
    shown = await served.call("GET", "/networks/ov1")
    assert (shown["Id"], shown["Scope"], shown["Attachable"]) == (made["Id"], "swarm", True)
    listed = await served.call("GET", '/networks?filters={"driver":{"overlay":true},"scope":{"swarm":true}}')
    assert {n["Name"] for n in listed} == {"ingress", "ov1"}
    again = await served.error("POST", "/networks/create", {"Name": "ov1", "Driver": "overlay"})
    assert again == (409, "network with name ov1 already exists")
    user = await served.create("user", template={"Networks": [{"Target": "ov1"}]})
    assert (await served.call("GET", "/services/user"))["Spec"]["TaskTemplate"]["Networks"] == [{"Target": made["Id"]}]
    assert await served.error("DELETE", "/networks/ov1") == (
        400,
        f"{RPC}FailedPrecondition desc = network {made['Id']} is in use by service {user}",
    )
    await served.call("DELETE", "/services/user")
    await served.call("DELETE", "/networks/ov1", status=204)
    assert await served.error("GET", "/networks/ov1") == (404, "network ov1 not found")
    assert await served.error("DELETE", "/networks/bridge") == (
        403,
        "bridge is a pre-defined network and cannot be removed",
    )


async def test_prune_removes_only_unused_networks(served: Served) -> None:
    for name in ("used", "idle"):
        await served.call("POST", "/networks/create", {"Name": name, "Driver": "overlay"}, 201)
    await served.create("user", template={"Networks": [{"Target": "used"}]})
    assert await served.call("POST", "/networks/prune") == {"NetworksDeleted": ["idle"]}


async def test_node_shows_what_this_manager_knows_and_nothing_secret(served: Served) -> None:
    node = (await served.call("GET", "/nodes"))[0]
    assert node["Spec"] == {"Labels": {}, "Role": "manager", "Availability": "active"}
    assert node["ManagerStatus"] == {"Leader": True, "Reachability": "reachable", "Addr": "127.0.0.1:2377"}
    assert node["Status"]["State"] == "ready"
    assert "Credential" not in node


async def test_node_update_keeps_what_is_left_out(served: Served) -> None:
    node = await served.call("GET", "/nodes/vm")
    version = node["Version"]["Index"]
    await served.call("POST", f"/nodes/vm/update?version={version}", {"Labels": {"a": "b"}, "Availability": "Drain"})
    updated = await served.call("GET", "/nodes/vm")
    assert updated["Spec"] == {"Labels": {"a": "b"}, "Role": "manager", "Availability": "drain"}
    stale = await served.error("POST", f"/nodes/vm/update?version={version}", node["Spec"])
    assert stale == (500, f"{RPC}Unknown desc = update out of sequence")
    version = updated["Version"]["Index"]
    wrong = await served.error("POST", f"/nodes/vm/update?version={version}", {"Availability": "asleep"})
    assert wrong == (400, 'invalid Availability: "asleep"')
    demoted = await served.error("POST", f"/nodes/vm/update?version={version}", {"Role": "worker"})
    assert demoted == (400, f"{RPC}FailedPrecondition desc = attempting to demote the last manager of the swarm")


async def test_node_removal_wants_it_down_or_forced(served: Served) -> None:
    own = served.node.node_id
    worker = await served.node.add_worker("wk")
    status, message = await served.error("DELETE", f"/nodes/{own}?force=1")
    assert (status, "It must be demoted to worker before removal" in message) == (400, True)
    assert await served.error("DELETE", "/nodes/wk") == (
        400,
        f"{RPC}FailedPrecondition desc = node {worker} is not down and can't be removed",
    )
    assert await served.error("DELETE", "/nodes/nosuch") == (404, "node nosuch not found")
    await served.call("DELETE", "/nodes/wk?force=1")
    assert served.node.removed == [worker]


async def test_node_filters_select(served: Served) -> None:
    await served.node.add_worker("wk")
    for filters, expected in (
        ('{"role":["manager"]}', ["vm"]),
        ('{"name":{"wk":true}}', ["wk"]),
        ('{"membership":["pending"]}', []),
    ):
        found = await served.call("GET", f"/nodes?filters={filters}")
        assert [n["Description"]["Hostname"] for n in found] == expected
    assert await served.error("GET", '/nodes?filters={"role":["king"]}') == (500, "Invalid role filter: 'king'")


async def test_tasks_are_filtered_by_service_node_state_and_freshness(scheduled: Served) -> None:
    service_id = await scheduled.create("web", Mode={"Replicated": {"Replicas": 2}}, Labels={"k": "v"})
    manager = scheduled.node.manager
    assert manager is not None
    with manager.store.watch("tasks") as watch:
        while len(manager.store.tasks) < 2:
            await watch.next()
    task = (await scheduled.call("GET", "/tasks"))[0]
    assert task["DesiredState"] == "running"
    assert task["Status"]["State"] == "running"
    for filters, count in (
        ('{"service":["web"]}', 2),
        (json.dumps({"service": {service_id: True}, "_up-to-date": {"true": True}}), 2),
        ('{"node":["vm"],"desired-state":["running"]}', 2),
        ('{"name":["web.1"]}', 1),
        ('{"label":["k=v"]}', 2),
        ('{"desired-state":["shutdown"]}', 0),
        (json.dumps({"id": [task["ID"]]}), 1),
    ):
        assert len(await scheduled.call("GET", f"/tasks?filters={filters}")) == count, filters
    assert await scheduled.error("GET", '/tasks?filters={"service":["nosuch"]}') == (404, "service nosuch not found")
    status, message = await scheduled.error("GET", '/tasks?filters={"desired-state":["x"]}')
    assert (status, message) == (500, "Invalid desired-state filter: 'x'")
    assert (await scheduled.call("GET", f"/tasks/{task['ID'][:10]}"))["ID"] == task["ID"]
    assert await scheduled.error("GET", "/tasks/nosuch") == (404, "task nosuch not found")


async def test_state_of_a_node_makes_no_reading_stale(served: Served) -> None:
    """A script that labels a node which has just joined used to be turned away when the node said hello."""
    manager = served.node.manager
    assert manager is not None
    joined = JoinMessage(
        token="", request=b"", address="", ip="192.0.2.9", availability="active", description=NodeDescription()
    )
    admitted = admit(joined, role="worker", node_id="w" * 25, raft_id=0, after=manager.store.version)
    await manager.writer.commit(admitted)
    read = (await served.call("GET", f"/nodes/{'w' * 25}"))["Version"]["Index"]
    await manager.writer.commit([NodeReport("w" * 25, NodeStatus(state="ready", addr="192.0.2.9"))])
    shown = await served.call("GET", f"/nodes/{'w' * 25}")
    assert shown["Version"]["Index"] > read
    assert "SpecAfter" not in shown
    body = {"Role": "worker", "Availability": "active", "Labels": {"a": "b"}}
    await served.call("POST", f"/nodes/{'w' * 25}/update?version={read}", body)
    stale = await served.error("POST", f"/nodes/{'w' * 25}/update?version={shown['Version']['Index']}", body)
    assert stale == (500, RPC + "Unknown desc = update out of sequence")


async def test_names_are_taken_in_whatever_case(served: Served) -> None:
    """As in Swarm; names that differ in case alone would be one to a resolver."""
    await served.create("web")
    template = {"ContainerSpec": {"Image": "essaim/whoami"}}
    data = {"Data": base64.b64encode(b"x").decode()}
    for path, body in (
        ("/services", {"TaskTemplate": template}),
        ("/secrets", data),
        ("/configs", data),
        ("/networks", {"Driver": "overlay"}),
    ):
        if path != "/services":
            await served.call("POST", path + "/create", {"Name": "web", **body}, 201)
        status, message = await served.error("POST", path + "/create", {"Name": "WEB", **body})
        assert (status, "WEB already exists" in message) == (409, True), message
        assert (await served.error("GET", path + "/WEB"))[0] == 404


async def test_secret_of_a_driver_that_is_not_there_is_refused(served: Served) -> None:
    body = {"Name": "s", "Driver": {"Name": "vault"}}
    assert await served.error("POST", "/secrets/create", body) == (500, RPC + 'Unknown desc = plugin "vault" not found')


async def test_overlay_network_of_one_node_is_refused(served: Served) -> None:
    body = {"Name": "n", "Driver": "overlay", "Scope": "local"}
    refused = (403, "cannot downgrade network scope for overlay networks")
    assert await served.error("POST", "/networks/create", body) == refused


@pytest.mark.parametrize("filters", ["null", "{}", '{"name":null}', '{"name":{}}', '{"name":[]}'])
async def test_filters_that_ask_for_nothing_hide_nothing(served: Served, filters: str) -> None:
    await served.create("web")
    for path in ("/services", "/tasks", "/nodes", "/secrets", "/configs", "/networks"):
        assert await served.call("GET", f"{path}?filters={filters}") == await served.call("GET", path)


@pytest.mark.parametrize(("filters", "said"), [('{"type":["x"]}', "'type'='x'"), ('{"dangling":["x"]}', "'dangling'")])
async def test_network_filters_of_unknown_values_are_refused(served: Served, filters: str, said: str) -> None:
    status, message = await served.error("GET", f"/networks?filters={filters}")
    assert (status, said in message) == (400, True)
