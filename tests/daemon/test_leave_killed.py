"""A daemon that is killed while its node leaves: what it had begun is ended by the next one, and nothing comes back."""

import asyncio
import contextlib
import signal
from pathlib import Path

import pytest

from essaim.api.client import ApiError, Client, Unreachable
from tests.lab.wait import eventually_async

from .processes import Daemon, init

pytestmark = pytest.mark.blocking_allowed
STUBBORN = {
    "Name": "web",
    "TaskTemplate": {
        "ContainerSpec": {
            "Image": "host",
            "Command": ["sh", "-c", "trap '' TERM; while :; do sleep 0.1; done"],
            "StopGracePeriod": 2_000_000_000,
        }
    },
}


async def leave(one: Daemon) -> None:
    with contextlib.suppress(Unreachable, ApiError, OSError):
        async with Client(one.host) as client:
            await client.post("/swarm/leave", query={"force": "true"})


async def is_outside(one: Daemon) -> bool:
    async with Client(one.host) as client:
        state = (await client.get("/info"))["Swarm"]["LocalNodeState"]
    left = {path.name for path in one.state.iterdir()} & {"node.json", "keys.json", "raft", "agent"}
    tasks = one.state / "process" / "tasks"
    return state == "inactive" and not left and not (tasks.exists() and any(tasks.iterdir()))


async def test_leave_whose_daemon_is_killed_is_finished_by_the_next_one(tmp_path: Path) -> None:
    one = Daemon(tmp_path)
    try:
        await one.start()
        await init(one)
        async with Client(one.host) as client:
            await client.post("/services/create", STUBBORN)

            async def runs() -> bool:
                return [t["Status"]["State"] for t in await client.get("/tasks")] == ["running"]

            await eventually_async(runs, 20, "the task runs")
        leaving = asyncio.create_task(leave(one))

        async def has_begun() -> bool:
            return '"leaving": true' in (one.state / "node.json").read_text()

        await eventually_async(has_begun, 20, "the leave has begun")
        one.kill(signal.SIGKILL)
        await leaving
        await one.start()
        await eventually_async(lambda: is_outside(one), 30, "the node is outside any swarm, and empty")
        one.kill(signal.SIGTERM)
        await one.start()
        assert await is_outside(one)
    finally:
        one.end()
