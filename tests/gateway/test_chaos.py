"""Traffic goes on while everything behind it changes: the number of failed requests is 0."""

import asyncio
import contextlib
from collections import Counter
from pathlib import Path

from essaim.gateway.control.supervisor import Gateway
from tests.ports import free_port

from .conftest import Backends, endpoint, http_get, service, table, until

REQUEST = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


class Load:
    """Clients that ask on and on, on kept-alive connections and on new ones, and what they were told."""

    def __init__(self, port: int) -> None:
        self.answers: Counter[str] = Counter()
        self._port = port
        self._tasks: list[asyncio.Task[None]] = []
        self._end = False

    async def __aenter__(self) -> "Load":
        self._tasks = [asyncio.create_task(work()) for work in (self._kept, self._kept, self._kept, self._new)]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._end = True
        async with asyncio.timeout(30):
            await asyncio.gather(*self._tasks)

    @property
    def total(self) -> int:
        return sum(self.answers.values())

    async def _kept(self) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        while not self._end:
            writer.write(REQUEST)
            try:
                head = (await reader.readuntil(b"\r\n\r\n")).lower()
                length = int(head.split(b"content-length: ")[1].split(b"\r\n")[0])
                await reader.readexactly(length)
                self.answers[head[9:12].decode()] += 1
                if b"\r\nconnection: close\r\n" in head:
                    writer.close()
                    reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
            except (OSError, EOFError) as error:
                self.answers[repr(error)] += 1
                writer.close()
                reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        writer.close()

    async def _new(self) -> None:
        while not self._end:
            try:
                status, _ = await http_get(self._port)
                self.answers[str(status)] += 1
            except (OSError, IndexError) as error:
                self.answers[repr(error)] += 1


class Replicas:
    """Replicas that can be stopped as an agent does it (after the drain) or crash (at once, open connections reset)."""

    def __init__(self) -> None:
        self._servers: dict[str, asyncio.Server] = {}
        self._writers: dict[str, set[asyncio.StreamWriter]] = {}

    async def start(self, name: str) -> int:
        async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            self._writers.setdefault(name, set()).add(writer)
            with contextlib.suppress(OSError, EOFError):
                while True:
                    await reader.readuntil(b"\r\n\r\n")
                    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(name), name.encode()))
            self._writers[name].discard(writer)
            writer.close()

        server = self._servers[name] = await asyncio.start_server(handler, "127.0.0.1", 0)
        return int(server.sockets[0].getsockname()[1])

    def stop(self, name: str) -> None:
        self._servers.pop(name).close()
        for writer in list(self._writers.pop(name, ())):
            writer.transport.abort()

    def stop_all(self) -> None:
        for name in list(self._servers):
            self.stop(name)


async def test_rolling_update_under_load_fails_no_request(gateway: Gateway) -> None:
    replicas, port, version = Replicas(), free_port(), 1
    current = {f"old{number}": await replicas.start(f"old{number}") for number in range(3)}
    await gateway.apply(table(version, service("web", port, [endpoint(*one) for one in current.items()], "http")))
    async with Load(port) as load:
        for number in range(3):
            old, new = f"old{number}", f"new{number}"
            old_port = current.pop(old)
            current[new] = await replicas.start(new)
            live = [endpoint(*one) for one in sorted(current.items())]
            leaving = endpoint(old, old_port, state="draining")
            version += 1
            await gateway.apply(table(version, service("web", port, [*live, leaving], "http")))
            await until(lambda name=old: gateway.open_requests().get(name, 0) == 0)  # type: ignore[misc]
            replicas.stop(old)
            version += 1
            await gateway.apply(table(version, service("web", port, live, "http")))
            seen = load.total
            await until(lambda seen=seen: load.total > seen + 50)  # type: ignore[misc]
    replicas.stop_all()
    assert set(load.answers) == {"200"}


async def test_crash_of_a_replica_under_load_fails_no_idempotent_request(gateway: Gateway) -> None:
    replicas, port = Replicas(), free_port()
    ports = {name: await replicas.start(name) for name in ("a", "b", "c")}
    await gateway.apply(table(1, service("web", port, [endpoint(*one) for one in ports.items()], "http")))
    async with Load(port) as load:
        await until(lambda: load.total > 100)
        replicas.stop("b")
        await until(lambda: load.total > 600)
    replicas.stop_all()
    assert set(load.answers) == {"200"}


async def test_service_without_replica_for_a_moment_keeps_requests_waiting(gateway: Gateway) -> None:
    replicas, port = Replicas(), free_port()
    first = await replicas.start("a")
    await gateway.apply(table(1, service("web", port, [endpoint("a", first)], "http")))
    async with Load(port) as load:
        await until(lambda: load.total > 50)
        await gateway.apply(table(2, service("web", port, [], "http")))
        replicas.stop("a")
        before = load.total
        second = await replicas.start("b")
        await gateway.apply(table(3, service("web", port, [endpoint("b", second)], "http")))
        await until(lambda: load.total > before + 50)
    replicas.stop_all()
    assert set(load.answers) == {"200"}


async def test_restart_of_the_daemon_under_load_fails_no_request(tmp_path: Path, backends: Backends) -> None:
    port, replica = free_port(), await backends.web("t")
    routes = table(1, service("web", port, [endpoint("t", replica)], "http"))
    first = Gateway(mesh_addr="127.0.0.1", state_dir=tmp_path, node_id="n1", workers=2, linger=60.0)
    await first.start()
    await first.apply(routes)
    async with Load(port) as load:
        await until(lambda: load.total > 50)
        await first.stop(leave_workers=True)
        before = load.total
        await until(lambda: load.total > before + 50)
        second = Gateway(mesh_addr="127.0.0.1", state_dir=tmp_path, node_id="n1", workers=2)
        await second.start()
        await second.apply(routes)
        after = load.total
        await until(lambda: load.total > after + 50)
    await second.stop(grace=0.5)
    assert set(load.answers) == {"200"}
