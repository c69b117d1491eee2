"""Streams end when the host at their other end is gone, and only then."""

import asyncio
import contextlib
import socket
from typing import Any

import pytest
import uvloop
from hypothesis import given
from hypothesis import strategies as st

from essaim.daemon.peers.liveness import SILENCE, Liveness, TcpInfo, gone

LONG = int(SILENCE * 1000)
TIMES = st.integers(0, 10 * LONG)


@given(st.builds(TcpInfo, st.integers(1, 11), st.integers(0, 9), st.integers(0, 9), TIMES, TIMES))
def test_gone_needs_both_a_question_and_silence(info: TcpInfo) -> None:
    heard = info.since_data < LONG or info.since_ack < LONG
    nothing_asked = info.unacked == 0 and info.probes <= 1
    assert gone(info) == (not heard and not nothing_asked)


def test_gone_spares_a_peer_without_room_that_confirms_each_probe() -> None:
    assert not gone(TcpInfo(state=1, probes=1, unacked=0, since_data=20 * LONG, since_ack=8 * LONG))


@pytest.mark.parametrize("make_loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_liveness_asks_the_kernel_on_the_daemons_loop_and_leaves_a_live_stream_alone(make_loop: Any) -> None:
    async def check() -> None:
        ended = asyncio.Event()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(await reader.readexactly(2))
            await reader.read()
            writer.close()
            ended.set()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        liveness = Liveness(writer.get_extra_info("socket"))
        liveness.start()
        assert writer.get_extra_info("socket").getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        writer.write(b"hi")
        assert await reader.readexactly(2) == b"hi"
        liveness.stop()
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()
        async with asyncio.timeout(20):
            await ended.wait()
        server.close()

    with asyncio.Runner(loop_factory=make_loop) as runner:
        runner.run(check())


async def test_liveness_shuts_down_a_stream_whose_peer_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    liveness = Liveness(writer.get_extra_info("socket"))
    silent = TcpInfo(state=1, probes=0, unacked=1, since_data=LONG, since_ack=LONG)
    monkeypatch.setattr(liveness, "_info", lambda: silent)
    liveness.start()
    async with asyncio.timeout(20):
        assert await reader.read() == b""
    writer.close()
    await writer.wait_closed()
    server.close()
