"""The networks that a node was told: kept over a restart, and acknowledged once they hold."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import structlog
from structlog.testing import capture_logs

from essaim.agent.keepers.networks import NetworkKeeper
from essaim.cluster.overlay import OverlayNetwork
from essaim.cluster.wire import FromAgent, Networks, NetworksApplied

ONE = OverlayNetwork("net1", "inner", "10.0.1.0/24", "10.0.1.1", 4097, names={"db": ["10.0.1.2"]})


class Node:
    """Where a keeper's words go."""

    def __init__(self, path: Path) -> None:
        self.offered: list[list[OverlayNetwork]] = []
        self.sent: list[FromAgent] = []
        self.said = asyncio.Event()
        self.settle = asyncio.Event()
        self.keeper = NetworkKeeper(path / "networks", self.offered.append, self._settled, structlog.get_logger())

    async def _settled(self) -> None:
        await self.settle.wait()

    async def _send(self, message: FromAgent) -> None:
        self.sent.append(message)
        self.said.set()

    async def session(self, *messages: Networks, until: Callable[[], bool]) -> None:
        for message in messages:
            self.keeper.take(message)
        running = asyncio.create_task(self.keeper.run(self._send))
        assert not self.sent
        self.settle.set()
        async with asyncio.timeout(5):
            await self.said.wait()
            while not until():
                await asyncio.sleep(0)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def test_keeper_acknowledges_the_newest_once_it_holds_and_keeps_it_over_a_restart(tmp_path: Path) -> None:
    before = Node(tmp_path)
    await before.session(Networks([], 1), Networks([ONE], 2), until=(tmp_path / "networks").exists)
    assert before.offered == [[], [ONE]]
    assert before.sent == [NetworksApplied(2)]
    after = Node(tmp_path)
    await after.keeper.recover()
    assert after.offered == [[ONE]]
    await after.session(Networks([], 1), until=lambda: not (tmp_path / "networks").exists())
    again = Node(tmp_path)
    await again.keeper.recover()
    assert again.offered == []


async def test_keeper_what_cannot_be_read_or_written_is_no_hindrance(tmp_path: Path) -> None:
    (tmp_path / "networks").write_bytes(b"\xc1")
    node = Node(tmp_path)
    await node.keeper.recover()
    assert node.offered == []
    lost = Node(tmp_path / "networks")
    with capture_logs() as logged:
        await lost.session(Networks([ONE], 1), until=lambda: bool(logged))
    assert lost.sent == [NetworksApplied(1)]


async def test_keeper_a_new_session_does_not_hear_of_versions_of_the_last(tmp_path: Path) -> None:
    node = Node(tmp_path)
    node.settle.set()
    node.keeper.take(Networks([ONE], 57))
    node.keeper.begin()
    await node.session(Networks([ONE], 1), until=lambda: True)
    assert node.sent == [NetworksApplied(1)]
