"""Certificates of real daemons over their lives: roles, renewal, another root."""

import asyncio
import random
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from msgspec.structs import replace

from essaim.api.client import ApiError, Client, Unreachable
from essaim.daemon.keys.keyring import Keyring, Keys
from essaim.raft.disk.storage import Storage
from essaim.secrets.ca import Authority, issue
from essaim.secrets.holder import Holder, holder_of
from essaim.secrets.nodekey import new_key, request_for, validity
from tests.daemon.processes import UP, Daemon, daemons, init, join
from tests.lab.wait import eventually_async

pytestmark = [pytest.mark.timeout(150), pytest.mark.blocking_allowed]


async def ask(daemon: Daemon, path: str) -> Any:
    async with Client(daemon.host) as client:
        return await client.get(path)


def keys_of(daemon: Daemon) -> Keys:
    keyring = Keyring(daemon.state, random.Random(1))
    assert keyring.load()
    return keyring.keys


def holder(daemon: Daemon) -> Holder:
    return holder_of(x509.load_pem_x509_certificate(keys_of(daemon).certificate))


async def nodes_are_ready(daemon: Daemon, count: int) -> None:
    """All there, and each trusts what the cluster trusts."""

    async def ready() -> bool:
        root = (await ask(daemon, "/swarm"))["TLSInfo"]
        nodes = await ask(daemon, "/nodes")
        states = [(n["Status"]["State"], n["Description"].get("TLSInfo")) for n in nodes]
        return states == [("ready", root)] * count

    await eventually_async(ready, UP, f"{count} nodes are ready", retry_on=(ApiError, Unreachable))


async def set_role(manager: Daemon, name: str, role: str) -> None:
    node = next(n for n in await ask(manager, "/nodes") if n["Description"]["Hostname"] == name)
    async with Client(manager.host) as client:
        query = {"version": str(node["Version"]["Index"])}
        await client.post(f"/nodes/{node['ID']}/update", {**node["Spec"], "Role": role}, query)


async def test_promoted_and_demoted_node_has_the_certificate_of_its_role_at_once(tmp_path: Path) -> None:
    async with daemons(tmp_path, 2, tasks=False) as (manager, node):
        await init(manager)
        await join(node, manager)
        await nodes_are_ready(manager, 2)
        first = keys_of(node)
        assert (holder(node).role, holder(node).member) == ("worker", 0)
        for role in ("manager", "worker", "manager"):
            await set_role(manager, node.name, role)

            async def certified(role: str = role) -> bool:
                shown = holder(node)
                return shown.role == role and bool(shown.member) == (role == "manager")

            await eventually_async(certified, UP, f"the node has a {role}'s certificate")
            await nodes_are_ready(manager, 2)
        assert keys_of(node).private_key != first.private_key
        # As a member of the log it takes writes, which go through the other.
        await eventually_async(lambda: leads_or_follows(node), UP, "the node is a manager", retry_on=(ApiError,))


async def leads_or_follows(daemon: Daemon) -> bool:
    async with Client(daemon.host) as client:
        await client.post("/secrets/create", {"Name": f"s{random.getrandbits(32)}", "Data": "eA=="})
    return True


async def test_first_managers_object_is_whole_from_the_beginning(tmp_path: Path) -> None:
    """A client that changes the node right after `swarm init` is not told that somebody else was faster."""
    async with daemons(tmp_path, tasks=False) as (manager,):
        await init(manager)
        (first,) = await ask(manager, "/nodes")
        await eventually_async(lambda: connected(manager), UP, "its agent has a session")
        (later,) = await ask(manager, "/nodes")
        assert (later["Version"], later["Description"]) == (first["Version"], first["Description"])


async def connected(daemon: Daemon) -> bool:
    return "agent connected" in daemon.log.read_text()


async def test_root_is_replaced_while_the_cluster_runs(tmp_path: Path) -> None:
    async with daemons(tmp_path, 4, tasks=False) as (manager, other, worker, late):
        await init(manager)
        await join(other, manager, "Manager")
        await join(worker, manager)
        await nodes_are_ready(manager, 3)
        before = await ask(manager, "/swarm")
        done = await asyncio.to_thread(manager.essaim, "swarm", "ca", "--rotate")
        assert done.returncode == 0, done.stderr
        assert done.stdout != before["TLSInfo"]["TrustRoot"]
        assert done.stdout == (await ask(manager, "/swarm"))["TLSInfo"]["TrustRoot"]
        await nodes_are_ready(manager, 3)
        after = await ask(manager, "/swarm")
        assert after["TLSInfo"]["TrustRoot"].count("BEGIN CERTIFICATE") == 1
        assert {keys_of(d).roots.decode() for d in (manager, other, worker)} == {after["TLSInfo"]["TrustRoot"]}
        async with Client(late.host) as client:
            old = {"RemoteAddrs": [manager.cluster_address], "JoinToken": before["JoinTokens"]["Worker"]}
            with pytest.raises(ApiError, match="remote CA does not match fingerprint"):
                await client.post("/swarm/join", old)
        await join(late, manager)
        for daemon in (manager, other, worker):
            daemon.kill()
        for daemon in (manager, other, worker):
            await daemon.start()
        await nodes_are_ready(other, 4)
        assert await leads_or_follows(other)


def authority_of(daemon: Daemon) -> Authority:
    """The cluster's authority out of a stopped manager's log: whoever has its keys can read that."""
    keyring = Keyring(daemon.state, random.Random(1))
    assert keyring.load()
    storage = Storage(daemon.state / "raft", codecs=keyring.codecs())
    try:
        data = b"".join(entry.data for entry in storage.open().entries)
    finally:
        storage.close()
    key = re.search(rb"-----BEGIN PRIVATE KEY-----.*?-----END PRIVATE KEY-----\n", data, re.DOTALL)
    assert key is not None
    return Authority(keyring.keys.roots, key[0])


def expire(daemon: Daemon, authority: Authority) -> None:
    """Give a stopped daemon a certificate that was good until yesterday."""
    keyring = Keyring(daemon.state, random.Random(1))
    assert keyring.load()
    key, then = new_key(), datetime.now(UTC) - timedelta(days=91)
    certificate = issue(authority, request_for(key), holder(daemon), then)
    keyring.put(replace(keyring.keys, private_key=key, certificate=certificate))


async def test_expired_manager_renews_its_certificate_and_an_expired_worker_says_so(tmp_path: Path) -> None:
    async with daemons(tmp_path, 2, tasks=False) as (manager, worker):
        await init(manager)
        await join(worker, manager)
        await nodes_are_ready(manager, 2)
        manager.kill()
        worker.kill()
        authority = authority_of(manager)
        for daemon in (manager, worker):
            expire(daemon, authority)
            await daemon.start()

        async def renewed() -> bool:
            return validity(keys_of(manager).certificate)[1] > datetime.now(UTC) + timedelta(days=89)

        await eventually_async(renewed, UP, "the manager has signed itself a new certificate")
        assert await leads_or_follows(manager)

        async def told() -> bool:
            swarm = (await ask(worker, "/info"))["Swarm"]
            return swarm["LocalNodeState"] == "error" and "certificates have expired" in swarm["Error"]

        await eventually_async(told, UP, "the worker says why it takes no part", retry_on=(ApiError,))
        async with Client(worker.host) as client:
            await client.post("/swarm/leave")
        await join(worker, manager)
