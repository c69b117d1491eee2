"""A daemon whose Engine died still stops, and still leaves, in bounded time; real daemons, an Engine made for it."""

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from essaim.api.client import Client
from tests.daemon.dying_engine import DyingEngine
from tests.daemon.processes import Daemon, init
from tests.lab.wait import eventually_async

pytestmark = [pytest.mark.timeout(180), pytest.mark.blocking_allowed]
STOPS_WITHIN = 12.0
LEAVES_WITHIN = 25.0


@asynccontextmanager
async def with_a_task(folder: Path) -> AsyncIterator[tuple[Daemon, DyingEngine]]:
    """A daemon that manages its own cluster and runs one task in an Engine."""
    daemon = Daemon(folder, flags=("--runtime", "docker", "--engine", f"unix://{folder / 'engine.sock'}"))
    async with DyingEngine(folder / "engine.sock") as engine:
        try:
            await daemon.start()
            await init(daemon)
            async with Client(daemon.host) as client:
                task = {"ContainerSpec": {"Image": "web:1"}}
                mode = {"Replicated": {"Replicas": 1}}
                await client.post("/services/create", {"Name": "web", "TaskTemplate": task, "Mode": mode})

            async def runs() -> bool:
                async with Client(daemon.host) as client:
                    return [t["Status"]["State"] for t in await client.get("/tasks")] == ["running"]

            await eventually_async(runs, 30, f"the task runs; the daemon said:\n{daemon.log.read_text()}")
            yield daemon, engine
        finally:
            daemon.end()


@pytest.mark.parametrize("how", ["silent", "refusing"])
async def test_daemon_told_to_stop_ends_although_its_engine_is_dead(tmp_path: Path, how: str) -> None:
    async with with_a_task(tmp_path) as (daemon, engine):
        await engine.die(how)
        os.kill(daemon.pid, signal.SIGTERM)
        await daemon.ended(STOPS_WITHIN)


@pytest.mark.parametrize("how", ["silent", "refusing"])
async def test_forced_leave_with_a_dead_engine_ends_and_says_what_may_still_run(tmp_path: Path, how: str) -> None:
    async with with_a_task(tmp_path) as (daemon, engine):
        await engine.die(how)
        began = time.monotonic()
        done = await asyncio.to_thread(daemon.essaim, "swarm", "leave", "--force")
        assert time.monotonic() - began < LEAVES_WITHIN
        assert done.returncode == 0, done.stderr
        assert "Node left the swarm." in done.stdout
        assert "1 task(s) of this node could not be stopped" in done.stderr
        assert "web.1." in done.stderr
        async with Client(daemon.host) as client:
            assert (await client.get("/info"))["Swarm"]["LocalNodeState"] == "inactive"
        os.kill(daemon.pid, signal.SIGTERM)
        await daemon.ended(STOPS_WITHIN)


async def test_daemon_told_to_stop_while_it_starts_ends(tmp_path: Path) -> None:
    """Its Engine takes the connection and answers nothing, so that it never gets as far as its API."""
    socket = tmp_path / "engine.sock"
    async with DyingEngine(socket) as engine:
        await engine.die("silent")
        daemon = Daemon(tmp_path, flags=("--runtime", "auto", "--engine", f"unix://{socket}"))

        async def listens() -> bool:
            return daemon.is_started and _handles(daemon.pid, signal.SIGTERM)

        starting = asyncio.create_task(daemon.start())
        await eventually_async(listens, 10, "it listens to signals")
        os.kill(daemon.pid, signal.SIGTERM)
        starting.cancel()
        await asyncio.gather(starting, return_exceptions=True)
        await daemon.ended(STOPS_WITHIN)


def _handles(pid: int, number: int) -> bool:
    """Whether the process catches that signal."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("SigCgt:"):
            return bool(int(line.split()[1], 16) >> (number - 1) & 1)
    return False
