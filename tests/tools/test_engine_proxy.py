"""The fault-injection proxy: what the Engine behind it sees, and what the client is answered."""

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from tests.lab.wait import eventually_async
from tools.engine_faults import Rule, plain_path
from tools.engine_proxy import EngineProxy
from tools.engine_proxy_process import ProxyProcess

pytestmark = pytest.mark.blocking_allowed
STOP = "/v1.41/containers/x/stop"


class Engine:
    """Counts stops, echoes bodies, streams lines until its client goes away."""

    def __init__(self, socket: Path) -> None:
        self.socket = socket
        self.stops = 0
        self.streaming = 0
        app = web.Application()
        app.router.add_post(STOP, self.stop)
        app.router.add_post("/echo", self.echo)
        app.router.add_get("/v1.41/events", self.events)
        self.runner = web.AppRunner(app, shutdown_timeout=0.1)

    async def start(self) -> None:
        await self.runner.setup()
        await web.UnixSite(self.runner, str(self.socket)).start()

    async def stop(self, request: web.Request) -> web.Response:
        self.stops += 1
        return web.Response(status=204)

    async def echo(self, request: web.Request) -> web.Response:
        return web.Response(body=await request.read())

    async def events(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        self.streaming += 1
        try:
            while True:
                await response.write(b'{"Action":"start"}\n')
                await asyncio.sleep(0.01)
        finally:
            self.streaming -= 1


@pytest.fixture
async def engine(tmp_path: Path) -> AsyncIterator[Engine]:
    engine = Engine(tmp_path / "engine.sock")
    await engine.start()
    yield engine
    await engine.runner.cleanup()


@pytest.fixture
async def proxy(engine: Engine, tmp_path: Path) -> AsyncIterator[EngineProxy]:
    async with EngineProxy(engine.socket, tmp_path / "faulty.sock") as proxy:
        yield proxy


@pytest.fixture
async def client(proxy: EngineProxy) -> AsyncIterator[aiohttp.ClientSession]:
    connector = aiohttp.UnixConnector(str(proxy.listen))
    async with aiohttp.ClientSession("http://docker", connector=connector) as client:
        yield client


async def outcome(client: aiohttp.ClientSession, within: float = 5.0) -> str:
    """Of a stop, as its caller sees it."""
    try:
        async with asyncio.timeout(within), client.post(STOP) as response:
            text = await response.text()
            return f"{response.status} {text}".strip()
    except TimeoutError:
        return "silence"
    except aiohttp.ClientConnectionError:
        return "broken"


async def test_proxy_without_rules_passes_calls_on_one_after_the_other(
    engine: Engine, proxy: EngineProxy, client: aiohttp.ClientSession
) -> None:
    for size in (0, 1, 900_000):
        async with client.post("/echo", data=b"x" * size) as response:
            assert len(await response.read()) == size
    assert await outcome(client) == "204"
    chunks = chunked([b"ab", b"c" * 70_000])
    async with client.post("/echo", data=chunks) as response:
        assert await response.read() == b"ab" + b"c" * 70_000
    assert proxy.plan.count("POST", "/echo") == 4
    assert [(call.path, call.met, call.status) for call in proxy.plan.calls[3:4]] == [("/containers/x/stop", "", 204)]


async def chunked(parts: list[bytes]) -> AsyncIterator[bytes]:
    for part in parts:
        yield part


@pytest.mark.parametrize(
    ("rule", "seen", "acted"),
    [
        (Rule("refuse", status=500, message="permission denied"), '500 {"message": "permission denied"}', 0),
        (Rule("refuse-after", status=500, message="oh"), '500 {"message": "oh"}', 1),
        (Rule("drop"), "broken", 0),
        (Rule("drop-after"), "broken", 1),
        (Rule("hang"), "silence", 0),
        (Rule("hang-after"), "silence", 1),
        (Rule("delay", seconds=60.0), "silence", 0),
        (Rule("delay-answer", seconds=60.0), "silence", 1),
        (Rule("delay", seconds=0.01), "204", 1),
        (Rule("delay-answer", seconds=0.01), "204", 1),
        (Rule("refuse", method="GET"), "204", 1),
        (Rule("refuse", path="/containers/y/stop"), "204", 1),
        (Rule("refuse", path="/containers/x"), "204", 1),
    ],
)
async def test_rule_decides_whether_the_engine_acts_and_what_the_caller_hears(
    engine: Engine, proxy: EngineProxy, client: aiohttp.ClientSession, rule: Rule, seen: str, acted: int
) -> None:
    proxy.rules(rule)
    assert await outcome(client, within=0.3) == seen
    assert engine.stops == acted


async def test_rule_of_some_calls_lets_those_before_and_after_pass(
    engine: Engine, proxy: EngineProxy, client: aiohttp.ClientSession
) -> None:
    proxy.rules(Rule("refuse", path="/containers/.*/stop", skip=1, times=2), Rule("refuse", path="/nothing"))
    statuses = [(await outcome(client))[:3] for _ in range(5)]
    assert statuses == ["204", "500", "500", "204", "204"]
    assert engine.stops == 3
    assert [call.met for call in proxy.plan.calls] == ["", "refuse", "refuse", "", ""]


async def test_call_that_hangs_ends_when_its_rule_is_taken_away(
    engine: Engine, proxy: EngineProxy, client: aiohttp.ClientSession
) -> None:
    proxy.rules(Rule("hang-after"))
    waiting = asyncio.create_task(outcome(client, within=30))
    await eventually_async(lambda: is_true(engine.stops == 1), 10, "the Engine acted")
    proxy.rules()
    assert await waiting == "broken"
    assert await outcome(client) == "204"


async def is_true(value: bool) -> bool:
    return value


async def test_stream_passes_as_it_comes_and_ends_at_the_engine_with_its_client(
    engine: Engine, proxy: EngineProxy, client: aiohttp.ClientSession
) -> None:
    async with client.get("/v1.41/events") as response:
        assert await response.content.readline() == b'{"Action":"start"}\n'
        assert engine.streaming == 1
        response.close()
    await eventually_async(lambda: is_true(engine.streaming == 0), 10, "the Engine's stream ends")


async def test_stream_is_cut_after_the_bytes_that_its_rule_says(
    engine: Engine, proxy: EngineProxy, client: aiohttp.ClientSession
) -> None:
    line = b'{"Action":"start"}\n'
    proxy.rules(Rule("cut", path="/events", bytes=6 + len(line) + 8))
    async with client.get("/v1.41/events") as response:
        assert await response.content.readline() == line
        with pytest.raises(aiohttp.ClientPayloadError):
            await response.content.read()


async def test_muted_stream_opens_and_stays_silent(
    engine: Engine, proxy: EngineProxy, client: aiohttp.ClientSession
) -> None:
    proxy.rules(Rule("mute", path="/events"))
    async with client.get("/v1.41/events") as response:
        assert response.status == 200
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await response.content.readline()


async def test_hijacked_connection_passes_both_ways_with_half_closes(tmp_path: Path) -> None:
    received: list[bytes] = []

    async def attach(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        assert b"POST /exec/1/start" in head
        body = await reader.readexactly(2)
        writer.write(b"HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\nready:" + body)
        received.append(await reader.read())
        writer.write(b"bye")
        writer.close()

    server = await asyncio.start_unix_server(attach, str(tmp_path / "engine.sock"))
    async with server, EngineProxy(tmp_path / "engine.sock", tmp_path / "faulty.sock") as proxy:
        reader, writer = await asyncio.open_unix_connection(str(proxy.listen))
        writer.write(
            b"POST /exec/1/start HTTP/1.1\r\nUpgrade: tcp\r\nConnection: Upgrade\r\nContent-Length: 2\r\n\r\n{}"
        )
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101")
        assert await reader.readexactly(8) == b"ready:{}"
        writer.write(b"typed")
        writer.write_eof()
        assert await reader.read() == b"bye"
        assert received == [b"typed"]
        writer.close()


async def test_closed_gate_refuses_connections_and_a_deaf_one_takes_them_in_silence(
    engine: Engine, proxy: EngineProxy, client: aiohttp.ClientSession
) -> None:
    await proxy.set_gate("closed")
    assert await outcome(client) == "broken"
    await proxy.set_gate("deaf")
    assert await outcome(client, within=0.2) == "silence"
    await proxy.set_gate("open")
    assert await outcome(client) == "204"
    # As with a real Engine that was stuck: what came meanwhile is carried out, though its caller is gone.
    await eventually_async(lambda: is_true(engine.stops == 2), 10, "both stops")


async def test_engine_that_is_away_breaks_the_call(
    engine: Engine, proxy: EngineProxy, client: aiohttp.ClientSession
) -> None:
    await engine.runner.cleanup()
    assert await outcome(client) == "broken"


async def test_proxy_process_takes_orders_and_tells_what_came(engine: Engine, tmp_path: Path) -> None:
    with await asyncio.to_thread(ProxyProcess, engine.socket, tmp_path / "other.sock") as proxy:
        connector = aiohttp.UnixConnector(str(proxy.listen))
        async with aiohttp.ClientSession("http://docker", connector=connector) as client:
            await in_thread(lambda: proxy.rules(Rule("refuse", status=409, message="no", times=1)))
            assert await outcome(client) == '409 {"message": "no"}'
            assert await outcome(client) == "204"
            assert [c.status for c in await asyncio.to_thread(proxy.calls, forget=True)] == [409, 204]
            assert await asyncio.to_thread(proxy.count, "POST") == 0
            with pytest.raises(ValueError, match="unknown action"):
                await asyncio.to_thread(proxy.ask, {"rules": [{"action": "explode"}]})
            with pytest.raises(ValueError, match="unknown gate"):
                await asyncio.to_thread(proxy.set_gate, "ajar")


async def in_thread(work: Callable[[], None]) -> None:
    await asyncio.to_thread(work)


@pytest.mark.parametrize(
    ("target", "path"),
    [
        ("/v1.41/containers/x/stop?t=3", "/containers/x/stop"),
        ("/_ping", "/_ping"),
        ("/v1.41/images/reg:5000/a/json", "/images/reg:5000/a/json"),
        ("/volumes/v1.2/x", "/volumes/v1.2/x"),
    ],
)
def test_plain_path_leaves_version_and_query_out(target: str, path: str) -> None:
    assert plain_path(target) == path
