"""The leader's own daemon restarts, in order or after a crash: the next leader gives its node's tasks time too."""

import asyncio
import contextlib
import signal
from pathlib import Path

import pytest

from tests.daemon.processes import daemons, init, join
from tests.daemon.test_managers import wait_managers, wait_voters
from tests.daemon.test_node_restart import REPLICAS, SILENCE, Load, back, running, set_up, silent_for, tasks_of
from tests.ports import free_port

pytestmark = [pytest.mark.timeout(180), pytest.mark.blocking_allowed]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
async def test_restart_of_the_leaders_daemon_moves_no_task_and_fails_no_request(
    tmp_path: Path, number: signal.Signals
) -> None:
    async with daemons(tmp_path, 3) as made:
        leader, second, third = made
        await init(leader)
        for other in (second, third):
            await join(other, leader, "Manager")
        await wait_managers(leader, {d.name: True for d in made})
        await wait_voters(made)
        port = free_port("127.0.0.1")
        await set_up(leader, port, drained=third)
        load = Load(f"http://{third.address}:{port}/")
        going = asyncio.create_task(load.run())
        try:
            before = await running(leader)
            leader.kill(number)
            load.failed.clear()
            await silent_for(2 * SILENCE, load)
            await leader.start()
            await back(second, leader)
            after = await tasks_of(second)
        finally:
            going.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await going
        assert after.keys() == before.keys(), second.log.read_text() + third.log.read_text()
        assert len(after) == REPLICAS
        assert load.failed == []
