"""The certificate book on its way from a session to the node's gateway."""

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


async def send(manager: FakeManager, old: CertificateBook | None, new: CertificateBook) -> None:
    for part in parts_between(old, new, limit=1):
        await manager.send(wire.Certificates(part))


def applied(manager: FakeManager) -> list[int]:
    return [message.version for message in manager.of_type(wire.CertificatesApplied)]


async def test_books_reach_the_gateway_and_are_acknowledged(make_agent: MakeAgent, manager: FakeManager) -> None:
    served: list[CertificateBook] = []
    agent = make_agent(FakeRuntime(), on_certificates=served.append)
    await agent.start()
    await until(lambda: agent.is_connected)
    first, second = book(3, "a", "b", "c"), book(5, "a", "c", "d")
    await send(manager, None, first)
    await until(lambda: applied(manager) == [3])
    await send(manager, first, second)
    await until(lambda: applied(manager) == [3, 5])
    assert served == [first, second]


async def test_new_session_begins_with_the_whole_and_a_wrong_change_ends_it(
    make_agent: MakeAgent, manager: FakeManager
) -> None:
    served: list[CertificateBook] = []
    agent = make_agent(FakeRuntime(), on_certificates=served.append)
    await agent.start()
    await until(lambda: agent.is_connected)
    await send(manager, None, book(3, "a"))
    await until(lambda: applied(manager) == [3])
    await send(manager, book(2, "a"), book(4, "a"))
    await until(lambda: manager.hellos == 2 and agent.is_connected)
    await send(manager, None, book(4, "a", "b"))
    await until(lambda: applied(manager) == [3, 4])
    assert served == [book(3, "a"), book(4, "a", "b")]


async def test_private_keys_are_never_written_to_disk(
    make_agent: MakeAgent, manager: FakeManager, tmp_path: Path
) -> None:
    agent = make_agent(FakeRuntime(), on_certificates=lambda book: None)
    await agent.start()
    await until(lambda: agent.is_connected)
    await send(manager, None, book(3, "a"))
    await until(lambda: applied(manager) == [3])
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert not any(b"a private key" in path.read_bytes() for path in files)
