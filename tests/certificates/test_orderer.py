"""The orderer's own clock and limits, with a server that only counts."""

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import pytest

from essaim.certificates.acme import loop, order
from essaim.certificates.acme.loop import AT_ONCE, Orderer
from essaim.certificates.acme.server import AcmeFailure, OrderState
from essaim.cluster.acme import Failure, OrderedCertificate, Resolver, ResolverSpec, certificate_id
from essaim.cluster.writer import Writer
from tests.certificates.test_book import World
from tests.certificates.test_publisher import Gateways
from tests.scheduler.agents import Quiet, until
from tests.scheduler.memory_log import MemoryLog


class Server:
    """Refuses every order, once it may."""

    def __init__(self) -> None:
        self.may_refuse = threading.Event()
        self.may_refuse.set()
        self.begun = 0
        self.registered = 0

    def register(self) -> str:
        self.registered += 1
        if self.registered == 1:
            raise AcmeFailure("not today")
        return "https://ca/account/1"

    def new_order(self, request: bytes) -> str:
        self.begun += 1
        self.may_refuse.wait(10)
        raise AcmeFailure("not you")

    def order(self, url: str) -> OrderState:
        raise AcmeFailure("no such order")

    def close(self) -> None:
        return


class Ordered(World):
    def __init__(self, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__()
        monkeypatch.setattr(order, "AcmeServer", lambda resolver: server)
        self.quiet = Quiet()
        self.log = MemoryLog(self.store)
        self.writer = Writer(self.log, self.store, now)
        self.orderer = Orderer(self.store, self.writer, Gateways(), now, lambda: 0.0, self.quiet)

    def account(self, url: str | None = "https://ca/account/1", failure: Failure | None = None) -> None:
        spec = ResolverSpec(name="le", directory="https://ca/dir")
        self.put("resolvers", Resolver(id="id-le", spec=spec, account_url=url, failure=failure))


def now() -> datetime:
    return datetime.now(UTC)


def soon() -> Failure:
    at = now().timestamp()
    return Failure(reason="before", attempts=1, at=at, retry_at=at + 0.3)


@pytest.fixture
def server() -> Server:
    return Server()


@pytest.fixture
async def world(server: Server, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Ordered]:
    world = Ordered(server, monkeypatch)
    running = asyncio.create_task(world.orderer.run())
    yield world
    server.may_refuse.set()
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running
    assert world.quiet.errors == []


async def test_order_is_tried_again_when_its_pause_is_over_without_any_event(world: Ordered, server: Server) -> None:
    world.account()
    row_id = certificate_id("id-le", ["a.example.org"])
    failure = soon()
    world.put(
        "certificates",
        OrderedCertificate(id=row_id, resolver_id="id-le", domains=["a.example.org"], failure=failure),
    )
    world.routed("web", "a.example.org")
    await until(lambda: server.begun == 1)
    assert now().timestamp() >= failure.retry_at
    await until(lambda: (row := world.store.certificates.get(row_id)) and row.failure and row.failure.attempts == 2)


async def test_account_is_tried_again_when_its_pause_is_over(world: Ordered, server: Server) -> None:
    server.registered = 1
    world.account(url=None, failure=soon())
    await until(lambda: (found := world.store.resolvers.get("id-le")) and found.account_url)
    found = world.store.resolvers.get("id-le")
    assert found is not None
    assert found.failure is None


async def test_nothing_is_ordered_without_an_account(world: Ordered, server: Server) -> None:
    world.account(url=None)
    world.routed("web", "a.example.org")
    await until(lambda: (found := world.store.resolvers.get("id-le")) and found.failure)
    assert server.begun == 0
    assert next(line for line in world.quiet.lines if line[0] == "warning")[2]["reason"] == "not today"


async def test_few_orders_are_open_at_once_and_all_come_to_their_turn(world: Ordered, server: Server) -> None:
    server.may_refuse.clear()
    world.account()
    for number in range(AT_ONCE * 2):
        world.routed(f"web{number}", f"h{number}.example.org")
    await until(lambda: server.begun == AT_ONCE)
    for _ in range(20):
        await asyncio.sleep(0)
    assert server.begun == AT_ONCE
    server.may_refuse.set()
    await until(lambda: server.begun == AT_ONCE * 2)


async def test_lost_quorum_is_waited_out(world: Ordered, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "RETRY", 0.01)
    world.account()
    world.log.has_quorum = False
    world.routed("web", "a.example.org")
    await until(lambda: any("cannot be looked after yet" in line[1] for line in world.quiet.lines))
    world.log.has_quorum = True
    await until(lambda: server.begun == 1)
