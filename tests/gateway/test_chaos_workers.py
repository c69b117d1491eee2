"""Workers killed, replicas killed and routes changed at once, under load: no retryable request fails.

A killed worker takes its connections with it, which nobody can hide: what counts is that the same request on a new
connection is served, as RFC 9110 (9.2.2) has clients do for idempotent methods.
"""

import asyncio
import os
import signal

from essaim.gateway.control.supervisor import Gateway
from tests.ports import free_port

from .conftest import endpoint, http_get, service, table, until
from .test_chaos import Load, Replicas

ROUNDS = 4


class PatientLoad(Load):
    """Asks again, once, when a connection breaks; only a second failure counts. `broken`: first ones."""

    broken = 0

    async def _kept(self) -> None:
        connection = await self._connect()
        while not self._end:
            try:
                status, connection = await self._ask(*connection)
            except (OSError, EOFError):
                self.broken += 1
                connection[1].close()
                connection = await self._connect()
                try:
                    status, connection = await self._ask(*connection)
                except (OSError, EOFError) as error:
                    status = repr(error)
                    connection = await self._connect()
            self.answers[status] += 1
        connection[1].close()

    async def _new(self) -> None:
        while not self._end:
            try:
                status, _ = await http_get(self._port)
            except (OSError, IndexError):
                self.broken += 1
                try:
                    status, _ = await http_get(self._port)
                except (OSError, IndexError) as error:
                    self.answers[repr(error)] += 1
                    continue
            self.answers[str(status)] += 1

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self._port)

    async def _ask(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> tuple[str, tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        """The status, and the connection for the next request."""
        writer.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        await reader.readexactly(int(head.split(b"content-length: ")[1].split(b"\r\n")[0]))
        if b"\r\nconnection: close\r\n" in head:
            writer.close()
            reader, writer = await self._connect()
        return head[9:12].decode(), (reader, writer)


async def pids(gateway: Gateway) -> list[int]:
    return [worker["pid"] for worker in (await gateway.status())["workers"]]


async def test_workers_and_replicas_killed_while_routes_change_fail_no_retryable_request(gateway: Gateway) -> None:
    replicas, port, version = Replicas(), free_port(), 1
    live = {name: await replicas.start(name) for name in ("a", "b", "c")}
    await gateway.apply(table(version, service("web", port, [endpoint(*one) for one in live.items()], "http")))
    async with PatientLoad(port) as load:
        for number in range(ROUNDS):
            seen = load.total
            await until(lambda seen=seen: load.total > seen + 100)  # type: ignore[misc]
            victim = (await pids(gateway))[number % 2]
            os.kill(victim, signal.SIGKILL)
            # A replica crashes before anybody takes it out of the table, and another comes.
            gone = sorted(live)[0]
            replicas.stop(gone)
            live.pop(gone)
            live[f"new{number}"] = await replicas.start(f"new{number}")
            version += 1
            others = [service(f"other{number}", free_port(), [])]
            web = service("web", port, [endpoint(*one) for one in sorted(live.items())], "http")
            await gateway.apply(table(version, web, *others))
            async with asyncio.timeout(20):
                while len(now := await pids(gateway)) < 2 or victim in now:
                    await asyncio.sleep(0.01)
        seen = load.total
        await until(lambda: load.total > seen + 100)
    replicas.stop_all()
    assert set(load.answers) == {"200"}, dict(load.answers)
    assert load.broken, "no connection was cut: the workers were killed without effect"
