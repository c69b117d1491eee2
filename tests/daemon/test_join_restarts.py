"""A host that is killed at some step of its joining as a manager: the cluster goes on, and it can be one afterwards."""

import asyncio
import contextlib
import os
from pathlib import Path
from typing import Any

import pytest

from essaim.api.client import ApiError, Client, Unreachable
from tests.daemon.processes import Daemon, daemons, init, join
from tests.lab.wait import eventually_async

pytestmark = [pytest.mark.timeout(240), pytest.mark.blocking_allowed]


async def ask(daemon: Daemon, path: str) -> Any:
    async with Client(daemon.host) as client:
        return await client.get(path)


async def knows(one: Daemon, other: Daemon) -> bool:
    return len(await ask(one, "/nodes")) > 1


async def has_identity(one: Daemon, other: Daemon) -> bool:
    return (other.state / "node.json").exists()


async def has_a_member(one: Daemon, other: Daemon) -> bool:
    return "step=add" in one.log.read_text()


async def has_a_vote(one: Daemon, other: Daemon) -> bool:
    return "step=promote" in one.log.read_text()


STEPS = [knows, has_identity, has_a_member, has_a_vote]
CHOSEN = STEPS if os.environ.get("ESSAIM_TEST_LONG") else [knows, has_a_vote]


@pytest.mark.parametrize("step", CHOSEN, ids=lambda step: step.__name__)
async def test_host_killed_while_it_joins_can_be_a_manager_afterwards(tmp_path: Path, step: Any) -> None:
    async with daemons(tmp_path, 2, tasks=False) as (one, other):
        await init(one)
        joining = asyncio.create_task(join(other, one, "Manager"))
        while not await step(one, other):
            assert not joining.done() or step is has_a_vote, "it was not caught in time"
            await asyncio.sleep(0.002)
        other.kill()
        with contextlib.suppress(ApiError, Unreachable):
            await joining
        await other.start()
        if (await ask(other, "/info"))["Swarm"]["LocalNodeState"] == "inactive":
            await join(other, one, "Manager")

        async def both() -> bool:
            node_id = (await ask(other, "/info"))["Swarm"]["NodeID"]
            status = next(n for n in await ask(one, "/nodes") if n["ID"] == node_id).get("ManagerStatus") or {}
            async with Client(one.host) as client:
                await client.post("/secrets/create", {"Name": "probe", "Data": "eA=="})
                await client.delete("/secrets/probe")
            return status.get("Reachability") == "reachable"

        await eventually_async(both, 60, "both are managers and write", retry_on=(ApiError, Unreachable, StopIteration))
