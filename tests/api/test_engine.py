"""Pass-through against an Engine of a few lines: what it sees, what the client sees, and who waits for whom."""

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable

import aiohttp
import pytest

from essaim.api.events import engine_events
from essaim.cluster.errors import Unavailable
from essaim.cluster.wire import LogChunk, LogRequest
from essaim.gateway.codec.hop_by_hop import HOP_BY_HOP
from tests.api.conftest import Served

DEADLINE = 20.0
MEGABYTE = 1 << 20
Respond = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
NO = b'{"message":"no"}'
PING = b"HTTP/1.1 200 OK\r\nApi-Version: 1.41\r\nContent-Length: 2\r\n\r\nOK"


class FakeEngine:
    """Answers /_ping by itself and everything else by `respond`. `heads` are the requests' heads as they came."""

    def __init__(self) -> None:
        self.heads: list[str] = []
        self.respond: Respond = self.answer(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
        self.ended = asyncio.Event()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            if "/_ping" in head:
                writer.write(PING)
            else:
                self.heads.append(head)
                await self.respond(reader, writer)
            await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            self.ended.set()
            writer.close()

    @staticmethod
    def answer(data: bytes) -> Respond:
        async def respond(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(data)

        return respond


@pytest.fixture
async def engine(outside: Served) -> AsyncIterator[FakeEngine]:
    fake = FakeEngine()
    path = outside.socket.parent / "engine.sock"
    async with await asyncio.start_unix_server(fake.serve, str(path)):
        outside.node.engine_url = f"unix://{path}"
        yield fake


@pytest.fixture(autouse=True)
async def _deadline() -> AsyncIterator[None]:
    async with asyncio.timeout(DEADLINE):
        yield


async def raw(served: Served, data: bytes) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_unix_connection(str(served.socket))
    writer.write(data)
    return reader, writer


async def test_newer_client_is_lowered_to_the_engines_version(outside: Served, engine: FakeEngine) -> None:
    await outside.call("GET", "/v1.50/containers/json?all=1&filters=%7B%22a%22%3A%5B%22%C3%A9%22%5D%7D")
    await outside.call("GET", "/v1.24/containers/json")
    await outside.call("GET", "/containers/json")
    assert [h.split()[1] for h in engine.heads] == [
        "/v1.41/containers/json?all=1&filters=%7B%22a%22:%5B%22%C3%A9%22%5D%7D",
        "/v1.24/containers/json",
        "/containers/json",
    ]


async def test_engines_status_headers_and_body_come_through(outside: Served, engine: FakeEngine) -> None:
    answer = (
        b"HTTP/1.1 404 Not Found\r\nX-Stat: abc\r\nContent-Type: application/json\r\nContent-Length: 16\r\n\r\n" + NO
    )
    engine.respond = engine.answer(answer)
    async with outside.client.get("http://essaim/containers/x/archive", headers={"X-Registry-Auth": "e30="}) as reply:
        assert (reply.status, await reply.json()) == (404, {"message": "no"})
        assert reply.headers["X-Stat"] == "abc"
    assert "X-Registry-Auth: e30=" in engine.heads[0]


async def test_head_request_has_a_length_and_no_body(outside: Served, engine: FakeEngine) -> None:
    engine.respond = engine.answer(b"HTTP/1.1 200 OK\r\nX-Stat: abc\r\nContent-Length: 5\r\n\r\n")
    async with outside.client.head("http://essaim/containers/x/archive") as reply:
        assert (reply.status, reply.headers["X-Stat"], await reply.read()) == (200, "abc", b"")


async def test_fields_of_one_hop_are_passed_on_neither_way(outside: Served, engine: FakeEngine) -> None:
    ours = sorted({name.decode() for name in HOP_BY_HOP} - {"connection", "upgrade"} | {"x-named"})
    lines = "".join(f"{name}: 1\r\n" for name in ours)
    answer = f"HTTP/1.1 200 OK\r\nConnection: close, X-Named\r\nContent-Length: 2\r\nX-Kept: 1\r\n{lines}\r\n{{}}"
    engine.respond = engine.answer(answer.encode())
    asked = f"GET /images/json HTTP/1.1\r\nHost: x\r\nConnection: X-Named, close\r\nX-Kept: 1\r\n{lines}\r\n"
    reader, writer = await raw(outside, asked.encode())
    answered = (await reader.read()).decode().lower()
    writer.close()
    for head in (engine.heads[0].lower(), answered):
        assert "x-kept: 1" in head
        assert [name for name in ours if f"\n{name}:" in head and f"\n{name}: timeout" not in head] == []


async def test_answer_is_passed_on_piece_by_piece(outside: Served, engine: FakeEngine) -> None:
    more = asyncio.Event()

    async def respond(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n")
        await more.wait()
        writer.write(b"3\r\ntwo\r\n0\r\n\r\n")

    engine.respond = respond
    async with outside.client.get("http://essaim/images/x/get") as reply:
        assert await reply.content.readany() == b"one"
        more.set()
        assert await reply.content.read() == b"two"


async def test_upload_goes_no_faster_than_the_engine_reads(outside: Served, engine: FakeEngine) -> None:
    read = asyncio.Event()
    sent = 0

    async def respond(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read.wait()
        data = b""
        while not data.endswith(b"\r\n0\r\n\r\n"):
            data = data[-10:] + await reader.read(MEGABYTE)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")

    async def body() -> AsyncIterator[bytes]:
        nonlocal sent
        for _ in range(64):
            yield b"x" * MEGABYTE
            sent += 1

    engine.respond = respond
    posting = asyncio.create_task(outside.call_raw("POST", "/images/load", body()))
    before = -1
    while before != sent or not engine.heads:
        before = sent
        for _ in range(2000):
            await asyncio.sleep(0)
    assert sent < 32, "an Engine that does not read must hold the client back"
    read.set()
    assert await posting == 200
    assert "Transfer-Encoding: chunked" in engine.heads[0]


async def test_early_refusal_of_an_upload_reaches_the_client(outside: Served, engine: FakeEngine) -> None:
    engine.respond = engine.answer(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 16\r\n\r\n" + NO)

    async def body() -> AsyncIterator[bytes]:
        for _ in range(4):
            yield b"x" * 1000

    assert await outside.call_raw("POST", "/build", body()) == 400


async def test_client_that_goes_ends_the_engines_side(outside: Served, engine: FakeEngine) -> None:
    async def respond(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n")
        await reader.read()  # quiet, until the other side closes

    engine.respond = respond
    _, writer = await raw(outside, b"GET /containers/x/logs?follow=1 HTTP/1.1\r\nHost: x\r\n\r\n")
    while not engine.heads:
        await asyncio.sleep(0.001)
    writer.close()
    await writer.wait_closed()
    await engine.ended.wait()


@pytest.mark.parametrize(("path", "protocol"), [("/exec/x/start", "tcp"), ("/session", "h2c"), ("/grpc", "h2c")])
async def test_upgraded_connection_carries_bytes_and_half_closes(
    outside: Served, engine: FakeEngine, path: str, protocol: str
) -> None:
    async def respond(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(2)
        answer = f"HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: {protocol}\r\n\r\nwelcome;"
        writer.write(answer.encode())
        writer.write(b"you said " + await reader.read())

    engine.respond = respond
    lines = [f"POST {path} HTTP/1.1", "Host: x", "Connection: Upgrade", f"Upgrade: {protocol}", "Content-Length: 2"]
    lines.append("Content-Type: application/json")
    reader, writer = await raw(outside, "\r\n".join([*lines, "", "{}"]).encode())
    assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 UPGRADED\r\n")
    assert await reader.readuntil(b";") == b"welcome;"
    writer.write(b"late")
    writer.write_eof()
    assert await reader.read() == b"you said late"
    writer.close()
    assert f"Upgrade: {protocol}" in engine.heads[0]


@pytest.mark.parametrize(
    "answer",
    [b"", b"nonsense\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n"],
    ids=["nothing", "nonsense", "length"],
)
async def test_engine_that_breaks_off_is_a_bad_gateway(outside: Served, engine: FakeEngine, answer: bytes) -> None:
    engine.respond = engine.answer(answer)
    status, message = await outside.error("GET", "/containers/json")
    assert (status, "Docker Engine" in message) == (502, True)


async def test_answer_cut_in_the_middle_does_not_look_whole(outside: Served, engine: FakeEngine) -> None:
    engine.respond = engine.answer(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
    with pytest.raises(aiohttp.ClientError):
        async with outside.client.get("http://essaim/containers/x/export") as reply:
            await reply.read()


async def test_engine_that_is_gone_is_named_and_merged_answers_do_without(outside: Served) -> None:
    outside.node.engine_url = f"unix://{outside.socket.parent}/nosuch.sock"
    status, message = await outside.error("GET", "/containers/json")
    assert (status, "nosuch.sock" in message) == (502, True)
    assert (await outside.call("GET", "/info"))["Swarm"]["LocalNodeState"] == "inactive"
    assert await outside.call("GET", "/networks") == []


async def test_events_of_both_sides_come_line_by_line(outside: Served, engine: FakeEngine) -> None:
    async def respond(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if "/events" in engine.heads[-1]:
            writer.write(
                b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n6\r\n{"a":1\r\n9\r\n}\n{"b":2}\r\n1\r\n\n\r\n'
            )
            with contextlib.suppress(ConnectionError):
                await reader.read()
        else:
            writer.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\n{}")

    engine.respond = respond
    async with outside.client.get("http://essaim/events") as reply:
        assert await reply.content.readline() == b'{"a":1}\n'
        assert await reply.content.readline() == b'{"b":2}\n'
        await outside.call("POST", "/swarm/init", {})
        assert b'"network"' in await reply.content.readline()
    await engine.ended.wait()


async def test_events_of_the_past_come_whole_from_both_sides_in_the_order_of_time(
    outside: Served, engine: FakeEngine
) -> None:
    """The Engine answers late: the end of the cluster's events must not cut its own off."""
    begun = time.time()
    await outside.call("POST", "/swarm/init", {})
    late = asyncio.Event()

    def line(number: int, seconds: float) -> bytes:
        return json.dumps({"Type": "container", "number": number, "timeNano": int(seconds * 1e9)}).encode() + b"\n"

    async def respond(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await late.wait()
        body = line(1, begun - 60) + line(2, time.time() + 60)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))

    engine.respond = respond
    query = {"since": str(begun - 100), "until": str(time.time())}
    async with outside.client.get("http://essaim/events", params=query) as reply:
        late.set()
        told = [json.loads(text) for text in (await reply.read()).splitlines()]
    assert [t["Type"] for t in (told[0], told[-1])] == ["container", "container"]
    assert [t["number"] for t in told if "number" in t] == [1, 2]
    assert "network" in {t["Type"] for t in told[1:-1]}
    assert len([h for h in engine.heads if "/events" in h]) == 1, "all of it is past"


class Telling:
    """An Engine that has kept `past`, and tells every stream without an end of what is new."""

    def __init__(self, engine: FakeEngine) -> None:
        self.engine = engine
        self.past: list[bytes] = []
        self.streams: list[asyncio.StreamWriter] = []
        engine.respond = self.respond

    async def respond(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")
        if "until=" in self.engine.heads[-1]:
            writer.write(b"".join(self.past))
            return
        self.streams.append(writer)
        with contextlib.suppress(ConnectionError):
            await reader.read()
        self.streams.remove(writer)

    def tell(self, number: int) -> None:
        line = json.dumps({"number": number, "timeNano": time.time_ns()}).encode() + b"\n"
        self.past.append(line)
        for writer in self.streams:
            writer.write(line)


async def number(reply: aiohttp.ClientResponse) -> int:
    return int(json.loads(await reply.content.readline())["number"])


async def test_events_followed_from_the_past_come_without_a_gap_and_once(outside: Served, engine: FakeEngine) -> None:
    at = Telling(engine)
    at.tell(1)
    async with outside.client.get("http://essaim/events", params={"since": "1700000000"}) as first:
        assert await number(first) == 1
        at.tell(2)
        assert await number(first) == 2
        async with outside.client.get("http://essaim/events", params={"since": "1700000000"}) as second:
            assert [await number(second) for _ in range(2)] == [1, 2]
            at.tell(3)
            assert [await number(reply) for reply in (first, second)] == [3, 3]


async def test_engine_that_knows_no_such_filter_is_not_asked_again(
    outside: Served, engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine_events, "RETRY", 0)
    engine.respond = engine.answer(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 2\r\n\r\n{}")
    begun = time.time()
    query = {"filters": '{"type":["network"]}', "since": str(begun)}
    async with outside.client.get("http://essaim/events", params=query) as reply:
        await outside.call("POST", "/swarm/init", {})
        assert json.loads(await reply.content.readline())["Type"] == "network"
    assert len([h for h in engine.heads if "/events" in h]) == 2, "one stream, and the past"


async def test_engine_is_followed_once_for_all_who_ask_the_same(
    outside: Served, engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine_events, "RETRY", 0.01)
    at = Telling(engine)
    async with contextlib.AsyncExitStack() as stack:
        queries: list[dict[str, str]] = [
            {},
            {"filters": '{"type":["container"]}'},
            {"filters": '{"type":{"container":true}}'},
        ]
        replies = [
            await stack.enter_async_context(outside.client.get("http://essaim/events", params=query))
            for query in queries * 4
        ]
        while len(at.streams) < 2:
            await asyncio.sleep(0)
        at.tell(1)
        assert [await number(reply) for reply in replies] == [1] * len(replies)
        assert len(at.streams) == 2
        at.streams[0].close()
        at.streams[1].close()
        while at.streams:
            await asyncio.sleep(0)
        while len(at.streams) < 2:
            await asyncio.sleep(0)
        at.tell(2)
        assert [await number(reply) for reply in replies] == [2] * len(replies), "opened anew"
    while at.streams:
        await asyncio.sleep(0)


async def test_logs_that_fail_half_way_do_not_look_whole(scheduled: Served) -> None:
    async def broken(requests: list[LogRequest]) -> AsyncIterator[LogChunk]:
        yield LogChunk(0, requests[0].task_id, 1, "", b"line\n")
        raise Unavailable("the node went away")

    await scheduled.create("web")
    manager = scheduled.node.manager
    assert manager is not None
    with manager.store.watch("tasks") as watch:
        while not len(manager.store.tasks):
            await watch.next()
    scheduled.node.task_logs = broken  # type: ignore[method-assign]
    with pytest.raises(aiohttp.ClientError):
        async with scheduled.client.get("http://essaim/services/web/logs?stdout=1") as reply:
            await reply.read()
    assert len(await scheduled.call("GET", "/services")) == 1


async def test_images_in_registries_and_disk_usage_are_asked_of_the_engine(outside: Served, engine: FakeEngine) -> None:
    auth = {"X-Registry-Auth": "e30="}
    for path in ("/distribution/127.0.0.1:5000/team/app:1.2/json", "/v1.50/system/df?type=image"):
        async with outside.client.get("http://essaim" + path, headers=auth) as reply:
            assert (reply.status, await reply.read()) == (200, b"{}")
    assert [h.split()[1] for h in engine.heads] == [
        "/distribution/127.0.0.1:5000/team/app:1.2/json",
        "/v1.41/system/df?type=image",
    ]
    assert "X-Registry-Auth: e30=" in engine.heads[0]


async def test_images_in_registries_and_disk_usage_have_answers_without_an_engine(outside: Served) -> None:
    assert (await outside.call("GET", "/distribution/team/app:1.2/json"))["Descriptor"]["digest"] == ""
    usage = await outside.call("GET", "/system/df")
    assert (usage["LayersSize"], usage["Images"], usage["Volumes"]) == (0, [], [])
