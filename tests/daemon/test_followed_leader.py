"""Output that is followed goes on under another leader: no line is missing, none comes twice."""

import asyncio
import signal
from pathlib import Path

import pytest

from tests.daemon.processes import daemons, init, join
from tests.daemon.test_managers import wait_managers, wait_voters
from tests.daemon.test_stalled_readers import WRITE, Reader, runs

pytestmark = [pytest.mark.timeout(180), pytest.mark.blocking_allowed]


async def test_followed_output_goes_on_when_the_leader_is_killed(tmp_path: Path) -> None:
    async with daemons(tmp_path, 3) as made:
        leader, second, third = made
        await init(leader)
        for other in (second, third):
            await join(other, leader, "Manager")
        await wait_managers(leader, {d.name: True for d in made})
        await wait_voters(made)
        create = ["service", "create", "--detach", "--no-resolve-image", "--name", "chatty"]
        create += ["--constraint", "node.hostname==node3", "host", "/bin/sh", "-c", WRITE]
        done = await asyncio.to_thread(leader.essaim, *create)
        assert done.returncode == 0, done.stderr
        await runs(leader, "chatty")
        readers = [await Reader.open(d, "/services/chatty/logs?follow=1&stdout=1") for d in (second, third)]
        for reader in readers:
            await reader.read(200)
        leader.kill(signal.SIGKILL)
        for reader in readers:
            async with asyncio.timeout(60):
                await reader.read(8000)
            assert reader.numbers == list(range(reader.numbers[0], reader.numbers[0] + len(reader.numbers)))
            reader.close()
        await leader.start()
