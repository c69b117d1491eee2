"""One order, step by step, with a server that behaves as others than pebble do."""

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest
from msgspec.structs import replace

from essaim.certificates.acme import order
from essaim.certificates.acme.challenge_keys import new_key
from essaim.certificates.acme.order import Ordering
from essaim.certificates.acme.renewal import due_at
from essaim.certificates.acme.server import AcmeFailure, OrderState, Proof
from essaim.cluster.acme import HTTP, TLS_ALPN, OrderedCertificate, Resolver, ResolverSpec, certificate_id
from essaim.cluster.writer import Writer
from tests.certificates.test_book import World
from tests.certificates.test_publisher import Gateways
from tests.scheduler.agents import Quiet
from tests.scheduler.memory_log import MemoryLog

ROW = certificate_id("id-le", ["a.example.org"])


class Server:
    """Goes through `states`, one a look; a pending order's challenge stays pending, as Boulder's does."""

    def __init__(self, *states: str) -> None:
        self.states: Iterator[str] = iter(states)
        self.said: list[str] = []
        self.failure: AcmeFailure | None = None

    def new_order(self, request: bytes) -> str:
        self.said.append("new order")
        return "https://ca/order/1"

    def order(self, url: str) -> OrderState:
        if self.failure is not None:
            raise self.failure
        return OrderState(next(self.states), body=SimpleNamespace())  # type: ignore[arg-type]

    def proofs(self, state: OrderState) -> list[Proof]:
        challenge: Any = SimpleNamespace()
        return [Proof("a.example.org", "pending", "token", "token.thumbprint", "", challenge)]

    def answer(self, proof: Proof) -> None:
        self.said.append(f"answered {proof.token}")

    def finalize(self, url: str, state: OrderState, request: bytes) -> None:
        self.said.append("finalised")

    def close(self) -> None:
        self.said.append("closed")


class Orders(World):
    def __init__(self, server: Server, monkeypatch: pytest.MonkeyPatch, challenge: str = HTTP) -> None:
        super().__init__()
        monkeypatch.setattr(order, "AcmeServer", lambda resolver: server)
        self.quiet = Quiet()
        self.slept: list[float] = []
        self.writer = Writer(MemoryLog(self.store), self.store, lambda: datetime.now(UTC))
        self.ordering = Ordering(self.store, self.writer, Gateways(), lambda: datetime.now(UTC), self.sleep, self.quiet)
        spec = ResolverSpec(name="le", challenge=challenge)
        self.put("resolvers", Resolver(id="id-le", spec=spec, account_key=new_key(), account_url="https://ca/1"))
        self.put("certificates", OrderedCertificate(id=ROW, resolver_id="id-le", domains=["a.example.org"]))

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        await asyncio.sleep(0)

    def row(self) -> OrderedCertificate:
        row = self.store.certificates.get(ROW)
        assert row is not None
        return row


@pytest.mark.parametrize("challenge", [HTTP, TLS_ALPN])
async def test_challenge_that_stays_pending_is_answered_once(monkeypatch: pytest.MonkeyPatch, challenge: str) -> None:
    server = Server(*["pending"] * 4, "ready", "processing", "invalid")
    orders = Orders(server, monkeypatch, challenge)
    await orders.ordering.order(ROW)
    assert server.said == ["new order", "answered token", "finalised", "closed"]


async def test_looks_at_one_state_are_spaced_more_and_more(monkeypatch: pytest.MonkeyPatch) -> None:
    orders = Orders(Server(*["processing"] * 8, "invalid"), monkeypatch)
    await orders.ordering.order(ROW)
    assert orders.slept == [0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0, 5.0]


async def test_order_that_the_server_calls_invalid_is_a_failure_without_challenges(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    orders = Orders(Server("pending", "invalid"), monkeypatch)
    await orders.ordering.order(ROW)
    row = orders.row()
    assert row.order is None
    assert row.failure is not None
    assert "does not say why" in row.failure.reason


async def test_too_many_requests_leave_the_server_alone_for_an_hour(monkeypatch: pytest.MonkeyPatch) -> None:
    server = Server()
    server.failure = AcmeFailure("too many certificates already issued", is_limited=True)
    orders = Orders(server, monkeypatch)
    await orders.ordering.order(ROW)
    failure = orders.row().failure
    assert failure is not None
    assert failure.retry_at - failure.at == 3600


async def test_order_that_takes_too_long_is_a_failure_with_that_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(order, "ORDER_SECONDS", 0.05)
    orders = Orders(Server(*["processing"] * 1_000_000), monkeypatch)
    await orders.ordering.order(ROW)
    failure = orders.row().failure
    assert failure is not None
    assert failure.reason.startswith("the order was not done within")


async def test_renewal_that_a_user_wants_is_tried_again_until_it_succeeds(monkeypatch: pytest.MonkeyPatch) -> None:
    server = Server()
    server.failure = AcmeFailure("no")
    orders = Orders(server, monkeypatch)
    orders.put("certificates", replace(orders.row(), chain="C", not_before=0, not_after=9e9, is_forced=True))
    await orders.ordering.order(ROW)
    row = orders.row()
    assert row.failure is not None
    assert due_at(row) == row.failure.retry_at
