"""The load itself and the program in the containers: what counts as an answer, and what as a failure."""

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.lab.wait import eventually_async

from . import load, stack
from .stack import SERVED, Served

APP = Path(__file__).with_name("app.py")
TCP, UDP = (served for served in SERVED if served.name.startswith("echo"))


@contextlib.asynccontextmanager
async def echo() -> AsyncIterator[None]:
    process = await asyncio.create_subprocess_exec(sys.executable, APP, "echo")
    try:
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        await process.wait()


async def test_echo_of_the_program_is_an_answer_over_tcp_and_udp() -> None:
    clients = [
        load.Client("h", "127.0.0.1", replace(TCP, port=9000), keep=False),
        load.Client("h", "127.0.0.1", replace(UDP, port=9001), keep=False),
    ]

    async def asked() -> bool:
        for client in clients:
            await client.ask()
        return True

    async with echo():
        await eventually_async(asked, 20, "both answer", retry_on=load.PROBLEMS)


async def answering(answer: bytes) -> asyncio.Server:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(EOFError):
            await reader.readuntil(b"\n")
            writer.write(answer)
        writer.close()

    return await asyncio.start_server(serve, "127.0.0.1", 0)


@pytest.mark.parametrize(
    ("how", "answer"),
    [
        ("tcp", b""),
        ("tcp", b"other\n"),
        ("http", b"HTTP/1.1 503 No\r\nContent-Length: 2\r\n\r\nno"),
        ("http", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nno"),
    ],
)
async def test_load_notes_what_is_no_whole_right_answer(
    how: str, answer: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = await answering(answer)
    async with server:
        monkeypatch.setattr(load, "SERVED", (Served("x", server.sockets[0].getsockname()[1], how),))
        async with load.running({"h": "127.0.0.1"}) as running:

            async def noted() -> bool:
                return bool(running.failures)

            await eventually_async(noted, 20, "a failure is noted")
    assert (running.failures[0].node, running.failures[0].port) == ("h", "x")
    assert not running.answered


async def test_datagram_without_answer_is_a_failure_after_three(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load, "DATAGRAM_PATIENCE", 0.01)
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(asyncio.DatagramProtocol, ("127.0.0.1", 0))
    try:
        port = transport.get_extra_info("sockname")[1]
        with pytest.raises(load.Failed, match="three datagrams"):
            await load.Client("h", "127.0.0.1", Served("x", port, "udp"), keep=False).ask()
    finally:
        transport.close()


def test_stack_publishes_what_the_load_asks() -> None:
    assert all(str(served.port) in stack.STACK for served in SERVED)
