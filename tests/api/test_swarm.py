"""/swarm, /info, negotiation, and the words for a node that is no manager."""

import asyncio
from datetime import UTC, datetime
from typing import Any

import pytest
from msgspec.structs import replace

from essaim.api import versions
from essaim.api.context import API
from essaim.api.node import InitRequest
from essaim.cluster.changes import put
from essaim.cluster.swarm import CAConfig, RootCA, RootRotation
from essaim.secrets import tokens
from essaim.secrets.ca import new_authority
from tests.api.conftest import Served

NO_MANAGER = "This node is not a swarm manager."


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/nodes"), ("GET", "/services"), ("GET", "/tasks"), ("GET", "/secrets"), ("GET", "/configs"),
        ("GET", "/swarm"), ("POST", "/services/create"), ("GET", "/swarm/unlockkey"), ("POST", "/swarm/update"),
    ],
)  # fmt: skip
async def test_node_outside_a_swarm_or_a_worker_says_so(outside: Served, method: str, path: str) -> None:
    status, message = await outside.error(method, path, {} if method == "POST" else None)
    assert (status, message.startswith(NO_MANAGER + ' Use "docker swarm init"')) == (503, True)
    outside.node.become_worker()
    status, message = await outside.error(method, path, {} if method == "POST" else None)
    assert (status, message.startswith(NO_MANAGER + " Worker nodes can't be used")) == (503, True)


async def test_locked_node_asks_for_the_key(outside: Served) -> None:
    outside.node.swarm_state = "locked"
    status, message = await outside.error("GET", "/nodes")
    assert (status, message.startswith("Swarm is encrypted and needs to be unlocked")) == (503, True)


async def test_overlay_network_outside_a_swarm_is_refused(outside: Served) -> None:
    body = {"Name": "x", "Driver": "overlay"}
    status, message = await outside.error("POST", "/networks/create", body)
    assert (status, message.startswith(NO_MANAGER)) == (500, True)
    outside.node.become_worker()
    status, message = await outside.error("POST", "/networks/create", body)
    assert (status, message.startswith("Cannot create a multi-host network from a worker node.")) == (403, True)


async def test_init_makes_a_swarm_with_its_ingress_network(outside: Served) -> None:
    node_id = await outside.call("POST", "/swarm/init", {"ListenAddr": "0.0.0.0:2377"})
    assert node_id == outside.node.node_id
    assert [n["Name"] for n in await outside.call("GET", "/networks")] == ["ingress"]
    swarm = await outside.call("GET", "/swarm")
    assert tokens.parse(swarm["JoinTokens"]["Worker"]) != tokens.parse(swarm["JoinTokens"]["Manager"])
    assert swarm["Spec"]["Name"] == "default"
    status, message = await outside.error("POST", "/swarm/init", {})
    assert (status, message.startswith("This node is already part of a swarm.")) == (503, True)


async def test_init_takes_zeros_for_the_defaults(outside: Served) -> None:
    await outside.call("POST", "/swarm/init", {"Spec": {"Raft": {"ElectionTick": 0, "KeepOldSnapshots": 2}}})
    raft = (await outside.call("GET", "/swarm"))["Spec"]["Raft"]
    assert (raft["ElectionTick"], raft["KeepOldSnapshots"]) == (10, 2)


async def test_join_checks_the_token_before_anything_else(outside: Served) -> None:
    body: dict[str, Any] = {"JoinToken": "bad", "RemoteAddrs": ["127.0.0.1:2377"]}
    assert await outside.error("POST", "/swarm/join", body) == (500, "invalid join token")
    token = "SWMTKN-1-5qr0y079crsw02l0llcug4mj4m0juwyqe7lvzfxzs46u29uzbe-6awad1z6kqjuuy5mrj87pgzvb"
    await outside.call("POST", "/swarm/join", body | {"JoinToken": token})
    assert outside.node.joined is not None
    assert outside.node.joined.remote_addrs == ["127.0.0.1:2377"]


async def test_leave_of_the_last_manager_wants_force(served: Served) -> None:
    status, message = await served.error("POST", "/swarm/leave")
    assert status == 503
    assert message.endswith("Use `--force` to ignore this message. ")
    await served.call("POST", "/swarm/leave?force=1")
    assert await served.error("POST", "/swarm/leave") == (503, "This node is not part of a swarm")


async def test_update_merges_partial_bodies_and_rotates_tokens(served: Served) -> None:
    before = await served.call("GET", "/swarm")
    query = f"?version={before['Version']['Index']}&rotateWorkerToken=True"
    await served.call("POST", f"/swarm/update{query}", {"Orchestration": {"TaskHistoryRetentionLimit": 3}})
    after = await served.call("GET", "/swarm")
    assert after["Spec"]["Orchestration"] == {"TaskHistoryRetentionLimit": 3}
    assert after["Spec"]["Raft"] == before["Spec"]["Raft"]
    assert after["JoinTokens"]["Worker"] != before["JoinTokens"]["Worker"]
    assert after["JoinTokens"]["Manager"] == before["JoinTokens"]["Manager"]
    version = after["Version"]["Index"]
    assert (await served.error("POST", f"/swarm/update?version={version}", {"Name": "other"}))[0] == 400
    assert (await served.error("POST", f"/swarm/update?version={version - 1}", {}))[0] == 500


async def test_task_history_may_be_kept_for_ever(served: Served) -> None:
    await update(served, {"Orchestration": {"TaskHistoryRetentionLimit": -1}})
    assert (await served.call("GET", "/swarm"))["Spec"]["Orchestration"] == {"TaskHistoryRetentionLimit": -1}


async def update(served: Served, spec: dict[str, Any], query: str = "") -> None:
    version = (await served.call("GET", "/swarm"))["Version"]["Index"]
    await served.call("POST", f"/swarm/update?version={version}{query}", spec)


async def unlock_key(served: Served) -> str:
    key: str = (await served.call("GET", "/swarm/unlockkey"))["UnlockKey"]
    return key


async def test_autolock_has_a_key_until_it_is_switched_off_and_another_one_then(served: Served) -> None:
    on, off = ({"EncryptionConfig": {"AutoLockManagers": value}} for value in (True, False))
    await update(served, {}, "&rotateManagerUnlockKey=true")
    assert await unlock_key(served) == ""
    await update(served, on)
    first = await unlock_key(served)
    assert first.startswith("SWMKEY-1-")
    await update(served, {"Orchestration": {"TaskHistoryRetentionLimit": 3}})
    assert await unlock_key(served) == first
    await update(served, {}, "&rotateManagerUnlockKey=true")
    second = await unlock_key(served)
    assert second not in ("", first)
    await update(served, off)
    assert await unlock_key(served) == ""
    await update(served, on)
    assert await unlock_key(served) not in ("", first, second)


async def test_init_with_autolock_in_either_form_says_so_in_the_specification(outside: Served) -> None:
    for body in ({"AutoLockManagers": True}, {"Spec": {"EncryptionConfig": {"AutoLockManagers": True}}}):
        await outside.call("POST", "/swarm/init", body)
        spec = (await outside.call("GET", "/swarm"))["Spec"]
        assert spec["EncryptionConfig"] == {"AutoLockManagers": True}
        await outside.call("POST", "/swarm/leave?force=1")


async def test_unlock_takes_the_right_key_only(outside: Served) -> None:
    status, message = await outside.error("POST", "/swarm/unlock", {"UnlockKey": "x"})
    assert (status, message.startswith(NO_MANAGER)) == (503, True)
    outside.node.swarm_state, outside.node.unlocked_by = "locked", "SWMKEY-1-right"
    wrong = await outside.error("POST", "/swarm/unlock", {"UnlockKey": "SWMKEY-1-wrong"})
    assert wrong == (401, "swarm could not be unlocked: invalid key provided")
    await outside.call("POST", "/swarm/unlock", {"UnlockKey": "SWMKEY-1-right"})
    assert (await outside.call("GET", "/info"))["Swarm"]["LocalNodeState"] == "active"


async def test_root_is_replaced_by_force_or_by_one_that_the_user_brings(served: Served) -> None:
    first = await served.call("GET", "/swarm")
    await update(served, {"CAConfig": {"ForceRotate": 1}})
    second = await served.call("GET", "/swarm")
    assert (first["RootRotationInProgress"], second["RootRotationInProgress"]) == (False, True)
    assert second["TLSInfo"]["TrustRoot"].startswith(first["TLSInfo"]["TrustRoot"])
    assert second["TLSInfo"]["CertIssuerPublicKey"] != first["TLSInfo"]["CertIssuerPublicKey"]
    # The specification as it was sent back by a client changes nothing.
    await update(served, second["Spec"])
    assert (await served.call("GET", "/swarm"))["TLSInfo"] == second["TLSInfo"]
    mine = new_authority(datetime.now(UTC))
    config = {**second["Spec"]["CAConfig"], "SigningCACert": mine.certificate.decode()}
    query = f"/swarm/update?version={(await served.call('GET', '/swarm'))['Version']['Index']}"
    for key, words in (("", "needs its key"), (first["TLSInfo"]["TrustRoot"], "cannot be used")):
        status, message = await served.error("POST", query, {"CAConfig": {**config, "SigningCAKey": key}})
        assert (status, words in message) == (400, True)
    await update(served, {"CAConfig": {**config, "SigningCAKey": mine.key.decode()}})
    shown = await served.call("GET", "/swarm")
    assert shown["TLSInfo"]["TrustRoot"] == first["TLSInfo"]["TrustRoot"] + mine.certificate.decode()
    assert "PRIVATE KEY" not in str(shown)
    await update(served, shown["Spec"])
    assert (await served.call("GET", "/swarm"))["TLSInfo"] == shown["TLSInfo"]


async def test_external_authority_is_refused_with_the_reason(outside: Served) -> None:
    external = {"CAConfig": {"ExternalCAs": [{"Protocol": "cfssl", "URL": "https://ca"}]}}
    assert (await outside.error("POST", "/swarm/init", {"Spec": external}))[0] == 501
    await outside.call("POST", "/swarm/init", {})
    version = (await outside.call("GET", "/swarm"))["Version"]["Index"]
    status, message = await outside.error("POST", f"/swarm/update?version={version}", external)
    assert (status, "external CAs are not supported" in message) == (501, True)


async def test_keys_of_the_cluster_are_shown_by_nobody(served: Served) -> None:
    manager = served.node.manager
    assert manager is not None
    cluster = manager.store.cluster
    assert cluster is not None
    root = RootCA(certificate="the certificate", key="the private key")
    spec = replace(cluster.spec, ca_config=CAConfig(signing_ca_key="the signing key"))
    cluster = replace(cluster, root_rotation=RootRotation(root=root, cross_signed="x"))
    await manager.writer.commit([put("clusters", replace(cluster, spec=spec, root_ca=root, unlock_key="the lock"))])
    for path in ("/swarm", "/info"):
        shown = str(await served.call("GET", path))
        assert not [word for word in ("private key", "signing key", "the lock") if word in shown]


async def test_unlock_of_an_unlocked_swarm_is_a_conflict(served: Served) -> None:
    assert await served.error("POST", "/swarm/unlock", {"UnlockKey": "x"}) == (409, "swarm is not locked")
    assert await served.call("GET", "/swarm/unlockkey") == {"UnlockKey": ""}


async def test_info_tells_the_nodes_part_in_the_swarm(served: Served) -> None:
    swarm = (await served.call("GET", "/info"))["Swarm"]
    assert (swarm["LocalNodeState"], swarm["ControlAvailable"]) == ("active", True)
    assert (swarm["Nodes"], swarm["Managers"], swarm["NodeID"]) == (1, 1, served.node.node_id)
    assert "JoinTokens" not in swarm["Cluster"]
    assert swarm["RemoteManagers"] == [{"NodeID": served.node.node_id, "Addr": "127.0.0.1:2377"}]


@pytest.mark.parametrize("method", ["HEAD", "GET"])
async def test_ping_negotiates(outside: Served, method: str) -> None:
    async with outside.client.request(method, "http://essaim/_ping") as reply:
        assert reply.headers["Api-Version"] == versions.text(versions.NEWEST)
        assert reply.headers["Docker-Experimental"] == "false"
        assert reply.headers["Ostype"] == "linux"
        assert reply.content_type == "text/plain"
        assert await reply.text() == ("OK" if method == "GET" else "")


@pytest.mark.parametrize(("version", "word"), [("9.9", "too new"), ("1.23", "too old"), ("1.", "invalid")])
async def test_version_that_is_not_spoken_is_refused(served: Served, version: str, word: str) -> None:
    status, message = await served.error("GET", f"/v{version}/nodes")
    assert (status, word in message) == (400, True)


@pytest.mark.parametrize(
    ("method", "path"), [("GET", "/nosuch"), ("PUT", "/services"), ("GET", "/v1.41/no/such"), ("GET", "/")]
)
async def test_unknown_route_or_method_is_not_found(served: Served, method: str, path: str) -> None:
    assert await served.error(method, path) == (404, "page not found")


async def test_engine_command_without_an_engine_says_what_is_missing(served: Served) -> None:
    status, message = await served.error("GET", "/containers/json")
    assert status == 501
    assert "--runtime docker" in message


async def test_answers_end_with_a_newline(served: Served) -> None:
    async with served.client.get("http://essaim/nodes") as reply:
        assert (await reply.read()).endswith(b"\n")


async def test_reads_without_a_leader_work_and_say_so(served: Served) -> None:
    for leader, warned in ((True, False), (False, True)):
        served.node.has_leader = leader
        for path in ("/nodes", "/v1.41/services", "/essaim/v1/routes"):
            async with served.client.get("http://essaim" + path) as reply:
                assert reply.status == 200
                assert ("last known state" in reply.headers.get("Essaim-Warning", "")) == warned
        async with served.client.get("http://essaim/_ping") as reply:
            assert "Essaim-Warning" not in reply.headers


async def test_init_goes_to_its_end_when_the_client_goes(outside: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    begun, go_on = asyncio.Event(), asyncio.Event()
    init = outside.node.init

    async def slow(request: InitRequest) -> str:
        begun.set()
        await go_on.wait()
        return await init(request)

    monkeypatch.setattr(outside.node, "init", slow)
    _, writer = await asyncio.open_unix_connection(str(outside.socket))
    head = b"POST /swarm/init HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n"
    writer.write(head + b"{}")
    async with asyncio.timeout(20):
        await begun.wait()
        writer.close()
        await writer.wait_closed()
        go_on.set()
        while not outside.app[API].node.manager or not await outside.call("GET", "/networks"):
            await asyncio.sleep(0.001)
    assert [n["Name"] for n in await outside.call("GET", "/networks")] == ["ingress"]


@pytest.mark.parametrize("pool", [[], ["10.20.0.0/16"]])
@pytest.mark.parametrize("size", [99, 31, -1, 7])
async def test_subnet_size_that_does_not_fit_the_pool_is_refused(outside: Served, pool: list[str], size: int) -> None:
    """Also the usual pool, when none is named."""
    status, message = await outside.error("POST", "/swarm/init", {"DefaultAddrPool": pool, "SubnetSize": size})
    assert (status, f"invalid subnet size {size} for the pool" in message) == (400, True)
