"""The table of `http2_rows.py`, asked of essaim, HAProxy and nghttpx over real connections."""

import asyncio
import contextlib
import re
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import hpack
import pytest

from essaim.gateway.codec.http2.faults import ErrorCode
from essaim.gateway.codec.http2.frames import DATA, END_STREAM, GOAWAY, HEADERS, PING, RST_STREAM
from essaim.gateway.control.supervisor import Gateway
from tests.ports import free_port

from .conftest import Backends, endpoint, service, table
from .http2_rows import DIFFERENCES, PREFACE, ROWS, Row, ping, settings

pytestmark = pytest.mark.blocking_allowed
LAST = b"that is "
ACKNOWLEDGE = bytes.fromhex("000000040100000000")
SECONDS = 5.0


async def answer(port: int, row: Row) -> str:
    """What a server answers to a row, in a word."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        async with asyncio.timeout(SECONDS):
            greeting = PREFACE + settings() + ACKNOWLEDGE if row.greeting is None else row.greeting
            writer.write(greeting + row.frames + ping(LAST))
            return await summed_up(reader, row)
    except TimeoutError:
        return "nothing"
    except (ConnectionError, asyncio.IncompleteReadError):
        return "closed"
    finally:
        writer.close()


async def summed_up(reader: asyncio.StreamReader, row: Row) -> str:
    """The first error, else a response that is complete, else that the PING alone was answered."""
    status, pinged, decoder = "", False, hpack.Decoder()
    while True:
        try:
            # A response may come behind the answer to the PING: it is waited for where one may come.
            async with asyncio.timeout(1.0 if pinged else SECONDS):
                head = await reader.readexactly(9)
                content = await reader.readexactly(int.from_bytes(head[:3], "big"))
        except TimeoutError:
            return status or "ok"
        except asyncio.IncompleteReadError:
            return status or "closed"
        kind, flags, number = head[3], head[4], int.from_bytes(head[5:], "big")
        if kind == GOAWAY and (code := int.from_bytes(content[4:8], "big")):
            return f"goaway {ErrorCode(code).name}"
        if kind == RST_STREAM and (code := int.from_bytes(content, "big")):
            return f"reset {ErrorCode(code).name}"
        if kind == HEADERS and number and not status:
            status = dict(decoder.decode(content))[":status"]
        if status and kind in (DATA, HEADERS, RST_STREAM) and (flags & END_STREAM or kind == RST_STREAM):
            return status
        if kind == PING and content == LAST:
            pinged = True
            if row.wanted == ("ok",):
                return "ok"


@contextlib.asynccontextmanager
async def haproxy(target: int, folder: Path) -> AsyncIterator[int]:
    port = free_port()
    (folder / "haproxy.cfg").write_text(
        "defaults\n mode http\n timeout connect 5s\n timeout client 9s\n timeout server 9s\n"
        f"frontend f\n bind 127.0.0.1:{port} proto h2\n default_backend b\nbackend b\n server s 127.0.0.1:{target}\n"
    )
    async with running(["haproxy", "-db", "-f", str(folder / "haproxy.cfg")], port):
        yield port


@contextlib.asynccontextmanager
async def nghttpx(target: int, folder: Path) -> AsyncIterator[int]:
    port = free_port()
    command = [
        "nghttpx", f"--frontend=127.0.0.1,{port};no-tls", f"--backend=127.0.0.1,{target}", "--conf=/dev/null",
        "--workers=1", "--log-level=FATAL", "--errorlog-file=/dev/null",
    ]  # fmt: skip
    async with running(command, port):
        yield port


@contextlib.asynccontextmanager
async def running(command: list[str], port: int) -> AsyncIterator[None]:
    if shutil.which(command[0]) is None:
        pytest.skip(f"{command[0]} is not installed (tools/debian.sh)")
    process = await asyncio.create_subprocess_exec(*command, stderr=asyncio.subprocess.DEVNULL)
    try:
        async with asyncio.timeout(30):
            while True:
                with contextlib.suppress(OSError):
                    (await asyncio.open_connection("127.0.0.1", port))[1].close()
                    break
                await asyncio.sleep(0.02)
        yield
    finally:
        process.terminate()
        await process.wait()


async def replica(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Reads a whole request, and answers it."""
    while head := await reader.readuntil(b"\r\n\r\n"):
        found = re.search(rb"content-length: (\d+)", head, re.IGNORECASE)
        if found:
            await reader.readexactly(int(found[1]))
        elif b"chunked" in head.lower():
            while (line := await reader.readuntil(b"\r\n")) != b"0\r\n":
                await reader.readexactly(int(line, 16) + 2)
            while await reader.readuntil(b"\r\n") != b"\r\n":
                pass
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n" + (b"" if head[:4] == b"HEAD" else b"ok"))


async def test_each_row_is_answered_as_the_standard_has_it(
    gateway: Gateway, backends: Backends, tmp_path: Path
) -> None:
    target, port = await backends.serve(replica), free_port()
    await gateway.apply(table(1, service("a", port, [endpoint("t", target)], "http")))
    assert set(DIFFERENCES) <= {row.name for row in ROWS}
    wrong = []
    async with haproxy(target, tmp_path) as beside, nghttpx(target, tmp_path) as further:
        for row in ROWS:
            differ = DIFFERENCES.get(row.name)
            for name, there in (("essaim", port), ("haproxy", beside), ("nghttpx", further)):
                other = getattr(differ, name, "")
                wanted = (other,) if other else row.wanted
                said = await answer(there, row)
                if said not in wanted:
                    wrong.append(f"{row.section} {row.name}: {name} says {said}, wanted {' or '.join(wanted)}")
    assert not wrong, "\n".join(wrong)
