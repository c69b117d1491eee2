"""Listeners under floods: who says nothing, says it slowly or never finishes its handshake costs the others nothing."""

import asyncio
import contextlib
import os
import resource
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import structlog
from aiohttp import web
from structlog.testing import LogCapture

from essaim.api.listen import accepting, connections, doors, tls
from essaim.api.listen.admission import Admission, Limits
from essaim.api.listen.connections import Connection, Door
from essaim.api.listen.doors import Doors, door_for, limits, share, unix_socket
from tests.api.certificates import Certificates

pytestmark = pytest.mark.blocking_allowed
BOUNDS = Limits(total=8, by_source=4)
DEADLINE = 20.0
GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Site:
    """An application behind a door of 8 places. `/wait` is answered when `go` is set."""

    def __init__(self, capture: LogCapture, **options: object) -> None:
        self.go, self.begun = asyncio.Event(), 0
        app = web.Application()
        app.add_routes([web.get("/", self._answer), web.get("/wait", self._wait), web.post("/", self._read)])
        self.doors = Doors(app, structlog.wrap_logger(None, processors=[capture]), keepalive_timeout=60.0)
        self.door: Door = door_for("the door", BOUNDS, **options)
        self.port = 0

    async def _answer(self, request: web.Request) -> web.Response:
        return web.Response(text="here")

    async def _wait(self, request: web.Request) -> web.Response:
        self.begun += 1
        await self.go.wait()
        return web.Response(text="at last")

    async def _read(self, request: web.Request) -> web.Response:
        return web.Response(body=await request.read())

    async def connect(self, source: str = "127.0.0.1", **options: object) -> Streams:
        return await asyncio.open_connection("127.0.0.1", self.port, local_addr=(source, 0), **options)  # type: ignore[arg-type]

    async def served(self, source: str = "127.0.0.1", **options: object) -> bool:
        """Whether a newcomer gets an answer."""
        async with asyncio.timeout(DEADLINE):
            reader, writer = await self.connect(source, **options)
            writer.write(GET)
            answer = await reader.readuntil(b"\r\n\r\n")
            writer.transport.abort()
            return answer.startswith(b"HTTP/1.1 200")


@pytest.fixture
def capture() -> LogCapture:
    return LogCapture()


@contextlib.asynccontextmanager
async def site_of(capture: LogCapture, **options: object) -> AsyncIterator[Site]:
    site = Site(capture, **options)
    async with site.doors:
        site.port = await site.doors.listen_tcp("127.0.0.1", 0, site.door)
        yield site


@pytest.fixture
async def site(capture: LogCapture) -> AsyncIterator[Site]:
    async with site_of(capture) as made:
        yield made


async def ended(streams: Streams) -> bool:
    """It was cut by the other side (within the deadline)."""
    with contextlib.suppress(ConnectionError):
        async with asyncio.timeout(DEADLINE):
            await streams[0].read()
    streams[1].transport.abort()
    return True


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(DEADLINE):
        while not condition():
            await asyncio.sleep(0.001)


@pytest.mark.parametrize("said", [b"", b"GET", b"GET / HTTP/1.1\r\nHost: x\r\n"])
async def test_head_that_is_not_complete_in_time_ends_the_connection(
    site: Site, monkeypatch: pytest.MonkeyPatch, said: bytes
) -> None:
    monkeypatch.setattr(connections, "HEAD_SECONDS", 0.1)
    streams = await site.connect()
    streams[1].write(said)
    assert await ended(streams)
    await until(lambda: not len(site.door.strangers))


async def test_head_that_drips_is_cut_at_the_same_time(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "HEAD_SECONDS", 0.2)
    reader, writer = await site.connect()

    async def drip() -> None:
        while True:
            writer.write(b"A: b\r\n")
            await asyncio.sleep(0.01)

    writer.write(b"GET / HTTP/1.1\r\n")
    dripping = asyncio.create_task(drip())
    assert await ended((reader, writer))
    dripping.cancel()


async def test_request_that_takes_long_is_not_cut(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "HEAD_SECONDS", 0.05)
    reader, writer = await site.connect()
    writer.write(b"GET /wait HTTP/1.1\r\nHost: x\r\n\r\n")
    await until(lambda: site.begun == 1)
    idle = await site.connect()
    assert await ended(idle)  # later than the other
    site.go.set()
    assert (await reader.readuntil(b"at last")).startswith(b"HTTP/1.1 200")
    writer.transport.abort()


@pytest.mark.parametrize("sources", [["127.0.0.1"], [f"127.0.0.{n}" for n in range(2, 42)]], ids=["one", "many"])
@pytest.mark.parametrize("said", [b"", b"GET / HTTP/1.1\r\nA: "], ids=["idle", "slow"])
async def test_flood_takes_its_own_places_and_others_are_served(site: Site, sources: list[str], said: bytes) -> None:
    flood = []
    for number in range(60):
        streams = await site.connect(sources[number % len(sources)])
        streams[1].write(said)
        flood.append(streams)
        assert len(site.door.strangers) <= BOUNDS.total
        if number % 10 == 9:
            assert await site.served()
            assert await site.served("127.0.0.200")
    assert all([await ended(streams) for streams in flood[: -BOUNDS.total]])
    for _, writer in flood:
        writer.transport.abort()


async def test_everybody_is_served_newcomers_are_told_so_once_in_the_log(site: Site, capture: LogCapture) -> None:
    busy = [await site.connect(f"127.0.0.{n + 2}") for n in range(BOUNDS.total)]
    for _, writer in busy:
        writer.write(b"GET /wait HTTP/1.1\r\nHost: x\r\n\r\n")
    await until(lambda: site.begun == BOUNDS.total)
    for _ in range(3):
        reader, writer = await site.connect()
        assert (await reader.read()).startswith(b"HTTP/1.1 503")
        writer.transport.abort()
    assert [line["event"] for line in capture.entries] == ["too many connections; more are refused"]
    site.go.set()
    for reader, writer in busy:
        await reader.readuntil(b"at last")
        writer.transport.abort()
    assert await site.served()


async def test_no_descriptors_left_listener_goes_on_when_there_are_again(
    site: Site, capture: LogCapture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(accepting, "PAUSE", 0.01)
    idle = [await site.connect() for _ in range(3)]
    await until(lambda: len(site.door.strangers) == 3)
    clients = [socket.socket() for _ in range(4)]  # they have their descriptors already
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.ExitStack() as held:
        resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")) + 40, hard))
        held.callback(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        with contextlib.suppress(OSError):
            while True:
                held.callback(os.close, os.dup(0))
        for client in clients:
            client.connect(("127.0.0.1", site.port))
            client.sendall(GET)
        for streams in idle:
            assert await ended(streams)  # they gave their descriptors back
        assert await asyncio.to_thread(clients[0].recv, 15) == b"HTTP/1.1 200 OK"
    for client in clients:
        assert await asyncio.to_thread(client.recv, 8) in (b"HTTP/1.1", b"\r\nConten")
        client.close()
    said = [line["event"] for line in capture.entries]
    assert said == ["no descriptors left: connections are put off"]


async def test_nonsense_is_a_line_a_minute_in_the_log_without_traces(site: Site, capture: LogCapture) -> None:
    for _ in range(5):
        streams = await site.connect()
        streams[1].write(b"CONNECT /x HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\nx")
        assert await ended(streams)
    assert len(capture.entries) <= 1
    assert all("Traceback" not in str(line) and "\n" not in str(line) for line in capture.entries)


async def test_unix_socket_counts_by_process(tmp_path: Path, capture: LogCapture) -> None:
    site = Site(capture)
    async with site.doors:
        site.doors.listen(unix_socket(tmp_path / "a.sock"), site.door)
        flood = [await asyncio.open_unix_connection(str(tmp_path / "a.sock")) for _ in range(20)]
        await until(lambda: len(site.door.strangers) == BOUNDS.by_source)
        reader, writer = await asyncio.open_unix_connection(str(tmp_path / "a.sock"))
        writer.write(GET)
        assert (await reader.readuntil(b"\r\n")).startswith(b"HTTP/1.1 200")
        for _, one in [*flood, (reader, writer)]:
            one.transport.abort()


# -- with TLS, where a certificate makes a connection a node's ---------------------------------------------------------


def contexts(folder: Path) -> tuple[ssl.SSLContext, ssl.SSLContext, ssl.SSLContext]:
    """Of a server that takes clients without a certificate too, of such a client, of one that has one."""
    files = Certificates(folder)
    server = tls.server_context(files.server, files.server_key, files.ca)
    server.verify_mode = ssl.CERT_OPTIONAL
    stranger, node = (ssl.create_default_context(cafile=files.ca) for _ in range(2))
    node.load_cert_chain(files.client, files.client_key)
    return server, stranger, node


def proof(transport: asyncio.BaseTransport) -> str:
    return "node" if transport.get_extra_info("peercert") else ""


@pytest.mark.parametrize("how", ["idle", "half", "shaken hands", "slow body"])
async def test_strangers_never_crowd_out_nodes(tmp_path: Path, capture: LogCapture, how: str) -> None:
    server, stranger, node = contexts(tmp_path)
    known = Admission[Connection](Limits(4, 4))
    async with site_of(capture, context=server, proof=proof, known=known) as site:
        nodes = [await site.connect(ssl=node) for _ in range(2)]
        nodes[0][1].write(b"GET /wait HTTP/1.1\r\nHost: x\r\n\r\n")
        await until(lambda: site.begun == 1)
        flood = []
        for number in range(40):
            options = {} if how in ("idle", "half") else {"ssl": stranger}
            try:
                streams = await site.connect(f"127.0.0.{number + 2}", **options)
            except ConnectionError:
                continue  # put out while it shook hands
            if how == "half":
                streams[1].write(bytes.fromhex("1603010200010001fc0303"))
            elif how == "slow body":
                streams[1].write(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
            flood.append(streams)
            assert len(site.door.strangers) <= BOUNDS.total
        assert len(known) == 2
        assert await site.served(ssl=node)
        assert await site.served(ssl=stranger)
        site.go.set()
        assert await nodes[0][0].readuntil(b"at last")
        for _, writer in [*flood, *nodes]:
            writer.transport.abort()


async def test_stranger_gets_one_request_and_no_time_for_its_body(
    tmp_path: Path, capture: LogCapture, monkeypatch: pytest.MonkeyPatch
) -> None:
    server, stranger, _ = contexts(tmp_path)
    monkeypatch.setattr(doors, "BODY_SECONDS", 0.1)
    async with site_of(capture, context=server, proof=proof) as site:
        one = await site.connect(ssl=stranger)
        one[1].write(GET + GET)
        answer = await one[0].read()
        assert answer.count(b"HTTP/1.1 200") == 1
        one[1].transport.abort()
        slow = await site.connect(ssl=stranger)
        slow[1].write(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
        assert await ended(slow)


async def test_handshake_that_does_not_end_is_cut(
    tmp_path: Path, capture: LogCapture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doors, "HANDSHAKE_SECONDS", 0.1)
    server, _, _ = contexts(tmp_path)
    async with site_of(capture, context=server) as site:
        for said in (b"", b"\x16\x03\x01\x02\x00\x01"):
            streams = await site.connect()
            streams[1].write(said)
            assert await ended(streams)
        await until(lambda: not len(site.door.strangers))
        assert not capture.entries


def test_shares_leave_half_of_the_descriptors() -> None:
    for descriptors in (256, 1024, 65_536, 1_048_576):
        assert 4 * share(descriptors) <= descriptors / 2
        assert limits(descriptors).by_source <= limits(descriptors).total
