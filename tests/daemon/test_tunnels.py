"""The leader's desk for streams to other nodes' Engines."""

import asyncio

import pytest

from essaim.cluster.errors import NotFound, Unavailable
from essaim.daemon.peers import tunnels
from essaim.daemon.peers.tunnels import TunnelDesk, bridge
from tests.api.fakes import channel_pair


class Nodes:
    """What nodes were asked for; `gone` ones are not connected."""

    def __init__(self) -> None:
        self.asked: asyncio.Queue[tuple[str, str]] = asyncio.Queue()

    def ask(self, node_id: str, key: str) -> None:
        if node_id == "gone":
            raise Unavailable("node gone is not connected")
        self.asked.put_nowait((node_id, key))


async def test_desk_joins_the_asker_with_the_connection_of_its_key() -> None:
    nodes = Nodes()
    desk = TunnelDesk(nodes.ask)
    opening = [asyncio.create_task(desk.open(name)) for name in ("n1", "n2")]
    asked = [await nodes.asked.get() for _ in opening]
    ends, holding = {}, []
    for node_id, key in reversed(asked):
        near, ends[node_id] = channel_pair()
        holding.append(asyncio.create_task(desk.hold(key, near)))
    for node_id, task in zip(("n1", "n2"), opening, strict=True):
        channel = await task
        await channel.send(node_id.encode())
        assert await ends[node_id].receive() == node_id.encode()
        await channel.close()
    await asyncio.gather(*holding)


async def test_key_admits_one_connection_only() -> None:
    nodes = Nodes()
    desk = TunnelDesk(nodes.ask)
    opening = asyncio.create_task(desk.open("n1"))
    _, key = await nodes.asked.get()
    assert desk.expects(key)
    holding = asyncio.create_task(desk.hold(key, channel_pair()[0]))
    channel = await opening
    assert not desk.expects(key)
    for wrong in (key, "never issued"):
        with pytest.raises(NotFound, match="nobody expects"):
            await desk.hold(wrong, channel_pair()[0])
    await channel.close()
    await holding


async def test_node_that_is_not_connected_is_named_and_its_key_forgotten() -> None:
    with pytest.raises(Unavailable, match="node gone is not connected"):
        await TunnelDesk(Nodes().ask).open("gone")


async def test_node_that_does_not_come_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tunnels, "ARRIVE_SECONDS", 0.01)
    nodes = Nodes()
    desk = TunnelDesk(nodes.ask)
    with pytest.raises(Unavailable, match="node n1 did not open a connection"):
        await desk.open("n1")
    _, key = await nodes.asked.get()
    with pytest.raises(NotFound):
        await desk.hold(key, channel_pair()[0])


async def test_asker_that_goes_as_the_connection_comes_leaves_nothing_held() -> None:
    nodes = Nodes()
    desk = TunnelDesk(nodes.ask)
    opening = asyncio.create_task(desk.open("n1"))
    _, key = await nodes.asked.get()
    holding = asyncio.create_task(desk.hold(key, channel_pair()[0]))
    await asyncio.sleep(0)
    opening.cancel()
    with pytest.raises(asyncio.CancelledError):
        await opening
    async with asyncio.timeout(5):
        await holding


async def test_cut_ends_the_streams_of_that_node_alone() -> None:
    nodes = Nodes()
    desk = TunnelDesk(nodes.ask)
    far, holding = {}, {}
    for name in ("n1", "n2"):
        opening = asyncio.create_task(desk.open(name))
        _, key = await nodes.asked.get()
        near, far[name] = channel_pair()
        holding[name] = asyncio.create_task(desk.hold(key, near))
        await opening
    await desk.cut("n1")
    await holding["n1"]
    assert await far["n1"].receive() is None
    assert not holding["n2"].done()
    await desk.cut("n2")
    await holding["n2"]


async def test_bridge_passes_both_ways_and_ends_with_either_side() -> None:
    (left, left_end), (right, right_end) = channel_pair(), channel_pair()
    bridging = asyncio.create_task(bridge(left_end, right_end))
    await left.send(b"to the right")
    await right.send(b"")
    assert await right.receive() == b"to the right"
    assert await left.receive() == b""
    await left.close()
    await bridging
    assert await right.receive() is None
