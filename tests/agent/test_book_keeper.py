"""The certificate book on its way from a session to the node's gateway."""

import asyncio
from pathlib import Path

from essaim.cluster import wire
from essaim.cluster.certificate_parts import parts_between
from essaim.cluster.certificates import Certificate, CertificateBook

from .conftest import MakeAgent
from .doubles import FakeManager, FakeRuntime, until


def book(version: int, *names: str) -> CertificateBook:
    return CertificateBook(
        version=version, certificates=[Certificate(name=name, chain="chain", key="a private key") for name in names]
    )


class Gateway:
    """Serves a book once it is let."""

    def __init__(self) -> None:
        self.served: list[CertificateBook] = []
        self.may = asyncio.Event()
        self.may.set()

    async def serve(self, book: CertificateBook) -> None:
        await self.may.wait()
        self.served.append(book)


async def send(manager: FakeManager, old: CertificateBook | None, new: CertificateBook) -> None:
    for part in parts_between(old, new, limit=1):
        await manager.send(wire.Certificates(part))


def applied(manager: FakeManager) -> list[int]:
    return [message.version for message in manager.of_type(wire.CertificatesApplied)]


async def test_books_reach_the_gateway_and_are_acknowledged(make_agent: MakeAgent, manager: FakeManager) -> None:
    gateway = Gateway()
    agent = make_agent(FakeRuntime(), on_certificates=gateway.serve)
    await agent.start()
    await until(lambda: agent.is_connected)
    first, second = book(3, "a", "b", "c"), book(5, "a", "c", "d")
    await send(manager, None, first)
    await until(lambda: applied(manager) == [3])
    await send(manager, first, second)
    await until(lambda: applied(manager) == [3, 5])
    assert gateway.served == [first, second]


async def test_book_is_acknowledged_only_once_the_gateway_serves_and_the_newest_is_enough(
    make_agent: MakeAgent, manager: FakeManager
) -> None:
    gateway = Gateway()
    gateway.may.clear()
    agent = make_agent(FakeRuntime(), on_certificates=gateway.serve)
    await agent.start()
    await until(lambda: agent.is_connected)
    await send(manager, None, book(1, "a"))
    for version in (1, 2, 3):
        await send(manager, book(version, "a"), book(version + 1, "a"))
    await until(lambda: agent._books._newest == book(4, "a"))
    assert applied(manager) == []
    gateway.may.set()
    await until(lambda: applied(manager)[-1:] == [4])
    assert len(gateway.served) <= 2


async def test_new_session_begins_with_the_whole_and_a_wrong_change_ends_it(
    make_agent: MakeAgent, manager: FakeManager
) -> None:
    gateway = Gateway()
    agent = make_agent(FakeRuntime(), on_certificates=gateway.serve)
    await agent.start()
    await until(lambda: agent.is_connected)
    await send(manager, None, book(3, "a"))
    await until(lambda: applied(manager) == [3])
    await send(manager, book(2, "a"), book(4, "a"))
    await until(lambda: manager.hellos == 2 and agent.is_connected)
    await send(manager, None, book(4, "a", "b"))
    await until(lambda: applied(manager) == [3, 4])
    assert gateway.served == [book(3, "a"), book(4, "a", "b")]


async def test_private_keys_are_never_written_to_disk(
    make_agent: MakeAgent, manager: FakeManager, tmp_path: Path
) -> None:
    agent = make_agent(FakeRuntime(), on_certificates=Gateway().serve)
    await agent.start()
    await until(lambda: agent.is_connected)
    await send(manager, None, book(3, "a"))
    await until(lambda: applied(manager) == [3])
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert not any(b"a private key" in path.read_bytes() for path in files)
