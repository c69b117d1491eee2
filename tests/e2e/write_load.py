"""A constant load of writes and reads on all managers of a lab's cluster, with every answer entered in a `History`.

Half of the writers keep to one manager each, so that those of healthy managers go on whatever hangs; the others
choose by chance for each write. One reader a manager reads all the time.
"""

import asyncio
import base64
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any

import aiohttp

from essaim.api.client import ApiError, Client, Unreachable, encode_filters
from tests.lab.cluster import Cluster
from tests.lab.host import Host
from tests.lab.wait import eventually_async

from .history import History, Violation

WRITERS = 8
PACE = 0.02
"""Seconds between a writer's writes: a constant load of some hundred a second, not the most that the machine bears."""
READ_PACE = 0.1
PATIENCE = 3.0
"""Seconds until a client gives up on an answer. The manager may still do what it was asked."""
DATA = base64.b64encode(b"x").decode()
NOTHING_DONE = "The swarm does not have a leader"
ANSWER_LOST = "the answer to this change was lost on the way"


@dataclass
class Load:
    """Use as `async with running(...) as load`. `prefix` tells its secrets from those of other loads."""

    cluster: Cluster
    prefix: str
    history: History = field(default_factory=History)
    failures: list[BaseException] = field(default_factory=list)
    errors: Counter[str] = field(default_factory=Counter)
    _tasks: list[asyncio.Task[None]] = field(default_factory=list)
    _number: int = 0

    def start(self) -> None:
        hosts = self.cluster.lab.hosts
        for number in range(WRITERS):
            chance = Random(f"{self.prefix}{number}")
            targets = [hosts[number % len(hosts)]] if number < WRITERS // 2 else hosts
            self._tasks.append(asyncio.create_task(self._write_on(targets, chance)))
        self._tasks += [asyncio.create_task(self._read_on(host)) for host in hosts]
        for task in self._tasks:
            task.add_done_callback(self._ended)

    async def stop(self) -> None:
        """Writes under way stay uncertain. Raises what a writer or reader found wrong."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self.raise_failure()

    def raise_failure(self) -> None:
        if self.failures:
            raise self.failures[0]

    async def wait_writes(self, count: int, *, deadline: float = 30.0) -> None:
        """Until so many more writes were acknowledged: the load goes on."""
        goal = len(self.history.acknowledgements) + count

        async def reached() -> bool:
            self.raise_failure()
            return len(self.history.acknowledgements) >= goal

        await eventually_async(reached, deadline, f"{count} more writes are acknowledged ({dict(self.errors)})")

    async def read(self, client: Client, host: Host) -> dict[str, Any]:
        """One checked read through a manager: name -> object."""
        expected = self.history.expect(host.name)
        client.warning = ""
        path, query = "/secrets", {"filters": encode_filters({"name": [self.prefix]})}
        found = await client.get(path, query, timeout=4 * PATIENCE)
        names = [secret["Spec"]["Name"] for secret in found]
        self.history.read(expected, names, stale=bool(client.warning))
        return dict(zip(names, found, strict=True))

    async def _write_on(self, targets: Sequence[Host], chance: Random) -> None:
        async with contextlib.AsyncExitStack() as stack:
            clients = [await stack.enter_async_context(Client(self.cluster.url(host))) for host in targets]
            while True:
                await self._write(chance.choice(clients))
                await asyncio.sleep(PACE)

    async def _write(self, client: Client) -> None:
        self._number += 1
        name = f"{self.prefix}-{self._number}"
        self.history.began(name)
        try:
            await client.post("/secrets/create", {"Name": name, "Data": DATA}, timeout=PATIENCE)
        except Unreachable as error:
            self.errors[type(error.__cause__).__name__] += 1
            if isinstance(error.__cause__, aiohttp.ClientConnectorError):  # nobody listened: nothing was sent
                self.history.refused(name)
        except ApiError as error:
            self._note_refusal(name, error)
        else:
            self.history.acknowledged(name, asyncio.get_running_loop().time())

    def _note_refusal(self, name: str, error: ApiError) -> None:
        self.errors[str(error)] += 1
        if NOTHING_DONE in str(error):
            self.history.refused(name)
        elif ANSWER_LOST not in str(error):
            raise Violation(f"the write of {name} was answered with {error.status}: {error}")

    async def _read_on(self, host: Host) -> None:
        async with Client(self.cluster.url(host)) as client:
            while True:
                with contextlib.suppress(Unreachable):
                    await self.read(client, host)
                await asyncio.sleep(READ_PACE)

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self.failures.append(error)


@contextlib.asynccontextmanager
async def running(cluster: Cluster, prefix: str) -> AsyncIterator[Load]:
    """A load on all hosts of the cluster, which must all be managers; it stops with the block."""
    load = Load(cluster, prefix)
    load.start()
    try:
        await load.wait_writes(100)
        yield load
    finally:
        await load.stop()
