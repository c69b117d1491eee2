"""The driver: it survives whatever a loop or the log does, and looks again when it must."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import datetime, timedelta

import msgspec
import pytest

from essaim.cluster import changes
from essaim.cluster.service import Service, ServiceSpec
from essaim.cluster.store import Store
from essaim.cluster.watch import Event
from essaim.scheduler import loop as loop_module
from essaim.scheduler.loop import CHUNK, Decision, Driver
from tests.scheduler.agents import Manager, until, utc_now

Decide = Callable[[Store, datetime], Decision]


class Scripted:
    """A loop whose decisions the test gives; the last one repeats."""

    name = "scripted"
    tables = ("services",)

    def __init__(self, *decisions: Decide) -> None:
        self.decisions = list(decisions)
        self.resets = 0
        self.decided = 0
        self.observed: list[Event] = []

    def reset(self, store: Store) -> None:
        self.resets += 1

    def observe(self, events: list[Event]) -> None:
        self.observed += events

    def decide(self, store: Store, now: datetime) -> Decision:
        self.decided += 1
        decide = self.decisions.pop(0) if len(self.decisions) > 1 else self.decisions[0]
        return decide(store, now)


def nothing(store: Store, now: datetime) -> Decision:
    return Decision()


def service(name: str) -> Service:
    return Service(id=name, spec=ServiceSpec(name=name))


@asynccontextmanager
async def driven(loop: Scripted, manager: Manager) -> AsyncIterator[None]:
    driver = Driver(loop, manager.store, manager.writer, utc_now, time.monotonic, manager.quiet)
    running = asyncio.create_task(driver.run())
    try:
        yield
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


@pytest.fixture(autouse=True)
def _short_retry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop_module, "RETRY", 0.01)


async def test_driver_writes_what_is_decided_in_chunks() -> None:
    manager = Manager()
    wanted = [changes.put("services", service(f"s{n}"), new=True) for n in range(CHUNK + 1)]
    loop = Scripted(lambda store, now: Decision(list(wanted)), nothing)
    async with driven(loop, manager):
        await until(lambda: len(manager.store.services) == CHUNK + 1)
    assert len(manager.log.proposals) == 2


async def test_driver_wakes_for_events_and_shows_them_to_the_loop() -> None:
    manager = Manager()
    loop = Scripted(nothing)
    async with driven(loop, manager):
        await until(lambda: loop.decided == 1)
        await manager.writer.commit([changes.put("services", service("a"), new=True)])
        await until(lambda: loop.decided == 2)
    assert [event.object.id for event in loop.observed] == ["a"]


async def test_driver_wakes_at_the_time_that_the_loop_named() -> None:
    manager = Manager()
    loop = Scripted(lambda store, now: Decision(wake=now + timedelta(milliseconds=20)), nothing)
    async with driven(loop, manager):
        await until(lambda: loop.decided == 2)


async def test_driver_starts_over_when_the_log_has_no_quorum() -> None:
    manager = Manager()
    manager.log.has_quorum = False

    def decide(store: Store, now: datetime) -> Decision:
        if store.services.get("a"):
            return Decision()
        return Decision([changes.put("services", service("a"), new=True)])

    loop = Scripted(decide)
    async with driven(loop, manager):
        await until(lambda: loop.resets > 1)
        manager.log.has_quorum = True
        await until(lambda: manager.store.services.get("a") is not None)


async def test_driver_logs_a_bug_and_starts_the_loop_anew() -> None:
    manager = Manager()

    def fail(store: Store, now: datetime) -> Decision:
        raise ZeroDivisionError

    loop = Scripted(fail, nothing)
    async with driven(loop, manager):
        await until(lambda: loop.resets == 2 and loop.decided == 2)
    assert [line[1] for line in manager.quiet.errors] == ["the loop failed; it starts anew"]


async def test_driver_that_lagged_behind_takes_the_store_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop_module, "BACKLOG", 100)
    manager = Manager()
    loop = Scripted(nothing)
    async with driven(loop, manager):
        await until(lambda: loop.decided == 1)
        flood = [changes.put("services", service(f"s{n}"), new=True) for n in range(101)]
        await manager.writer.write(flood, atomic=False)
        await until(lambda: loop.resets == 2)


async def test_driver_ends_when_cancelled_in_the_middle_of_a_write() -> None:
    manager = Manager()
    stuck = asyncio.Event()

    async def hang(command: bytes, *, timeout: float | None = None) -> None:
        stuck.set()
        await asyncio.Event().wait()

    manager.log.propose = hang  # type: ignore[method-assign]
    loop = Scripted(lambda store, now: Decision([changes.put("services", service("a"), new=True)]))
    async with driven(loop, manager):
        await stuck.wait()
    assert loop.decided == 1


class Forgetful(Scripted):
    """Decides about a service only when it is shown one, and does not care for events that say what changed."""

    def __init__(self) -> None:
        super().__init__(nothing)
        self.due = False

    def reset(self, store: Store) -> None:
        super().reset(store)
        self.due = True

    def observe(self, events: list[Event]) -> None:
        super().observe(events)
        self.due = self.due or any(event.old is None for event in events)

    def decide(self, store: Store, now: datetime) -> Decision:
        self.decided += 1
        found = store.services.get("a")
        if not self.due or found is None or found.rebalance:
            return Decision()
        self.due = False
        return Decision([changes.put("services", msgspec.structs.replace(found, rebalance=True))])


async def test_driver_whose_change_was_refused_decides_anew() -> None:
    manager = Manager()
    await manager.writer.commit([changes.put("services", service("a"), new=True)])
    propose = manager.log.propose
    raced = False

    async def late(command: bytes, *, timeout: float | None = None) -> object:
        """Somebody else's change comes first, and its event is seen before the answer."""
        nonlocal raced
        if not raced:
            raced = True
            found = manager.store.services.get("a")
            assert found is not None
            other = changes.put("services", msgspec.structs.replace(found, asked_ports=[1]))
            await propose(changes.encode(changes.ChangeSet([other], utc_now())))
        return await propose(command, timeout=timeout)

    manager.log.propose = late  # type: ignore[method-assign]
    loop = Forgetful()
    async with driven(loop, manager):
        await until(lambda: (found := manager.store.services.get("a")) is not None and found.rebalance)
    found = manager.store.services.get("a")
    assert found is not None
    assert found.asked_ports == [1]


async def test_driver_whose_loop_cannot_even_begin_tries_again() -> None:
    manager = Manager()
    loop = Scripted(nothing)
    begin = loop.reset
    failures = 3

    def reset(store: Store) -> None:
        nonlocal failures
        begin(store)
        if failures:
            failures -= 1
            raise ZeroDivisionError

    loop.reset = reset  # type: ignore[method-assign]
    async with driven(loop, manager):
        await until(lambda: loop.decided == 1)
    assert len(manager.quiet.errors) == 3
