"""One active check of one endpoint: a TCP connection, or an HTTP request on one.

The HTTP check speaks just enough HTTP/1.1 to ask once and read a status and the first part of a body. aiohttp's client
was weighed and left out: a check would cost ten times the CPU, in the daemon that also holds Raft's heartbeats.
"""

import asyncio
import contextlib

from essaim.gateway.protocol.options import HealthOptions
from essaim.gateway.runtime.reasons import explain

MAX_ANSWER = 64 << 10


async def check(options: HealthOptions, address: str, port: int) -> str | None:
    """Check once; None when it passed, else the reason. Never raises, except when cancelled."""
    port = options.port or port
    try:
        async with asyncio.timeout(options.timeout):
            reader, writer = await asyncio.open_connection(address, port, limit=MAX_ANSWER)
            try:
                return await _ask(options, reader, writer, address, port) if options.kind == "http" else None
            finally:
                writer.close()
                with contextlib.suppress(OSError):
                    await writer.wait_closed()
    except TimeoutError:
        return f"no answer within {options.timeout:g} s"
    except OSError as error:
        return explain(error)
    except (ValueError, OverflowError) as error:
        return f"it cannot be checked so: {error}"


async def _ask(
    options: HealthOptions, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, address: str, port: int
) -> str | None:
    named = f"[{address}]" if ":" in address else address
    headers = {"Host": options.host or f"{named}:{port}", "User-Agent": "essaim-healthcheck", "Connection": "close"}
    lines = [f"{options.method} {options.path or '/'} HTTP/1.1"]
    lines += [f"{name}: {value}" for name, value in (headers | options.headers).items()]
    writer.write(("\r\n".join(lines) + "\r\n\r\n").encode())
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except (asyncio.IncompleteReadError, asyncio.LimitOverrunError):
        return "the answer is not HTTP"
    words = head.split(b" ", 2)
    if not words[0].startswith(b"HTTP/1.") or len(words) < 2 or not words[1][:3].isdigit():
        return "the answer is not HTTP"
    status = int(words[1][:3])
    low, high = options.status
    if not low <= status <= high:
        return f"status {status}, expected {low}" + (f"-{high}" if high != low else "")
    if options.body and not await _contains(reader, options.body.encode()):
        return "the answer's body does not contain what is expected"
    return None


async def _contains(reader: asyncio.StreamReader, wanted: bytes) -> bool:
    """Whether the first part of a body has the text, in however many pieces it comes."""
    seen = b""
    while wanted not in seen and len(seen) < MAX_ANSWER:
        piece = await reader.read(MAX_ANSWER - len(seen))
        if not piece:
            return False
        seen += piece
    return wanted in seen
