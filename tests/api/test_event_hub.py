"""Events handed to their followers, counted in operations: bytes made, writes, and how many at a time."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import structlog
from structlog.testing import capture_logs

from essaim.api.events import cluster_events
from essaim.api.events.hub import FULL, SLICE, EventHub, Follower
from essaim.cluster.changes import ChangeSet, encode, put
from essaim.cluster.objects import Config, ConfigSpec
from essaim.cluster.shape import to_json
from essaim.cluster.store import Store
from tests.api.conftest import Served
from tests.api.fakes import utc_now

FOLLOWERS = 500


class Connection:
    """`waiting`: what its client has not read yet."""

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.waiting = 0
        self.aborted = False

    def write(self, data: bytes) -> None:
        self.written.append(data)

    def get_write_buffer_size(self) -> int:
        return self.waiting

    def is_closing(self) -> bool:
        return self.aborted

    def abort(self) -> None:
        self.aborted = True


class Steps:
    """The hub's pauses: each lasts until the test lets it go on."""

    def __init__(self) -> None:
        self.pauses: asyncio.Queue[asyncio.Event] = asyncio.Queue()

    async def sleep(self, _: float) -> None:
        event = asyncio.Event()
        self.pauses.put_nowait(event)
        await event.wait()

    async def go_on(self) -> None:
        """To the next pause."""
        async with asyncio.timeout(20):
            (await self.pauses.get()).set()
        await settle()


async def settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


def create(store: Store, index: int, name: str) -> None:
    """One change set with one new config."""
    config = Config(id=f"c{index}", spec=ConfigSpec(name=name, data=b""))
    store.apply(index, encode(ChangeSet([put("configs", config, new=True)], utc_now())))


class Scene:
    """A hub with followers that have caught up."""

    def __init__(self, kept: int = 100, kept_bytes: int = 1 << 20) -> None:
        self.store, self.steps, self.index = Store(), Steps(), 0
        limits = {"kept": kept, "kept_bytes": kept_bytes}
        self.hub = EventHub(utc_now, structlog.get_logger(), lambda: self.store, sleep=self.steps.sleep, **limits)
        self.hub.look()
        self.taking: list[asyncio.Task[bytes]] = []

    def follow(self, connection: Connection, filters: dict[str, list[str]] | None = None) -> Follower:
        follower = self.hub.subscribe(filters or {}, 0, 0, connection, chunked=True)
        self.taking.append(asyncio.create_task(self.hub.take(follower)))
        return follower

    def write(self, count: int) -> None:
        """So many change sets, each with one new config."""
        for _ in range(count):
            self.index += 1
            create(self.store, self.index, f"config-{self.index}")


@contextlib.asynccontextmanager
async def scene(**options: Any) -> AsyncIterator[Scene]:
    made = Scene(**options)
    try:
        yield made
    finally:
        await made.hub.stop()
        await asyncio.gather(*made.taking)


def names(chunks: list[bytes]) -> list[str]:
    """What is in chunks of HTTP."""
    found = []
    for chunk in chunks:
        length, _, rest = chunk.partition(b"\r\n")
        assert rest[int(length, 16) :] == b"\r\n"
        found += [json.loads(line)["Actor"]["Attributes"]["name"] for line in rest[:-2].splitlines()]
    return found


async def test_hub_with_a_crowd_makes_each_event_once_and_wakes_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    made = []

    def counted(value: Any) -> bytes:
        made.append(value)
        return to_json(value)

    monkeypatch.setattr(cluster_events, "to_json", counted)
    async with scene() as at:
        crowd = [Connection() for _ in range(FOLLOWERS)]
        followers = [at.follow(connection) for connection in crowd]
        await settle()
        at.write(20)
        await settle()
        assert sum(len(c.written) for c in crowd) == 0, "the answers to the writes must leave first"
        told = []
        while sum(told) < FOLLOWERS:
            before = sum(len(c.written) for c in crowd)
            await at.steps.go_on()
            told.append(sum(len(c.written) for c in crowd) - before)
        assert max(told) == SLICE, "the loop is taken for a few followers at a time"
        assert [len(c.written) for c in crowd] == [1] * FOLLOWERS, "20 events in one write"
        assert len({id(c.written[0]) for c in crowd}) == 1, "the same bytes for all"
        assert len(made) == 20
        assert names(crowd[0].written) == [f"config-{n}" for n in range(1, 21)]
        assert not any(f.wake.is_set() for f in followers)
        assert not any(task.done() for task in at.taking)


async def test_hub_asks_each_filter_once_for_an_event(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []
    monkeypatch.setattr(
        "essaim.api.events.hub.matches", lambda _, filters: asked.append(filters) or "no" not in filters
    )
    async with scene() as at:
        some, none = [Connection() for _ in range(3)], [Connection() for _ in range(3)]
        for connection in some:
            at.follow(connection)
        for connection in none:
            at.follow(connection, {"no": ["x"]})
        await settle()
        at.write(2)
        await settle()
        await at.steps.go_on()
        assert [len(c.written) for c in some + none] == [1, 1, 1, 0, 0, 0]
        assert len(asked) == 4


async def test_follower_with_a_full_connection_takes_at_its_own_pace_in_order() -> None:
    async with scene() as at:
        slow, quick = Connection(), Connection()
        follower = at.follow(slow)
        at.follow(quick)
        await settle()
        slow.waiting = FULL + 1
        at.write(3)
        await settle()
        await at.steps.go_on()
        assert (slow.written, len(names(quick.written))) == ([], 3)
        data = await at.taking[0]
        assert [json.loads(line)["Actor"]["ID"] for line in data.splitlines()] == ["c1", "c2", "c3"]
        slow.waiting = 0
        at.taking[0] = asyncio.create_task(at.hub.take(follower))
        await settle()
        at.write(1)
        await settle()
        await at.steps.go_on()
        assert names(slow.written) == ["config-4"]


# Ten events here have some 1,700 bytes.
@pytest.mark.parametrize("limits", [{"kept": 10}, {"kept_bytes": 1_700}])
async def test_follower_that_falls_off_the_log_is_cut_off_with_a_reason(limits: dict[str, int]) -> None:
    async with scene(**limits) as at:
        stuck, reader = Connection(), Connection()
        at.follow(stuck)
        at.follow(reader)
        await settle()
        stuck.waiting = FULL + 1
        with capture_logs() as logs:
            for _ in range(3):
                at.write(10)
                await settle()
                await at.steps.go_on()
        assert (stuck.aborted, reader.aborted) == (True, False)
        assert [(e["event"], "events behind" in e["reason"]) for e in logs] == [
            ("a follower of events was cut off", True)
        ]
        assert len(names(reader.written)) == 30
        assert await at.taking[0] != b"", "what it could have had"
        await at.hub.stop()


async def test_follower_that_is_behind_when_the_node_joins_another_swarm_goes_on_there() -> None:
    async with scene() as at:
        slow = Connection()
        follower = at.follow(slow)
        await settle()
        slow.waiting = FULL + 1
        at.write(3)
        await settle()
        at.store, at.index = Store(), 7
        at.hub.look()
        at.write(1)
        await settle()
        await at.steps.go_on()
        assert not slow.aborted
        assert json.loads(await at.taking[0])["Actor"]["ID"] == "c8"
        at.taking[0] = asyncio.create_task(at.hub.take(follower))


async def test_changes_faster_than_the_hub_end_the_streams_rather_than_leave_a_gap() -> None:
    async with scene() as at:
        connection = Connection()
        at.follow(connection)
        await settle()
        with capture_logs() as logs:
            at.write(10_001)
            await settle()
        assert connection.aborted
        assert "changes came faster" in logs[0]["reason"]


async def test_hub_that_fails_cuts_its_followers_off_rather_than_leave_them_waiting(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken(*_: Any) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr("essaim.api.events.hub.describe", broken)
    async with scene() as at:
        connection = Connection()
        at.follow(connection)
        await settle()
        with capture_logs() as logs:
            at.write(1)
            await settle()
        assert connection.aborted
        assert "a bug" in logs[0]["reason"]


async def test_follower_that_leaves_in_the_middle_of_a_round_is_written_to_no_more() -> None:
    async with scene() as at:
        crowd = [Connection() for _ in range(SLICE + 1)]
        followers = [at.follow(connection) for connection in crowd]
        await settle()
        at.write(1)
        await settle()
        await at.steps.go_on()
        at.hub.unsubscribe(followers[-1])
        followers[-1].end()
        await at.steps.go_on()
        assert [len(c.written) for c in crowd] == [1] * SLICE + [0]


async def test_client_that_reads_nothing_is_cut_off_and_costs_bounded_memory(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Over a real socket, with events far larger than what the system holds back."""
    reader, writer = await asyncio.open_unix_connection(str(served.socket))
    writer.write(b"GET /events HTTP/1.1\r\nHost: x\r\n\r\n")
    await reader.readline()
    manager = served.node.manager
    assert manager is not None
    with capture_logs() as logs:
        async with asyncio.timeout(60):
            while not logs:
                for _ in range(500):
                    index = manager.store.version + 1
                    create(manager.store, index, f"{index}-{'x' * 2000}")
                await asyncio.sleep(0)
    assert logs[0]["event"] == "a follower of events was cut off"
    writer.close()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()


async def test_events_for_a_client_of_http_1_0_are_a_plain_body(served: Served, tmp_path: Path) -> None:
    reader, writer = await asyncio.open_unix_connection(str(served.socket))
    writer.write(b"GET /events?until=9999999999 HTTP/1.0\r\nHost: x\r\n\r\n")
    async with asyncio.timeout(20):
        head = await reader.readuntil(b"\r\n\r\n")
        assert b" 200 " in head.splitlines()[0]
        assert b"chunked" not in head.lower()
        await served.create("web")
        assert json.loads(await reader.readline())["Actor"]["Attributes"]["name"] == "web"
    writer.close()
    await writer.wait_closed()
