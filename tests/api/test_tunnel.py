"""A byte stream to another node's Engine over messages."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from essaim.api.streams.tunnel import Tunnels, serve_engine
from essaim.cluster.errors import Unavailable
from essaim.cluster.wire import Channel
from tests.api.fakes import channel_pair


class Echo:
    """An Engine's socket that sends everything back, and says good-bye once the input has ended."""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
            writer.write(b"bye")
            await writer.drain()
        except ConnectionError:
            pass
        writer.close()


@pytest.fixture
async def tunnels(tmp_path: Path) -> AsyncIterator[Tunnels]:
    path = tmp_path / "engine.sock"
    serving: set[asyncio.Task[None]] = set()

    async def open_channel(node_id: str) -> Channel:
        if node_id == "down":
            raise Unavailable("node down is down")
        near, far = channel_pair()
        serving.add(asyncio.create_task(serve_engine(far, f"unix://{path}")))
        return near

    async with await asyncio.start_unix_server(Echo().serve, str(path)), asyncio.timeout(20):
        made = Tunnels(open_channel)
        yield made
        await made.stop()
        await asyncio.gather(*serving, return_exceptions=True)


async def test_tunnel_carries_bytes_and_half_closes(tunnels: Tunnels) -> None:
    reader, writer = await tunnels.dial("n1")
    data = bytes(range(256)) * 8192
    writing = asyncio.create_task(writer.drain())
    writer.write(data)
    writer.write_eof()
    assert await reader.read(-1) == data + b"bye"
    await writing
    writer.close()
    await writer.wait_closed()


async def test_tunnels_do_not_mix(tunnels: Tunnels) -> None:
    streams = [await tunnels.dial(f"n{i}") for i in range(5)]
    for number, (_, writer) in enumerate(streams):
        writer.write(b"%d" % number)
        writer.write_eof()
    assert [await reader.read(-1) for reader, _ in streams] == [b"%dbye" % i for i in range(5)]
    for _, writer in streams:
        writer.close()


async def test_tunnel_to_a_lost_node_raises(tunnels: Tunnels) -> None:
    with pytest.raises(Unavailable, match="is down"):
        await tunnels.dial("down")


async def test_stop_ends_every_tunnel(tunnels: Tunnels) -> None:
    reader, writer = await tunnels.dial("n1")
    await tunnels.stop()
    assert await reader.read(-1) == b""
    writer.close()


async def test_side_that_goes_ends_the_other(tunnels: Tunnels) -> None:
    _, writer = await tunnels.dial("n1")
    writer.write(b"x")
    writer.transport.abort()
    while tunnels._carriers:
        await asyncio.sleep(0.001)
