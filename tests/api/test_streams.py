"""Logs with their framing, and events as they happen."""

import asyncio
import base64
import json
import struct
import time
from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any

import pytest

from essaim.api.control import secrets
from essaim.api.handlers.logs import followed
from essaim.cluster.errors import Unavailable
from essaim.cluster.wire import LogChunk, LogRequest
from tests.api.conftest import Served


def frames(data: bytes) -> list[tuple[int, bytes]]:
    found = []
    while data:
        stream, length = struct.unpack(">BxxxL", data[:8])
        found.append((stream, data[8 : 8 + length]))
        data = data[8 + length :]
    return found


async def logs(served: Served, path: str) -> bytes:
    async with served.client.get("http://essaim" + path) as reply:
        assert reply.status == 200, await reply.text()
        return await reply.read()


async def running(served: Served, name: str, **spec: Any) -> str:
    """A service with one running task; the task's id."""
    await served.create(name, **spec)
    manager = served.node.manager
    assert manager is not None
    with manager.store.watch("tasks") as watch:
        while not (tasks := [t for t in manager.store.tasks if t.service_name == name]):
            await watch.next()
    return tasks[0].id


async def test_logs_are_framed_with_stamps_and_details(scheduled: Served) -> None:
    task = await running(scheduled, "web")
    scheduled.node.logs[task] = [(1, b"out\n"), (2, b"err\n")]
    assert frames(await logs(scheduled, "/services/web/logs?stdout=1&stderr=1")) == [(1, b"out\n"), (2, b"err\n")]
    assert frames(await logs(scheduled, f"/tasks/{task}/logs?stdout=True")) == [(1, b"out\n")]
    full = frames(await logs(scheduled, "/services/web/logs?stdout=1&timestamps=1&details=1"))
    # Nothing but its end is a line, too.
    scheduled.node.logs[task] = [(1, b"a"), (1, b""), (1, b"b\n")]
    assert frames(await logs(scheduled, "/services/web/logs?stdout=1")) == [(1, b"a\n"), (1, b"\n"), (1, b"b\n")]
    stamp, details, line = full[0][1].split(b" ", 2)
    assert stamp == b"2026-01-02T03:04:05.000000006Z"
    assert details.endswith(b"com.docker.swarm.task.id=" + task.encode())
    assert details.startswith(b"com.docker.swarm.node.id=" + scheduled.node.node_id.encode() + b",com.docker.swarm")
    assert line == b"out\n"


async def test_logs_of_a_terminal_are_raw(scheduled: Served) -> None:
    task = await running(scheduled, "tty", template={"ContainerSpec": {"Image": "essaim/whoami", "TTY": True}})
    scheduled.node.logs[task] = [(1, b"hi\r\n")]
    assert await logs(scheduled, "/services/tty/logs?stdout=1") == b"hi\r\n"


async def test_logs_options_reach_the_node(scheduled: Served) -> None:
    await running(scheduled, "web")
    await logs(scheduled, "/services/web/logs?stdout=1&tail=5&since=1795371280.5&until=1795371290")
    request = scheduled.node.log_requests[0]
    assert (request.tail, request.since, request.until, request.stderr) == (5, 1795371280.5, 1795371290, False)


async def test_logs_without_a_stream_or_with_nonsense_are_refused(scheduled: Served) -> None:
    await running(scheduled, "web")
    status, message = await scheduled.error("GET", "/services/web/logs")
    assert (status, message) == (500, "Bad parameters: you must choose at least one stream")
    for query in ("tail=x", "since=x", "tail=-7", "until=nan"):
        assert (await scheduled.error("GET", f"/services/web/logs?stdout=1&{query}"))[0] == 400
    assert (await scheduled.error("GET", "/services/nosuch/logs?stdout=1"))[0] == 404


async def test_events_of_a_time_that_ends_before_it_begins_are_refused(served: Served) -> None:
    refused = (400, "`since` time (5) cannot be after `until` time (1)")
    assert await served.error("GET", "/events?since=5&until=1") == refused


async def read_events(reply: Any, count: int) -> list[dict[str, Any]]:
    async with asyncio.timeout(20):
        return [json.loads(await reply.content.readline()) for _ in range(count)]


async def test_events_follow_what_happens(served: Served) -> None:
    filters = '{"type":{"service":true,"secret":true}}'
    async with served.client.get(f"http://essaim/events?filters={filters}") as reply:
        assert reply.status == 200
        service = await served.create("web")
        await served.call("POST", "/networks/create", {"Name": "n", "Driver": "overlay"}, 201)
        await served.call("POST", "/secrets/create", {"Name": "s", "Data": "aGk="}, 201)
        await served.call("DELETE", "/services/web")
        events = await read_events(reply, 3)
    assert [(e["Type"], e["Action"], e["Actor"]["Attributes"]["name"]) for e in events] == [
        ("service", "create", "web"),
        ("secret", "create", "s"),
        ("service", "remove", "web"),
    ]
    assert events[0]["Actor"]["ID"] == service
    assert events[0]["scope"] == "swarm"


@pytest.mark.parametrize(
    ("filters", "count"),
    [
        ({}, 2),
        ({"scope": ["swarm"]}, 2),
        ({"scope": ["local"]}, 0),
        ({"type": ["secret"]}, 1),
        ({"event": ["create"]}, 2),
        ({"event": ["remove"]}, 0),
        ({"service": ["web"]}, 1),
        ({"service": ["other"]}, 0),
        ({"secret": ["s"]}, 1),
        ({"container": ["web"]}, 0),
        ({"label": ["name=s"]}, 1),
    ],
)
async def test_events_are_filtered(served: Served, filters: dict[str, list[str]], count: int) -> None:
    before = time.time()
    await served.create("web")
    await served.call("POST", "/secrets/create", {"Name": "s", "Data": "aGk="}, 201)
    query = {"filters": json.dumps(filters), "since": str(before), "until": str(time.time() + 0.05)}
    async with served.client.get("http://essaim/events", params=query) as reply:
        assert len((await reply.read()).splitlines()) == count


@pytest.mark.parametrize(
    ("accept", "kind", "first"),
    [
        ("*/*", "application/json", b"{"),
        ("application/jsonl", "application/jsonl", b"{"),
        ("text/html, application/x-ndjson;q=0.5", "application/x-ndjson", b"{"),
        ("application/json-seq", "application/json-seq", b"\x1e{"),
    ],
)
async def test_events_come_in_the_form_that_is_asked_for(served: Served, accept: str, kind: str, first: bytes) -> None:
    before = time.time()
    await served.create("web")
    query, headers = {"since": str(before), "until": str(time.time() + 0.05)}, {"Accept": accept}
    async with served.client.get("http://essaim/events", params=query, headers=headers) as reply:
        assert reply.headers["Content-Type"] == kind
        (line,) = (await reply.read()).splitlines()
    assert line.startswith(first)
    assert json.loads(line.lstrip(b"\x1e"))["Actor"]["Attributes"]["name"] == "web"


async def test_events_of_the_past_are_told_until_a_time(scheduled: Served) -> None:
    before = time.time() - 1
    await running(scheduled, "web")
    async with scheduled.client.get(f"http://essaim/events?since={before}&until={time.time() + 0.1}") as reply:
        events = [json.loads(line) for line in (await reply.read()).splitlines()]
    kinds = {(e["Type"], e["Action"]) for e in events}
    assert ("service", "create") in kinds
    assert ("task", "create") in kinds


async def test_update_of_a_service_tells_what_changed(served: Served) -> None:
    await served.create("web")
    current = await served.call("GET", "/services/web")
    spec = current["Spec"] | {"Mode": {"Replicated": {"Replicas": 4}}}
    async with served.client.get('http://essaim/events?filters={"service":["web"]}') as reply:
        await served.call("POST", f"/services/web/update?version={current['Version']['Index']}", spec)
        attributes = (await read_events(reply, 1))[0]["Actor"]["Attributes"]
    assert attributes == {"name": "web", "replicas.old": "1", "replicas.new": "4"}


async def test_events_begin_when_the_node_becomes_a_manager(outside: Served) -> None:
    async with outside.client.get("http://essaim/events") as reply:
        assert reply.headers["Content-Type"] == "application/json"
        await outside.call("POST", "/swarm/init", {})
        first = (await read_events(reply, 1))[0]
        assert (first["Type"], first["Action"]) == ("network", "create")


async def test_logs_followed_tell_of_tasks_that_start_later(scheduled: Served) -> None:
    first = await running(scheduled, "web")
    scheduled.node.logs[first] = [(1, b"first\n")]
    manager = scheduled.node.manager
    assert manager is not None
    async with scheduled.client.get("http://essaim/services/web/logs?stdout=1&follow=1") as reply, asyncio.timeout(20):
        assert await reply.content.readexactly(14) == struct.pack(">BxxxL", 1, 6) + b"first\n"
        current = await scheduled.call("GET", "/services/web")
        spec = current["Spec"] | {"Mode": {"Replicated": {"Replicas": 2}}}
        scheduled.node.default_logs = [(1, b"later\n")]
        await scheduled.call("POST", f"/services/web/update?version={current['Version']['Index']}", spec)
        assert await reply.content.readexactly(14) == struct.pack(">BxxxL", 1, 6) + b"later\n"
        await scheduled.call("DELETE", "/services/web")
        assert await reply.content.read() == b""


async def test_bug_in_a_handler_costs_one_request_and_shows_no_secret(
    served: Served, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(secrets, "create", broken)
    body = {"Name": "s", "Data": base64.b64encode(b"hush-hush").decode()}
    status, message = await served.error("POST", "/secrets/create", body)
    assert (status, "internal error" in message, "a bug" in message) == (500, True, False)
    shown = capsys.readouterr().out
    assert "RuntimeError: a bug" in shown
    assert "hush" not in shown


async def test_logs_followed_are_let_go_when_the_client_goes(scheduled: Served) -> None:
    task = await running(scheduled, "web")
    ended = asyncio.Event()

    async def endless(requests: list[LogRequest]) -> AsyncIterator[LogChunk]:
        try:
            while True:
                yield LogChunk(0, task, 1, "", b"line\n")
                await asyncio.sleep(0)
        finally:
            ended.set()

    scheduled.node.task_logs = endless  # type: ignore[method-assign]
    async with scheduled.client.get("http://essaim/services/web/logs?stdout=1&follow=1") as reply:
        await reply.content.readexactly(13)
        reply.close()
    async with asyncio.timeout(20):
        await ended.wait()


async def test_logs_followed_and_closed_from_outside_end_their_readers_without_an_error(scheduled: Served) -> None:
    """As a stalled reader does whose connection breaks while a line waits to be sent: nothing cancels the handler."""
    await running(scheduled, "web")
    manager = scheduled.node.manager
    assert manager is not None
    (service,) = [s for s in manager.store.services if s.spec.name == "web"]
    ended = asyncio.Event()

    async def endless(requests: list[LogRequest]) -> AsyncIterator[LogChunk]:
        try:
            while True:
                yield LogChunk(1, requests[0].task_id, 1, "", b"a line\n")
        finally:
            ended.set()

    options = LogRequest(request=0, task_id="", follow=True)
    chunks = followed(manager.store, endless, service.id, options)
    assert (await anext(chunks)).line == b"a line\n"
    await chunks.aclose()
    assert ended.is_set()


async def test_logs_followed_whose_reader_fails_raise_its_error(scheduled: Served) -> None:
    await running(scheduled, "web")
    manager = scheduled.node.manager
    assert manager is not None
    (service,) = [s for s in manager.store.services if s.spec.name == "web"]

    async def broken(requests: list[LogRequest]) -> AsyncIterator[LogChunk]:
        yield LogChunk(1, requests[0].task_id, 1, "", b"a line\n")
        raise Unavailable("no leader")

    chunks = followed(manager.store, broken, service.id, LogRequest(request=0, task_id="", follow=True))
    assert (await anext(chunks)).line == b"a line\n"
    with pytest.raises(Unavailable, match="no leader"):
        await anext(chunks)


@pytest.mark.parametrize("stamps", [0, 1])
async def test_logs_error_of_a_task_is_a_line_with_all_that_was_asked_for(
    scheduled: Served, monkeypatch: pytest.MonkeyPatch, stamps: int
) -> None:
    """The stock client gives up at a line without the details that it asks for."""
    await running(scheduled, "web")

    async def lost(requests: list[LogRequest]) -> AsyncIterator[LogChunk]:
        yield LogChunk(1, requests[0].task_id, end=True, error="its node is down", lost=True)

    monkeypatch.setattr(scheduled.node, "task_logs", lost)
    query = {"stdout": "1", "details": "1", "timestamps": str(stamps)}
    async with scheduled.client.get("http://essaim/services/web/logs", params=query) as reply:
        words = (await reply.read())[8:].decode().split(" ", stamps + 1)
    if stamps:
        assert datetime.fromisoformat(words.pop(0)).tzinfo is not None
    details, line = words
    assert "com.docker.swarm.task.id=" in details
    assert line == "essaim: its node is down\n"
