"""Three real managers on loopback: any of them serves, losing one loses nothing, losing two stops writes only."""

import asyncio
import base64
import subprocess
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from essaim.api.client import ApiError, Client, Unreachable
from tests.daemon.processes import BIN, Daemon, daemons, init, join
from tests.lab.wait import eventually_async

pytestmark = [pytest.mark.timeout(180), pytest.mark.blocking_allowed]
SECRET = base64.b64encode(b"x").decode()


@pytest.fixture
async def three(tmp_path: Path) -> AsyncIterator[list[Daemon]]:
    async with daemons(tmp_path, 3, tasks=False) as made:
        await init(made[0])
        for daemon in made[1:]:
            await join(daemon, made[0], "Manager")
        await wait_managers(made[0], {d.name: True for d in made})
        await wait_voters(made)
        yield made


async def wait_voters(daemons: list[Daemon]) -> None:
    """A manager that has joined is a learner for a moment, whose loss costs no quorum; its promotion is logged."""

    async def promoted() -> bool:
        return sum(d.log.read_text().count("step=promote") for d in daemons) == len(daemons) - 1

    await eventually_async(promoted, 30, "all managers have a vote")


async def ask(daemon: Daemon, path: str) -> Any:
    async with Client(daemon.host) as client:
        return await client.get(path)


async def create(daemon: Daemon, name: str) -> None:
    async with Client(daemon.host) as client:
        await client.post("/secrets/create", {"Name": name, "Data": SECRET})


async def create_soon(daemon: Daemon, name: str) -> None:
    """As soon as writes are accepted again. One whose answer was lost may have taken effect: then it exists."""

    async def written() -> bool:
        try:
            await create(daemon, name)
        except ApiError as error:
            if "already exists" not in str(error):
                raise
        return True

    await eventually_async(written, 30, "a write is accepted again", retry_on=(ApiError,))


async def secret_names(daemon: Daemon) -> set[str]:
    return {secret["Spec"]["Name"] for secret in await ask(daemon, "/secrets")}


async def managers_of(daemon: Daemon) -> dict[str, dict[str, Any]]:
    nodes = await ask(daemon, "/nodes")
    return {n["Description"]["Hostname"]: n["ManagerStatus"] for n in nodes if n.get("ManagerStatus")}


async def wait_managers(daemon: Daemon, expected: dict[str, bool]) -> None:
    """Until these, and only these, are managers, reachable (True) or not."""

    async def settled() -> bool:
        found = await managers_of(daemon)
        return {name: s.get("Reachability") == "reachable" for name, s in found.items()} == expected

    await eventually_async(settled, 60, f"the managers are {expected}", retry_on=(ApiError, Unreachable))


async def leader_of(daemons: list[Daemon]) -> Daemon:
    async def found() -> Daemon | None:
        for daemon in daemons:
            for name, status in (await managers_of(daemon)).items():
                if status.get("Leader"):
                    return next((d for d in daemons if d.name == name), None)
        return None

    leader = await eventually_async(found, 30, "a leader is known", retry_on=(ApiError, Unreachable))
    assert leader is not None
    return leader


async def node_id_of(daemon: Daemon, name: str) -> tuple[str, int, dict[str, Any]]:
    node = next(n for n in await ask(daemon, "/nodes") if n["Description"]["Hostname"] == name)
    return node["ID"], node["Version"]["Index"], node["Spec"]


async def set_role(through: Daemon, name: str, role: str) -> None:
    async def done() -> bool:
        node_id, version, spec = await node_id_of(through, name)
        async with Client(through.host) as client:
            try:
                await client.post(f"/nodes/{node_id}/update", {**spec, "Role": role}, {"version": str(version)})
            except ApiError as error:
                if "out of sequence" not in str(error):
                    raise
                return False
        return True

    await eventually_async(done, 30, f"{name} is to be a {role}")


async def test_every_manager_takes_writes_and_reads_them_at_once_anywhere(three: list[Daemon]) -> None:
    for number in range(12):
        writer, reader = three[number % 3], three[(number + 1) % 3]
        await create(writer, f"s{number}")
        assert f"s{number}" in await secret_names(reader)


async def test_killed_leader_is_replaced_in_seconds_and_nothing_acknowledged_is_lost(three: list[Daemon]) -> None:
    for round_number in range(2):
        leader = await leader_of(three)
        others = [d for d in three if d is not leader]
        await create(leader, f"before{round_number}")
        leader.kill()
        started = time.monotonic()

        await create_soon(others[0], f"after{round_number}")
        assert time.monotonic() - started < 15
        assert {f"before{round_number}", f"after{round_number}"} <= await secret_names(others[1])
        await leader.start()
        await wait_managers(others[0], {d.name: True for d in three})
        assert await secret_names(leader) == await secret_names(others[0])


async def test_without_quorum_reads_work_and_say_so_and_writes_fail_fast(three: list[Daemon]) -> None:
    await create(three[0], "kept")
    for daemon in three[1:]:
        daemon.kill()

    async def refused() -> bool:
        started = time.monotonic()
        with pytest.raises(ApiError, match=r"does not have a leader|no quorum has confirmed"):
            await create(three[0], "lost")
        assert time.monotonic() - started < 12
        return True

    # The first may be taken in before the leader knows that it has lost its majority; what is refused for good is not.
    assert await refused()
    async with Client(three[0].host) as client:
        assert "kept" in {s["Spec"]["Name"] for s in await client.get("/secrets")}
        assert "last known state" in client.warning
    said = await asyncio.to_thread(three[0].essaim, "service", "ls")
    assert said.returncode == 0
    assert "WARNING: the swarm has no leader" in said.stderr
    for daemon in three[1:]:
        await daemon.start()
    await wait_managers(three[0], {d.name: True for d in three})
    await create_soon(three[0], "again")
    assert "again" in await secret_names(three[1])


async def test_force_new_cluster_goes_on_with_one_manager_after_the_others_are_lost(three: list[Daemon]) -> None:
    await create(three[0], "kept")
    for daemon in three[1:]:
        daemon.kill()
    async with Client(three[0].host) as client:
        await client.post("/swarm/init", {"ForceNewCluster": True, "AdvertiseAddr": three[0].cluster_address})
    await create_soon(three[0], "after")
    assert {"kept", "after"} == await secret_names(three[0])
    await wait_managers(three[0], {three[0].name: True})


async def test_demoted_manager_becomes_a_worker_and_may_be_promoted_again(three: list[Daemon]) -> None:
    leader = await leader_of(three)
    for subject in (next(d for d in three if d is not leader), leader):
        through = next(d for d in three if d is not subject)
        await set_role(through, subject.name, "worker")
        await wait_managers(through, {d.name: True for d in three if d is not subject})

        async def is_worker(daemon: Daemon = subject) -> bool:
            info = (await ask(daemon, "/info"))["Swarm"]
            gone = not (daemon.state / "raft").exists()
            return gone and not info["ControlAvailable"] and info["LocalNodeState"] == "active"

        await eventually_async(is_worker, 30, f"{subject.name} is a worker", retry_on=(ApiError,))
        await set_role(through, subject.name, "manager")
        await wait_managers(subject, {d.name: True for d in three})


async def test_demotion_that_would_lose_the_quorum_is_refused(three: list[Daemon]) -> None:
    three[2].kill()
    await wait_managers(three[0], {"node1": True, "node2": True, "node3": False})
    with pytest.raises(ApiError, match="loss of quorum"):
        await set_role(three[0], three[1].name, "worker")
    await wait_managers(three[0], {"node1": True, "node2": True, "node3": False})
    await set_role(three[0], three[2].name, "worker")
    await wait_managers(three[0], {"node1": True, "node2": True})


async def test_manager_leaves_only_by_force_and_the_others_go_on(three: list[Daemon]) -> None:
    async with Client(three[2].host) as client:
        with pytest.raises(ApiError, match="participating as a manager"):
            await client.post("/swarm/leave")
        await client.post("/swarm/leave", query={"force": "1"})
    await wait_managers(three[0], {"node1": True, "node2": True})
    node_id, _, _ = await node_id_of(three[0], "node3")
    async with Client(three[0].host) as client:
        await client.delete(f"/nodes/{node_id}")
    assert len(await ask(three[1], "/nodes")) == 2
    await create(three[1], "alive")


async def test_removed_node_is_told_and_can_join_again(three: list[Daemon]) -> None:
    await set_role(three[0], "node3", "worker")
    await wait_managers(three[0], {"node1": True, "node2": True})
    node_id, _, _ = await node_id_of(three[0], "node3")
    async with Client(three[0].host) as client:
        with pytest.raises(ApiError, match="is not down and can't be removed"):
            await client.delete(f"/nodes/{node_id}")
        await client.delete(f"/nodes/{node_id}", {"force": "1"})

    async def told() -> bool:
        swarm = (await ask(three[2], "/info"))["Swarm"]
        return "join again" in swarm.get("Error", "")

    await eventually_async(told, 30, "the removed node knows it")
    async with Client(three[2].host) as client:
        await client.post("/swarm/leave", query={"force": "1"})
    await join(three[2], three[1], "Manager")
    await wait_managers(three[0], {d.name: True for d in three})


def test_command_without_a_daemon_says_so(tmp_path: Path) -> None:
    done = subprocess.run(
        [BIN / "essaim", "--host", f"unix://{tmp_path}/none.sock", "node", "ls"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (1, "")
    assert "Is essaimd running?" in done.stderr
    assert "Traceback" not in done.stderr
