"""A daemon that is told to stop twice ends at once, as after kill -9: tasks go on, and the next start cleans up."""

import os
import signal
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from essaim.api.client import Client
from tests.daemon.processes import Daemon, daemons, descendants, init, join, lives
from tests.lab.wait import eventually_async
from tests.ports import free_port

pytestmark = [pytest.mark.timeout(120), pytest.mark.blocking_allowed]
AT_ONCE = 1.0
"""Seconds; the first signal alone takes two here, which the daemon waits for its manager's farewell."""


@pytest.fixture
async def pair(tmp_path: Path) -> AsyncIterator[tuple[Daemon, Daemon]]:
    """A manager that runs no tasks, and a worker that runs one."""
    async with daemons(tmp_path, 2) as (manager, worker):
        await init(manager)
        await join(worker, manager)
        port = free_port(worker.address)
        for command in (
            ["node", "update", "--availability", "drain", manager.name],
            ["service", "create", "--no-resolve-image", "--name", "web", "--publish", f"{port}:80", "essaim/whoami"],
        ):
            done = manager.essaim(*command)
            assert done.returncode == 0, done.stderr
        try:
            yield manager, worker
        finally:
            if manager.is_started:
                manager.kill(signal.SIGCONT)


async def the_task(manager: Daemon) -> dict[str, Any]:
    async def runs() -> dict[str, Any] | None:
        async with Client(manager.host) as client:
            found: list[dict[str, Any]] = await client.get("/tasks")
        running = [task for task in found if task["Status"]["State"] == "running"]
        return running[0] if len(running) == len(found) == 1 else None

    found = await eventually_async(runs, 30, "the one task runs")
    assert found is not None
    return found


def refuses(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as one:
        return one.connect_ex(str(path)) != 0


def gateway_of(daemon: Daemon) -> list[int]:
    """Its processes but for those of tasks, which have supervisors of their own."""
    return [pid for pid in descendants(daemon.pid) if b"gateway" in Path(f"/proc/{pid}/cmdline").read_bytes()]


async def test_daemon_told_to_stop_twice_ends_at_once_and_starts_again_as_it_was(pair: tuple[Daemon, Daemon]) -> None:
    manager, worker = pair
    task = await the_task(manager)
    pid = task["Status"]["ContainerStatus"]["PID"]
    for second in (signal.SIGTERM, signal.SIGINT):
        gateway = gateway_of(worker)
        assert gateway
        manager.kill(signal.SIGSTOP)
        os.kill(worker.pid, signal.SIGTERM)

        async def is_stopping() -> bool:
            return refuses(worker.socket)

        await eventually_async(is_stopping, 2, "it has heard the first signal")
        os.kill(worker.pid, second)
        assert await worker.ended(AT_ONCE) == 1
        assert "told to stop twice and ends at once" in worker.log.read_text()
        assert lives(pid), "tasks go on"

        manager.kill(signal.SIGCONT)
        await worker.start()
        assert (await the_task(manager))["ID"] == task["ID"]
        assert lives(pid)

        async def no_old_gateway(old: list[int] = gateway) -> bool:
            return not any(lives(one) for one in old)

        await eventually_async(no_old_gateway, 10, "the last run's gateway has handed over and ended")
        worker.log.write_text("")
