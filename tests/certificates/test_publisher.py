"""The publisher follows the store, says what is wrong once, and survives a bug."""

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import datetime

import pytest

from essaim.certificates.asked.survey import concern_certificates
from essaim.certificates.keeper import CertificateKeeper
from essaim.cluster.certificates import CertificateBook
from essaim.cluster.service import Service, ServiceSpec
from essaim.cluster.watch import Event
from essaim.cluster.writer import Writer
from tests.certificates import made
from tests.certificates.made import NOW
from tests.certificates.test_book import World
from tests.scheduler.agents import Quiet, until
from tests.scheduler.memory_log import MemoryLog


class Gateways:
    def __init__(self) -> None:
        self.books: list[CertificateBook] = []

    def publish_certificates(self, book: CertificateBook) -> None:
        self.books.append(book)

    async def certificates_served(self, version: int) -> None:
        return

    def gateways_behind(self, version: int) -> list[str]:
        return []

    def gateways_following(self, version: int) -> int:
        return 1


class Publishing(World):
    def __init__(self) -> None:
        super().__init__()
        self.gateways = Gateways()
        self.quiet = Quiet()
        self.writer = Writer(MemoryLog(self.store), self.store, lambda: NOW)
        self.now: Callable[[], datetime] = lambda: NOW
        self.keeper = CertificateKeeper(
            self.store, self.writer, self.gateways, now=lambda: self.now(), monotonic=lambda: 0.0, log=self.quiet
        )

    @property
    def warnings(self) -> list[str]:
        return [
            f"{values['service']}: {values['reason']}" for level, _, values in self.quiet.lines if level == "warning"
        ]


@pytest.fixture
async def world() -> AsyncIterator[Publishing]:
    world = Publishing()
    world.keeper.start()
    yield world
    await world.keeper.stop()


async def test_changes_of_the_store_become_books(world: Publishing) -> None:
    await until(lambda: len(world.gateways.books) == 1)
    world.secret("shop", made.pair("shop.example.org"))
    world.service("web", **{"essaim.tls.certificate": "shop"})
    await until(lambda: [c.name for c in world.gateways.books[-1].certificates] == ["secret shop"])
    assert world.gateways.books[-1].version == world.store.version


async def test_change_that_concerns_no_certificate_makes_no_book(world: Publishing) -> None:
    await until(lambda: len(world.gateways.books) == 1)
    world.service("web", **{"essaim.tls": "true"})
    world.secret("password", b"words")
    world.secret("shop", made.pair("shop.example.org"), essaim_certificate="true")
    await until(lambda: len(world.gateways.books) == 2)
    world.service("web", **{"essaim.tls": "true", "some.label": "x"})
    for _ in range(5):
        await asyncio.sleep(0)
    assert len(world.gateways.books) == 2


async def test_book_is_not_made_for_changes_of_services_without_new_labels(
    world: Publishing, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.service("web", **{"essaim.tls.certificate": "nosuch"})
    await until(lambda: world.gateways.books and world.gateways.books[-1].problems)
    looks: list[datetime] = []

    def now() -> datetime:
        looks.append(NOW)
        return NOW

    world.now = now
    for _ in range(3):
        world.service("web", **{"essaim.tls.certificate": "nosuch"})
        world.service("plain", **{"some.label": str(len(looks))})
        for _ in range(5):
            await asyncio.sleep(0)
    assert looks == []
    world.service("web", **{"essaim.tls.certificate": "other"})
    await until(lambda: looks)


@pytest.mark.parametrize(
    ("before", "after", "concerns"),
    [
        (None, {}, False),
        (None, {"Traefik.enable": "true"}, True),
        ({"essaim.tls.certificate": "a"}, {"essaim.tls.certificate": "a"}, False),
        ({"essaim.tls.certificate": "a"}, {}, True),
        ({"x": "1"}, {"x": "2"}, False),
    ],
)
def test_events_that_concern_certificates_are_told_apart(
    before: dict[str, str] | None, after: dict[str, str], concerns: bool
) -> None:
    old = Service(id="s", spec=ServiceSpec(labels=before)) if before is not None else None
    new = Service(id="s", spec=ServiceSpec(labels=after))
    assert concern_certificates([Event("update" if old else "create", "services", new, old)]) is concerns
    assert concern_certificates([Event("delete", "services", new, new)]) is any("." in label for label in after)


async def test_each_problem_is_logged_once_with_its_service(world: Publishing) -> None:
    world.service("web", **{"essaim.tls.certificate": "nosuch"})
    await until(lambda: world.warnings)
    world.service("other", **{"essaim.tls.certificate": "nosuch"})
    await until(lambda: len(world.warnings) == 2)
    said = "certificate nosuch cannot be used: there is no secret 'nosuch'"
    assert world.warnings == [f"web: {said}", f"other: {said}"]


async def test_bug_is_logged_and_publishing_goes_on(world: Publishing, monkeypatch: pytest.MonkeyPatch) -> None:
    await until(lambda: len(world.gateways.books) == 1)
    monkeypatch.setattr("essaim.certificates.keeper.RETRY", 0.0)
    good, world.now = world.now, lambda: 1 / 0  # type: ignore[assignment,return-value]
    world.service("web", **{"essaim.tls.certificate": "nosuch"})
    await until(lambda: world.quiet.errors)
    world.now = good
    await until(lambda: world.gateways.books[-1].problems)
