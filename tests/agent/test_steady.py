"""One table, book or task that cannot be applied ends no session: the others are applied, and it is tried again."""

import asyncio
from typing import Any

import pytest

from essaim.agent.session.guarded import FIRST, MOST, Steady
from essaim.agent.session.session import SessionEnded
from essaim.cluster import wire
from essaim.cluster.certificate_parts import parts_between
from essaim.cluster.certificates import CertificateBook
from essaim.cluster.overlay import OverlayNetwork
from essaim.cluster.routes import RouteService, RouteTable

from .conftest import MakeAgent
from .doubles import FakeManager, FakeRuntime, make_task, until


def route_table(version: int) -> RouteTable:
    return RouteTable(version=version, services=[RouteService(id="s", name="web")])


class Tables:
    """Applies what it is given, but for the poisoned ones while they are `bad`."""

    def __init__(self) -> None:
        self.bad: set[int] = {1}
        self.tried: list[int] = []

    def take(self, version: int) -> int:
        self.tried.append(version)
        if version in self.bad:
            raise RecursionError("nested too deeply")
        return version

    async def routes(self, table: RouteTable) -> int:
        return self.take(table.version)

    async def book(self, book: CertificateBook) -> None:
        self.take(book.version)

    def networks(self, networks: list[OverlayNetwork]) -> None:
        if networks:
            self.take(networks[0].vxlan)


def network(number: int) -> OverlayNetwork:
    return OverlayNetwork(id="n", name="net", subnet="10.0.0.0/24", gateway="10.0.0.1", vxlan=number)


def book(version: int) -> wire.Certificates:
    (part,) = parts_between(None, CertificateBook(version=version))
    return wire.Certificates(part)


KINDS: dict[str, tuple[str, Any, Any]] = {
    "routes": ("on_routes", lambda version: wire.Routes(route_table(version)), wire.RoutesApplied),
    "book": ("on_certificates", book, wire.CertificatesApplied),
    "networks": ("on_networks", lambda version: wire.Networks([network(version)], version), wire.NetworksApplied),
}


@pytest.mark.parametrize("kind", KINDS)
async def test_agent_whose_table_cannot_be_applied_keeps_its_session_and_tries_again(
    kind: str, make_agent: MakeAgent, manager: FakeManager
) -> None:
    hook, message, answer = KINDS[kind]
    tables = Tables()
    apply = {"on_routes": tables.routes, "on_certificates": tables.book, "on_networks": tables.networks}[hook]
    agent = make_agent(FakeRuntime(), **{hook: apply})
    await agent.start()
    await until(lambda: agent.is_connected)
    await manager.send(message(1))
    await until(lambda: tables.tried.count(1) >= 2)
    await manager.assign(make_task("t1"))
    await until(lambda: manager.state("t1") == "running")
    assert [word.version for word in manager.of_type(answer)] in ([], [0])
    tables.bad.clear()
    await until(lambda: any(word.version == 1 for word in manager.of_type(answer)))
    assert manager.hellos == 1


@pytest.mark.parametrize("kind", KINDS)
async def test_agent_that_cannot_apply_a_table_takes_the_next_one_at_once(
    kind: str, make_agent: MakeAgent, manager: FakeManager
) -> None:
    hook, message, answer = KINDS[kind]
    tables = Tables()
    apply = {"on_routes": tables.routes, "on_certificates": tables.book, "on_networks": tables.networks}[hook]
    agent = make_agent(FakeRuntime(), **{hook: apply})
    await agent.start()
    await until(lambda: agent.is_connected)
    await manager.send(message(1))
    await until(lambda: tables.tried)
    await manager.send(message(2))
    await until(lambda: any(word.version == 2 for word in manager.of_type(answer)))
    assert manager.hellos == 1


async def test_agent_with_a_task_that_it_cannot_read_takes_on_the_others(
    make_agent: MakeAgent, manager: FakeManager
) -> None:
    agent = make_agent(FakeRuntime())
    await agent.start()
    await until(lambda: agent.is_connected)
    bad = make_task("bad", desired="levitating")
    await manager.assign(bad, make_task("good"))
    await until(lambda: manager.state("good") == "running")
    assert manager.state("bad") == "rejected"
    reports = [r for message in manager.of_type(wire.Reports) for r in message.reports if r.task_id == "bad"]
    assert "levitating" in (reports[0].status.err or "")
    assert manager.hellos == 1


async def test_agent_whose_message_handler_fails_keeps_its_session(make_agent: MakeAgent, manager: FakeManager) -> None:
    def fail(managers: list[str]) -> None:
        raise ZeroDivisionError

    agent = make_agent(FakeRuntime(), on_managers=fail)
    await agent.start()
    await until(lambda: agent.is_connected)
    await manager.send(wire.Managers(["m2:2377"]))
    await manager.assign(make_task("t1"))
    await until(lambda: manager.state("t1") == "running")
    assert manager.hellos == 1


class Log:
    def __init__(self) -> None:
        self.errors: list[str] = []

    def error(self, event: str, **_: Any) -> None:
        self.errors.append(event)


async def test_steady_job_is_begun_anew_ever_later_and_logged_once() -> None:
    slept: list[float] = []
    log = Log()
    tries = 0

    async def sleep(seconds: float) -> None:
        slept.append(seconds)
        await asyncio.sleep(0)

    async def work() -> None:
        nonlocal tries
        tries += 1
        if tries < 12:
            raise ZeroDivisionError

    await Steady(sleep, log).job("this", work)  # type: ignore[arg-type]
    assert tries == 12
    assert sum(slept) == sum(min(FIRST * 2**n, MOST) for n in range(11))
    assert len(log.errors) == 1


async def test_steady_job_lets_the_end_of_a_session_pass() -> None:
    async def work() -> None:
        raise SessionEnded("over")

    with pytest.raises(SessionEnded):
        await Steady(asyncio.sleep, Log()).job("this", work)  # type: ignore[arg-type]
