"""Tunnels (after 101) end when both sides have ended, in whatever order."""

import asyncio
from pathlib import Path

import pytest

from essaim.gateway.control.supervisor import Gateway
from tests.ports import free_port

from .conftest import Backends, endpoint, service, table, until

ASK = b"GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n"
SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n"


@pytest.mark.parametrize("first", ["client", "replica"])
async def test_tunnel_of_which_both_sides_have_ended_is_closed(
    gateway: Gateway, backends: Backends, tmp_path: Path, first: str
) -> None:
    ended, finished = asyncio.Event(), asyncio.Event()

    async def tunnel(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(SWITCH + b"hello")
        if first == "replica":
            writer.write_eof()
        assert await reader.read() == b"bye"
        if first == "client":
            writer.write(b"last words")
            writer.write_eof()
        ended.set()
        # It does not close: it is for the gateway to see that nothing more can come.
        await finished.wait()
        writer.close()

    port, labels = free_port(), {"essaim.healthcheck.mode": "none", "essaim.accesslog": "json"}
    replicas = [endpoint("t", await backends.serve(tunnel))]
    await gateway.apply(table(1, service("ws", port, replicas, "http", labels)))
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(ASK)
        async with asyncio.timeout(20):
            assert b" 101 " in await reader.readuntil(b"\r\n\r\n")
            if first == "replica":
                assert await reader.read() == b"hello"
            writer.write(b"bye")
            writer.write_eof()
            if first == "client":
                assert await reader.read() == b"hellolast words"
            await ended.wait()
        async with asyncio.timeout(10):
            while (await gateway.traffic())[0]["tasks"][0]["open"]:
                await asyncio.sleep(0.01)
        log = tmp_path / "gateway" / "access.log"
        await until(lambda: log.exists() and log.read_text() != "", 10)
        assert '"status":101' in log.read_text()
        assert (await gateway.traffic())[0]["tasks"][0]["codes"] == {101: 1}
    finally:
        writer.close()
        finished.set()
