"""A small constant load on every published port through every node, each request noted that did not succeed.

Clients never try again by themselves, but for datagrams, which may be lost: three are sent before the answer counts as
missing. Half of the HTTP clients keep their connections; a connection that the server announced to close is no failure.
"""

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from tests.e2e.http_load import Connection
from tests.lab.wait import DeadlinePassed, eventually_async

from .judge import Failure
from .stack import SERVED, Served

PACE = 0.35
"""Seconds between a client's requests: some 60 requests a second with four nodes and six clients each."""
PATIENCE = 10.0
DATAGRAM_PATIENCE = 2.0
PROBLEMS = (OSError, EOFError, ValueError, KeyError, asyncio.LimitOverrunError)


class Failed(ValueError):
    """An answer came, and it was not the wanted one."""


@dataclass
class Client:
    """One client of one port through one node."""

    node: str
    address: str
    served: Served
    keep: bool
    kept: Connection | None = None
    number: int = 0
    open_since: float = 0.0
    """When the request that is open began; 0 between requests."""

    async def ask(self) -> None:
        """One request. Raises one of PROBLEMS."""
        self.number += 1
        if self.served.how == "http":
            await self._http()
        elif self.served.how == "tcp":
            await self._tcp()
        else:
            await self._udp()

    async def close(self) -> None:
        kept, self.kept = self.kept, None
        if kept:
            await kept.close()

    async def _http(self) -> None:
        connection = self.kept or await Connection.open(self.address, self.served.port)
        self.kept = None
        try:
            reply = await connection.get(self.served.path, keep=self.keep)
            if reply.status != 200:
                raise Failed(f"status {reply.status}: {reply.body[:160]!r}")
            if self.keep and not reply.closes:
                self.kept = connection
        finally:
            if self.kept is None:
                await connection.close()

    async def _tcp(self) -> None:
        reader, writer = await asyncio.open_connection(self.address, self.served.port)
        try:
            line = b"%d\n" % self.number
            writer.write(line)
            if (answer := await reader.readline()) != line:
                raise Failed(f"echo of {line!r}: {answer!r}")
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def _udp(self) -> None:
        loop = asyncio.get_running_loop()
        protocol = _Answers()
        transport, _ = await loop.create_datagram_endpoint(
            lambda: protocol, remote_addr=(self.address, self.served.port)
        )
        try:
            for _ in range(3):
                transport.sendto(b"%d" % self.number)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(DATAGRAM_PATIENCE):
                        await protocol.came.wait()
                        return
            raise Failed("no answer to three datagrams")
        finally:
            transport.close()


class _Answers(asyncio.DatagramProtocol):
    def __init__(self) -> None:
        self.came = asyncio.Event()

    def datagram_received(self, data: bytes, address: object) -> None:
        self.came.set()


@dataclass
class Load:
    """Use as `async with running(addresses) as load`. `failures` in the order in which they were noticed."""

    clients: list[Client]
    answered: Counter[tuple[str, str]] = field(default_factory=Counter)
    """(node, port's name) -> good answers."""
    failures: list[Failure] = field(default_factory=list)

    async def wait_turnover(self, nodes: set[str]) -> None:
        """Until every request through these nodes that is open now has ended, and each port has answered since. Raises
        DeadlinePassed with what is missing, and why the last request to it failed."""
        asked = [client for client in self.clients if client.node in nodes]
        goal = {(c.node, c.served.name): self.answered[c.node, c.served.name] + 1 for c in asked}
        now, missing = time.monotonic(), ["every port"]

        async def over() -> bool:
            missing[:] = [self._why(*key) for key, number in goal.items() if self.answered[key] < number]
            missing.extend(f"{c.served.name} through {c.node}: open" for c in asked if 0 < c.open_since < now)
            return not missing

        try:
            await eventually_async(over, 3 * PATIENCE, "every port answers through every node")
        except DeadlinePassed as error:
            raise AssertionError(f"{error}: {'; '.join(missing)}") from None

    def _why(self, node: str, port: str) -> str:
        last = next((f for f in reversed(self.failures) if (f.node, f.port) == (node, port)), "no answer")
        return str(last)

    async def run(self, client: Client, delay: float) -> None:
        try:
            await asyncio.sleep(delay)
            while True:
                await self._one(client)
                await asyncio.sleep(PACE)
        finally:
            await client.close()

    async def _one(self, client: Client) -> None:
        began = client.open_since = time.monotonic()
        try:
            async with asyncio.timeout(PATIENCE):
                await client.ask()
        except PROBLEMS as error:
            await client.close()
            what = str(error) if isinstance(error, Failed) else f"{type(error).__name__} {error}".strip()
            kept = " (kept connection)" if client.keep and client.served.how == "http" else ""
            self.failures.append(Failure(client.node, client.served.name, began, time.monotonic(), what + kept))
        else:
            self.answered[client.node, client.served.name] += 1
        client.open_since = 0.0


@contextlib.asynccontextmanager
async def running(addresses: dict[str, str]) -> AsyncIterator[Load]:
    """Load through these nodes (name -> address) until the block ends. Raises what ended a client unexpectedly."""
    kinds = [(served, keep) for served in SERVED for keep in ((True, False) if served.name == "web" else (False,))]
    clients = [Client(name, address, served, keep) for name, address in addresses.items() for served, keep in kinds]
    load = Load(clients)
    tasks = [
        asyncio.create_task(load.run(client, PACE * number / len(clients))) for number, client in enumerate(clients)
    ]
    try:
        yield load
    finally:
        for task in tasks:
            task.cancel()
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        for outcome in outcomes:
            if isinstance(outcome, Exception):
                raise outcome
