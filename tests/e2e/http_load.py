"""A constant load of HTTP requests through the gateways of several hosts, that takes no failure lightly.

For each host one client keeps its connection and one makes a new one for each request. Unlike a common client library
it never tries again by itself: a connection that ends before the whole answer is there is a failure. One that the
server announced to close (`Connection: close`) is not.
"""

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from tests.lab.wait import eventually_async

PACE = 0.05
"""Seconds between a client's requests."""
PATIENCE = 10.0
"""Seconds that an answer may take."""


@dataclass(slots=True)
class Reply:
    status: int
    closes: bool
    body: bytes


class Connection:
    """One client connection. Raises OSError, EOFError, ValueError for what is no whole HTTP answer."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def open(cls, address: str, port: int) -> "Connection":
        return cls(*await asyncio.open_connection(address, port))

    async def close(self) -> None:
        self._writer.close()
        with contextlib.suppress(OSError):
            await self._writer.wait_closed()

    async def get(self, path: str, *, keep: bool) -> Reply:
        connection = "keep-alive" if keep else "close"
        self._writer.write(f"GET {path} HTTP/1.1\r\nHost: web\r\nConnection: {connection}\r\n\r\n".encode())
        first, *lines = (await self._reader.readuntil(b"\r\n\r\n")).decode().lower().split("\r\n")
        headers = {name: value.strip() for name, _, value in (line.partition(":") for line in lines if line)}
        body = await self._reader.readexactly(int(headers["content-length"]))
        return Reply(int(first.split()[1]), headers.get("connection") == "close", body)


@dataclass
class HttpLoad:
    """Use as `async with HttpLoad(addresses, port).running() as load`."""

    addresses: dict[str, str]
    """Host name -> IP address of its gateway."""
    port: int
    path: str = "/?wait=100ms"
    """Slow enough that a replica always has open requests when it is told to stop."""
    answered: Counter[str] = field(default_factory=Counter)
    """Host name -> requests answered whole with status 200."""
    failures: list[str] = field(default_factory=list)
    slowest: float = 0.0
    """Seconds that the slowest answer took."""
    _asking: dict[tuple[str, bool], object] = field(default_factory=dict)
    """Client -> the request that it waits for."""

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator["HttpLoad"]:
        clients = [
            asyncio.create_task(self._client(host, keep=keep)) for host in self.addresses for keep in (True, False)
        ]
        try:
            yield self
        finally:
            for client in clients:
                client.cancel()
            for outcome in await asyncio.gather(*clients, return_exceptions=True):
                if isinstance(outcome, Exception):
                    raise outcome

    async def wait_answers(self, count: int, *, deadline: float = 30.0) -> None:
        """Until each host has answered so many more: the present state was seen by all."""
        goal = {host: self.answered[host] + count for host in self.addresses}

        async def reached() -> bool:
            return all(self.answered[name] >= number for name, number in goal.items())

        await eventually_async(reached, deadline, f"each gateway answers {count} more requests")

    async def wait_turnover(self) -> None:
        """Until no request is open that is open now: it was answered, or is among the failures."""
        open_now = dict(self._asking)

        async def over() -> bool:
            return all(self._asking.get(client) is not request for client, request in open_now.items())

        await eventually_async(over, PATIENCE + 5, "every open request has ended")

    async def _client(self, host: str, *, keep: bool) -> None:
        kept: Connection | None = None
        try:
            while True:
                self._asking[host, keep] = object()
                began = time.monotonic()
                try:
                    async with asyncio.timeout(PATIENCE):
                        kept = await self._request(host, kept, keep=keep)
                except (OSError, EOFError, ValueError, KeyError, asyncio.LimitOverrunError) as error:
                    kept = None
                    self.failures.append(f"{host} keep={keep}: {error!r}")
                self.slowest = max(self.slowest, time.monotonic() - began)
                await asyncio.sleep(PACE)
        finally:
            if kept:
                await kept.close()

    async def _request(self, host: str, kept: Connection | None, *, keep: bool) -> Connection | None:
        """One request; the connection if it can serve the next one, else it is closed."""
        connection = kept or await Connection.open(self.addresses[host], self.port)
        kept = None
        try:
            reply = await connection.get(self.path, keep=keep)
            if reply.status == 200:
                self.answered[host] += 1
                kept = connection if keep and not reply.closes else None
            else:
                self.failures.append(f"{host} keep={keep}: status {reply.status}: {reply.body[:200]!r}")
        finally:
            if connection is not kept:
                await connection.close()
        return kept
