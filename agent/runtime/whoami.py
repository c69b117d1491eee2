"""essaim/whoami: a small HTTP server that tells which task answered, and what it saw of the request.

`GET /` gives lines `Name: value` (Hostname, Service, Task, Node, RemoteAddr), then the request line and headers;
`/api` the same as JSON; `/health` OK. `?wait=200ms` (a duration as in labels, 300 s at most) delays the answer.
It listens on HOST and PORT (default all addresses, port 80). Standard library only: it is also the only program of a
minimal container image (see whoami_image.py). On SIGTERM it stops listening and finishes what it has.
"""

import asyncio
import contextlib
import json
import os
import re
import signal
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import parse_qs, urlsplit

HEAD_MOST = 64 * 1024
IDLE_MOST = 75.0
"""Seconds that a kept connection may be silent."""
WAIT_MOST = 300.0
FINISH_WITHIN = 5.0
# As cluster/durations.py, which cannot be imported from here; a test holds the two together.
UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
NUMBER = r"[0-9]+\.?[0-9]*|\.[0-9]+"
PART = re.compile(rf"({NUMBER})({'|'.join(UNITS)})")
REASONS = {200: "OK", 400: "Bad Request", 404: "Not Found", 405: "Method Not Allowed"}


@dataclass(slots=True)
class Request:
    line: str
    method: str
    target: str
    version: str
    headers: list[tuple[str, str]] = field(default_factory=list)

    def header(self, name: str) -> str:
        return next((value for key, value in self.headers if key.lower() == name), "")

    @property
    def keeps_alive(self) -> bool:
        wanted = self.header("connection").lower()
        return wanted != "close" and (self.version == "HTTP/1.1" or wanted == "keep-alive")


def identity(environment: Mapping[str, str]) -> list[tuple[str, str]]:
    """What the agent told the task about itself."""
    return [
        ("Hostname", socket.gethostname()),
        ("Service", environment.get("ESSAIM_SERVICE_NAME", "")),
        ("Task", environment.get("ESSAIM_TASK_NAME", "")),
        ("Node", environment.get("ESSAIM_NODE_HOSTNAME", "")),
        ("NodeID", environment.get("ESSAIM_NODE_ID", "")),
    ]


def parse_request(head: bytes) -> Request | None:
    """None for what is no HTTP/1 request."""
    first, *rest = head.decode("latin-1").split("\r\n")
    words = first.split(" ")
    if len(words) != 3 or not words[2].startswith("HTTP/1."):
        return None
    headers = []
    for line in filter(None, rest):
        name, colon, value = line.partition(":")
        if not colon:
            return None
        headers.append((name.strip(), value.strip()))
    method, target, version = words
    return Request(first, method, target, version, headers)


def seconds(text: str) -> float:
    """`200ms`, `1m30s`, `2`; WAIT_MOST at most. Raises ValueError for anything else."""
    text = text.strip(" ")
    if re.fullmatch(NUMBER, text):
        return min(float(text), WAIT_MOST)
    signless = text.removeprefix("+")
    if not signless or (PART.sub("", signless) and signless != "0"):
        raise ValueError(f"wait={text[:80]} is not a duration; write it like 200ms, 2s or 1m30s")
    return min(sum(float(number) * UNITS[unit] for number, unit in PART.findall(signless)), WAIT_MOST)


def answer(request: Request, path: str, who: list[tuple[str, str]], peer: str) -> tuple[int, str, bytes]:
    """Status, content type and body."""
    if request.method not in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"):
        return 405, "text/plain", b"this server answers GET\n"
    if path == "/health":
        return 200, "text/plain", b"OK\n"
    if path == "/api":
        told = dict(who) | {"RemoteAddr": peer, "Request": request.line, "Headers": dict(request.headers)}
        return 200, "application/json", json.dumps(told).encode() + b"\n"
    if path == "/missing":
        return 404, "text/plain", b"nothing here\n"
    lines = [f"{name}: {value}" for name, value in [*who, ("RemoteAddr", peer)]]
    lines += [request.line, *(f"{name}: {value}" for name, value in request.headers)]
    return 200, "text/plain; charset=utf-8", ("\n".join(lines) + "\n").encode()


class Whoami:
    def __init__(self, environment: Mapping[str, str]) -> None:
        self._who = identity(environment)
        self._busy: set[asyncio.Task[None]] = set()
        self._idle: set[asyncio.StreamWriter] = set()
        self._ending = False

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, request after request."""
        me = asyncio.current_task()
        assert me is not None
        self._busy.add(me)
        with contextlib.suppress(OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            try:
                while not self._ending and await self._one(reader, writer):
                    pass
            finally:
                writer.close()
                self._busy.discard(me)

    async def finish(self) -> None:
        """Close idle connections, and let the busy ones end."""
        self._ending = True
        for writer in list(self._idle):
            writer.close()
        if self._busy:
            await asyncio.wait(self._busy, timeout=FINISH_WITHIN)

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        self._idle.add(writer)
        try:
            head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), IDLE_MOST)
        finally:
            self._idle.discard(writer)
        request = parse_request(head[:-4])
        if request is None:
            writer.write(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            return False
        length = request.header("content-length")
        if length.isascii() and length.isdigit() and len(length) < 10:
            await reader.readexactly(int(length))
        target = urlsplit(request.target)
        refused = b""
        try:
            await asyncio.sleep(seconds(parse_qs(target.query).get("wait", ["0"])[0]))
        except ValueError as error:
            refused = f"{error}\n".encode(errors="replace")
        host, port, *_ = writer.get_extra_info("peername") or ("", 0)
        peer = f"[{host}]:{port}" if ":" in str(host) else f"{host}:{port}"
        status, kind, body = (
            (400, "text/plain; charset=utf-8", refused) if refused else answer(request, target.path, self._who, peer)
        )
        keeps = request.keeps_alive and not self._ending and not request.header("transfer-encoding")
        writer.write(
            f"HTTP/1.1 {status} {REASONS[status]}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n"
            f"Connection: {'keep-alive' if keeps else 'close'}\r\n\r\n".encode()
            + (b"" if request.method == "HEAD" else body)
        )
        await writer.drain()
        return keeps


async def main(environment: Mapping[str, str]) -> None:
    host, port = environment.get("HOST") or None, int(environment.get("PORT") or 80)
    whoami = Whoami(environment)
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    server = await asyncio.start_server(whoami.serve, host, port, limit=HEAD_MOST, backlog=1024)
    print(f"whoami listens on {host or '*'}:{port}", flush=True)  # noqa: T201 (this is a program, and this its log)
    await stopping.wait()
    server.close()
    await whoami.finish()


if __name__ == "__main__":
    asyncio.run(main(os.environ))
