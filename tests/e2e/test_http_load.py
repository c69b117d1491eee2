"""The load itself: what it calls a failure, and what not."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from tests.lab.wait import eventually_async

from .http_load import HttpLoad

WHOLE = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
ANNOUNCED = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok"


@contextlib.asynccontextmanager
async def serving(answer: bytes) -> AsyncIterator[HttpLoad]:
    """A load on a server that answers one request a connection and then closes it."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(EOFError):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(answer)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server, HttpLoad({"h": "127.0.0.1"}, server.sockets[0].getsockname()[1]).running() as load:
        yield load


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (WHOLE, "keep=True: "),
        (WHOLE[:-1], "keep=False: IncompleteReadError"),
        (b"", "keep=False: IncompleteReadError"),
        (WHOLE.replace(b"200 OK", b"503 No"), "keep=False: status 503"),
    ],
)
async def test_load_notes_a_request_without_a_whole_good_answer(answer: bytes, words: str) -> None:
    async with serving(answer) as load:

        async def noted() -> bool:
            return any(words in failure for failure in load.failures)

        await eventually_async(noted, 20, f"{words!r} is noted")


async def test_load_takes_an_announced_close_for_no_failure() -> None:
    async with serving(ANNOUNCED) as load:
        await load.wait_answers(6)
    assert load.failures == []
