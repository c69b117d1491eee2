"""Real daemons whose roles change fast, or that cannot be reached: nothing gets stuck and nothing stays behind."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from essaim.api.client import ApiError, Client, Unreachable
from tests.daemon.processes import Daemon, daemons, init, join
from tests.lab.wait import eventually_async
from tests.ports import free_port

pytestmark = [pytest.mark.timeout(240), pytest.mark.blocking_allowed]


async def ask(daemon: Daemon, path: str) -> Any:
    async with Client(daemon.host) as client:
        return await client.get(path)


async def write(daemon: Daemon, name: str) -> None:
    async with Client(daemon.host) as client:
        await client.post("/secrets/create", {"Name": name, "Data": "eA=="})


async def node_of(daemon: Daemon, name: str) -> dict[str, Any]:
    nodes = await ask(daemon, "/nodes")
    return next(n for n in nodes if n["Description"]["Hostname"] == name)


async def turn(through: Daemon, name: str, role: str) -> str:
    """Ask for the role; the answer's error, if there was one. Asked again when something else changed the node."""
    while True:
        node = await node_of(through, name)
        try:
            async with Client(through.host) as client:
                body = {**node["Spec"], "Role": role}
                await client.post(f"/nodes/{node['ID']}/update", body, {"version": str(node["Version"]["Index"])})
        except ApiError as error:
            if "out of sequence" not in str(error):
                return str(error)
        else:
            return ""


async def settle(through: Daemon, expected: dict[str, bool]) -> None:
    """Until these are the managers, and reachable (True), or are workers (False), by their own account too."""

    async def settled() -> bool:
        nodes = {n["Description"]["Hostname"]: n for n in await ask(through, "/nodes")}
        for name, is_manager in expected.items():
            status = nodes[name].get("ManagerStatus")
            if is_manager != ((status or {}).get("Reachability") == "reachable") or (status and not is_manager):
                return False
        return set(nodes) == set(expected)

    await eventually_async(settled, 60, f"the managers are {expected}", retry_on=(ApiError, Unreachable))


async def knows_its_role(daemon: Daemon, *, manager: bool) -> None:
    async def known() -> bool:
        swarm = (await ask(daemon, "/info"))["Swarm"]
        return swarm["ControlAvailable"] == manager and swarm["LocalNodeState"] == "active"

    await eventually_async(known, 60, f"{daemon.name} has its role", retry_on=(ApiError, Unreachable))


@pytest.fixture
async def two(tmp_path: Path) -> AsyncIterator[list[Daemon]]:
    async with daemons(tmp_path, 2, tasks=False) as made:
        await init(made[0])
        yield made


async def join_at(daemon: Daemon, manager: Daemon, role: str, advertised: str) -> None:
    token = (await ask(manager, "/swarm"))["JoinTokens"][role]
    async with Client(daemon.host) as client:
        await client.post(
            "/swarm/join",
            {
                "RemoteAddrs": [manager.cluster_address],
                "JoinToken": token,
                "AdvertiseAddr": advertised,
                "ListenAddr": daemon.cluster_address,
            },
        )


async def test_manager_that_nobody_reaches_is_refused_and_leaves_nothing_behind(two: list[Daemon]) -> None:
    one, other = two
    wrong = f"127.0.0.3:{free_port('127.0.0.3')}"
    with pytest.raises(ApiError, match=f"prospective new cluster member using its advertised address: {wrong}"):
        await join_at(other, one, "Manager", wrong)
    await write(one, "after")
    assert [n["Description"]["Hostname"] for n in await ask(one, "/nodes")] == ["node1"]
    assert [p.name for p in other.state.iterdir() if p.name in ("node.json", "keys.json", "raft")] == []
    assert (await ask(other, "/info"))["Swarm"]["LocalNodeState"] == "inactive"
    await join(other, one, "Manager")
    await settle(one, {"node1": True, "node2": True})


async def test_worker_that_nobody_reaches_stays_one_when_it_is_promoted(two: list[Daemon]) -> None:
    one, other = two
    await join_at(other, one, "Worker", f"127.0.0.3:{free_port('127.0.0.3')}")
    assert await turn(one, "node2", "manager") == ""

    async def tried() -> bool:
        return "prospective new cluster member" in other.log.read_text()

    await eventually_async(tried, 30, "it was told why it does not become a manager")
    await write(one, "after")
    assert "ManagerStatus" not in await node_of(one, "node2")
    assert await turn(one, "node2", "worker") == ""
    await settle(one, {"node1": True, "node2": False})


@pytest.fixture
async def three(tmp_path: Path) -> AsyncIterator[list[Daemon]]:
    async with daemons(tmp_path, 3, tasks=False) as made:
        await init(made[0])
        for daemon in made[1:]:
            await join(daemon, made[0], "Manager")
        await settle(made[0], {d.name: True for d in made})
        yield made


ALL = {"node1": True, "node2": True, "node3": True}


async def leader_of(daemon: Daemon) -> str:
    async def found() -> str | None:
        for node in await ask(daemon, "/nodes"):
            if (node.get("ManagerStatus") or {}).get("Leader"):
                return str(node["Description"]["Hostname"])
        return None

    found_name = await eventually_async(found, 30, "there is a leader", retry_on=(ApiError, Unreachable))
    assert found_name
    return found_name


@pytest.mark.parametrize("through", ["the subject", "another"])
async def test_manager_demoted_and_promoted_at_once_is_one_again(three: list[Daemon], through: str) -> None:
    """A follower and then the leader, each several times; the orders are given to itself or to another manager."""
    for round_number in range(3):
        leader = await leader_of(three[0])
        subject = next(d for d in three if (d.name == leader) == (round_number % 2 == 1))
        others = [d for d in three if d is not subject]
        asked = subject if through == "the subject" else others[0]
        assert await turn(asked, subject.name, "worker") == "", f"round {round_number}: demoting {subject.name}"
        assert await turn(others[1], subject.name, "manager") == ""
        await settle(others[0], ALL)
        await knows_its_role(subject, manager=True)
        await write(subject, f"by-{through.replace(' ', '-')}-{round_number}")


async def test_manager_promoted_and_demoted_at_once_is_a_worker(three: list[Daemon]) -> None:
    subject, through = three[1], three[2]
    await turn(through, subject.name, "worker")
    await knows_its_role(subject, manager=False)
    for _ in range(3):
        await turn(through, subject.name, "manager")
        await turn(through, subject.name, "worker")
    await settle(through, {**ALL, subject.name: False})
    await knows_its_role(subject, manager=False)
    await write(through, "still")


async def test_manager_killed_between_demotion_and_promotion_is_one_again(three: list[Daemon]) -> None:
    subject, through = three[1], three[2]
    for pause in (0.0, 0.3):
        await turn(through, subject.name, "worker")
        await asyncio.sleep(pause)
        subject.kill()
        await turn(through, subject.name, "manager")
        await subject.start()
        await settle(through, ALL)
        await knows_its_role(subject, manager=True)
        await write(subject, f"after-{pause}")
