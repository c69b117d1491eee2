"""HTTP/1.1 as `engine_proxy` needs it: messages are passed on by their framing, their content is never looked at."""

import asyncio
import contextlib
import re
from typing import Any, TypeVar

Answer = TypeVar("Answer")

HEAD_MOST = 1 << 20
PIECE = 1 << 16
"""Bytes of a message's head at most; bytes that are passed on at a time."""


class Gone(Exception):
    """One side has closed, or is to be closed."""


class Client(asyncio.StreamReader):
    """A stream that also tells of its end while nobody reads: a client that gives up in the middle of an answer."""

    def __init__(self) -> None:
        super().__init__(limit=HEAD_MOST)
        self.ended = asyncio.Event()

    def feed_eof(self) -> None:
        super().feed_eof()
        self.ended.set()

    def set_exception(self, exc: Exception) -> None:
        super().set_exception(exc)
        self.ended.set()


async def head_of(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        raise Gone from None


async def last_head(reader: asyncio.StreamReader) -> bytes:
    """The head of an answer, without what may come before it (100 Continue)."""
    head = await head_of(reader)
    while status_of(head) in (100, 102, 103):
        head = await head_of(reader)
    return head


async def unless_ended(client: Client, work: "asyncio.Future[Answer]") -> Answer:
    """The work's outcome; given up when the client goes away."""
    ended = asyncio.ensure_future(client.ended.wait())
    both: list[asyncio.Future[Any]] = [work, ended]
    try:
        await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        if not work.done():
            raise Gone
        return work.result()
    finally:
        for future in both:
            future.cancel()
        await asyncio.gather(*both, return_exceptions=True)


def field(head: bytes, name: str) -> str:
    found = re.search(rf"(?im)^{name}:[ \t]*(.*?)[ \t]*\r?$", head.decode("latin-1"))
    return found[1].lower() if found else ""


def status_of(head: bytes) -> int:
    return int(head.split(b" ", 2)[1])


async def copy_body(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter | None, head: bytes, *, method: str = ""
) -> bool:
    """Pass a body on (to nobody: read it), framed as its head says; whether another message may follow.

    `method` is that of the request when `head` is an answer's, which lasts to the connection's end without a length.
    """
    if method and (method == "HEAD" or status_of(head) in (204, 304)):
        await _pieces(reader, writer, 0)
        return True
    if "chunked" in field(head, "transfer-encoding"):
        await _copy_chunks(reader, writer)
        return True
    length = field(head, "content-length")
    if length or not method:
        await _pieces(reader, writer, int(length or 0))
        return True
    await copy_all(reader, writer)
    return False


async def _copy_chunks(reader: asyncio.StreamReader, writer: asyncio.StreamWriter | None) -> None:
    size = -1
    while size:
        line = await reader.readline()
        if not line:
            raise Gone
        size = int(line.split(b";")[0], 16)
        if writer is not None:
            writer.write(line)
        await _pieces(reader, writer, size + 2)


async def _pieces(reader: asyncio.StreamReader, writer: asyncio.StreamWriter | None, length: int) -> None:
    while length:
        data = await reader.read(min(length, PIECE))
        if not data:
            raise Gone
        length -= len(data)
        if writer is not None:
            writer.write(data)
            await writer.drain()
    if writer is not None:
        await writer.drain()


async def copy_all(reader: asyncio.StreamReader, writer: asyncio.StreamWriter | None) -> None:
    """To the end of what comes, and that end too."""
    while data := await reader.read(PIECE):
        if writer is not None:
            writer.write(data)
            await writer.drain()
    if writer is not None and writer.can_write_eof():
        with contextlib.suppress(OSError):
            writer.write_eof()
