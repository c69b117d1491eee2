"""Certificates ordered from a real ACME server by the leader's keeper, with one gateway that answers by the book."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509.verification import PolicyBuilder
from cryptography.x509.verification import Store as Trusted
from msgspec.structs import replace

from essaim.certificates.acme import order
from essaim.certificates.acme.challenge_keys import new_key
from essaim.certificates.acme.renewal import PAUSE_FIRST
from essaim.certificates.keeper import CertificateKeeper
from essaim.cluster.acme import HTTP, TLS_ALPN, OrderedCertificate, Resolver, ResolverSpec
from essaim.cluster.certificates import CertificateBook
from essaim.cluster.writer import Writer
from tests.certificates.answering import Answering
from tests.certificates.pebble import Pebble, pebble
from tests.certificates.test_book import World
from tests.ports import free_port
from tests.scheduler.agents import Quiet, until
from tests.scheduler.memory_log import MemoryLog

pytestmark = [pytest.mark.root, pytest.mark.blocking_allowed]
LIFETIME = 90 * 24 * 3600
EAB_KEY = "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W"


class Gateway:
    """Serves the newest book, unless it is `frozen`. `beside`: another one that never follows."""

    def __init__(self, answering: Answering) -> None:
        self._answering = answering
        self.books: list[CertificateBook] = []
        self.frozen = False
        self.beside = ""
        self._moved = asyncio.Event()

    def publish_certificates(self, book: CertificateBook) -> None:
        self.books.append(book)
        if not self.frozen:
            self._answering.book = book
        self.moved()

    def moved(self) -> None:
        """A book is served by, or a gateway has come or gone: who waits looks again."""
        self._moved.set()

    async def certificates_served(self, version: int) -> None:
        while self.gateways_behind(version):
            self._moved.clear()
            await self._moved.wait()

    def gateways_behind(self, version: int) -> list[str]:
        return (["node7"] if not self.gateways_following(version) else []) + ([self.beside] if self.beside else [])

    def gateways_following(self, version: int) -> int:
        return int(self._answering.book.version >= version)


class Cluster(World):
    """A leader's keeper over a store in memory. `later` is how far the cluster's clock is ahead."""

    def __init__(self, server: Pebble, answering: Answering) -> None:
        super().__init__()
        self.server = server
        self.answering = answering
        self.gateway = Gateway(answering)
        self.later = timedelta()
        self.quiet = Quiet()
        self.writer = Writer(MemoryLog(self.store), self.store, self.now)
        self.keeper = self.new_keeper()

    def now(self) -> datetime:
        return datetime.now(UTC) + self.later

    def new_keeper(self) -> CertificateKeeper:
        self.keeper = CertificateKeeper(
            self.store, self.writer, self.gateway, now=self.now, monotonic=lambda: 0.0, log=self.quiet
        )
        self.keeper.start()
        return self.keeper

    def advance(self, seconds: float) -> None:
        """Move the clock, and have the keeper look at it."""
        self.later += timedelta(seconds=seconds)
        self.service("clock", **{"traefik.moved": str(self.later)})

    def pebble_resolver(self, challenge: str = HTTP, **spec: str) -> None:
        fields = {"ca_certificate": self.server.ca_file.read_text(), "directory": self.server.directory} | spec
        made = ResolverSpec(name="le", email="ops@example.org", challenge=challenge, **fields)
        self.put("resolvers", Resolver(id="id-le", spec=made, account_key=new_key()))

    def row(self) -> OrderedCertificate:
        (row,) = self.store.certificates
        return row

    async def issued(self, *, but_not: str = "", within: float = 30) -> OrderedCertificate:
        await until(lambda: len(self.store.certificates) and self.row().chain not in ("", but_not), within=within)
        return self.row()

    async def problem(self, words: str) -> str:
        def found() -> list[str]:
            return [one.text for one in self.gateway.books[-1].problems if words in one.text]

        await until(found)
        return found()[0]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pebble]:
    folder = tmp_path_factory.mktemp("pebble")
    settings = {"certificateValidityPeriod": LIFETIME, "domainBlocklist": ["blocked.example.org"]}
    with pebble(folder, http_port=free_port(), tls_port=free_port(), **settings) as made:
        yield made


@pytest.fixture
async def answering(server: Pebble) -> AsyncIterator[Answering]:
    async with Answering(server.http_port, server.tls_port) as made:
        yield made


@pytest.fixture
async def cluster(server: Pebble, answering: Answering) -> AsyncIterator[Cluster]:
    cluster = Cluster(server, answering)
    yield cluster
    await cluster.keeper.stop()
    assert cluster.quiet.errors == []


def verified(row: OrderedCertificate, root: str, name: str) -> x509.Certificate:
    """The leaf, once a client that trusts the root accepts the chain for the name."""
    leaf, *others = x509.load_pem_x509_certificates(row.chain.encode())
    trusted = Trusted([x509.load_pem_x509_certificate(root.encode())])
    verifier = PolicyBuilder().store(trusted).build_server_verifier(x509.DNSName(name))
    verifier.verify(leaf, others)
    return leaf


@pytest.mark.parametrize("challenge", [HTTP, TLS_ALPN])
async def test_certificate_is_ordered_proved_and_served(cluster: Cluster, challenge: str) -> None:
    cluster.pebble_resolver(challenge)
    cluster.routed("web", "a.example.org`,`b.example.org")
    row = await cluster.issued()
    leaf = verified(row, cluster.server.root(), "b.example.org")
    assert row.domains == ["a.example.org", "b.example.org"]
    assert row.not_after - row.not_before == pytest.approx(LIFETIME, abs=2)
    assert leaf.not_valid_after_utc.timestamp() == row.not_after
    assert row.order is None
    assert len(cluster.answering.asked) >= 2
    assert all(("tls" in asked) == (challenge == TLS_ALPN) for asked in cluster.answering.asked)
    await until(lambda: [c.name for c in cluster.answering.book.certificates] == ["acme le a.example.org +1"])
    assert cluster.answering.book.http_challenges == cluster.answering.book.alpn_challenges == []
    assert cluster.answering.book.problems == []


async def test_certificate_is_renewed_with_a_third_left_and_served_meanwhile(cluster: Cluster) -> None:
    cluster.pebble_resolver()
    cluster.routed("web", "a.example.org")
    first = await cluster.issued()
    cluster.advance(LIFETIME * 0.6)
    await asyncio.sleep(0)
    assert cluster.row().order is None
    cluster.advance(LIFETIME * 0.1)
    second = await cluster.issued(but_not=first.chain)
    assert second.key != first.key
    served = cluster.gateway.books[cluster.gateway.books.index(_with(cluster, first)) :]
    assert all(book.certificates for book in served)


def _with(cluster: Cluster, row: OrderedCertificate) -> CertificateBook:
    return next(book for book in cluster.gateway.books if [c.chain for c in book.certificates] == [row.chain])


async def test_renewal_is_forced_by_a_user(cluster: Cluster) -> None:
    cluster.pebble_resolver()
    cluster.routed("web", "a.example.org")
    first = await cluster.issued()
    cluster.put("certificates", replace(first, is_forced=True))
    second = await cluster.issued(but_not=first.chain)
    assert second.is_forced is False


async def test_order_is_taken_up_by_the_next_leader(cluster: Cluster) -> None:
    cluster.gateway.frozen = True
    cluster.pebble_resolver()
    cluster.routed("web", "a.example.org")
    await until(lambda: len(cluster.store.certificates) and cluster.row().order and _of(cluster).http_challenges)
    url = _of(cluster).url
    await cluster.keeper.stop()
    assert _of(cluster).url == url
    cluster.gateway.frozen = False
    cluster.new_keeper()
    await cluster.issued()
    finished = [values for _, event, values in cluster.quiet.lines if event == "a certificate was issued"]
    assert len(finished) == 1
    begun = [book for book in cluster.gateway.books if book.http_challenges]
    assert len({challenge.token for book in begun for challenge in book.http_challenges}) == 1


def _of(cluster: Cluster) -> order.Order:
    order = cluster.row().order
    assert order is not None
    return order


async def test_order_of_what_is_wanted_no_more_is_given_up_at_once(cluster: Cluster) -> None:
    cluster.gateway.frozen = True
    cluster.pebble_resolver()
    cluster.routed("web", "a.example.org")
    await until(lambda: len(cluster.store.certificates) and cluster.row().order and _of(cluster).http_challenges)
    cluster.service("web")
    await until(lambda: len(cluster.store.certificates) == 0 and not cluster.gateway.books[-1].http_challenges)
    cluster.gateway.frozen = False
    cluster.routed("web", "a.example.org")
    await cluster.issued(within=10)


async def test_server_is_not_asked_to_look_before_any_gateway_serves(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(order, "GATEWAY_SECONDS", 0.2)
    cluster.gateway.frozen = True
    cluster.pebble_resolver()
    cluster.routed("web", "a.example.org")
    said = await cluster.problem("no gateway served the challenge")
    assert "behind: node7" in said
    assert cluster.answering.asked == []
    assert cluster.row().order is None


async def test_order_goes_on_without_a_gateway_that_does_not_follow(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(order, "GATEWAY_SECONDS", 0.2)
    cluster.gateway.beside = "node9"
    cluster.pebble_resolver()
    cluster.routed("web", "a.example.org")
    await cluster.issued(within=10)
    assert any(values.get("behind") == ["node9"] for _, _, values in cluster.quiet.lines)


async def test_failure_names_the_gateways_that_were_left_behind(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The one that followed answers wrongly, as if the server had asked the other one."""
    monkeypatch.setattr(order, "GATEWAY_SECONDS", 0.2)
    cluster.gateway.publish_certificates = lambda book: cluster.gateway.books.append(book)  # type: ignore[method-assign]
    cluster.gateway.gateways_following = lambda version: 1  # type: ignore[method-assign]
    cluster.gateway.beside = "node9"
    cluster.pebble_resolver()
    cluster.routed("web", "a.example.org")
    assert "node9 did not serve the challenge" in await cluster.problem("a.example.org: ")


async def test_refusal_of_a_name_is_told_and_tried_again_later(cluster: Cluster) -> None:
    cluster.pebble_resolver()
    cluster.routed("web", "blocked.example.org")
    said = await cluster.problem("blocked.example.org")
    assert "rejectedIdentifier" in said
    assert "attempt 1" in said
    failure = cluster.row().failure
    assert failure is not None
    assert failure.retry_at - failure.at == PAUSE_FIRST
    cluster.advance(PAUSE_FIRST + 1)
    assert "attempt 2" in await cluster.problem("attempt 2")


async def test_wrong_answer_is_told_with_the_servers_reason(cluster: Cluster) -> None:
    cluster.gateway.publish_certificates = lambda book: cluster.gateway.books.append(book)  # type: ignore[method-assign]
    cluster.gateway.certificates_served = _at_once  # type: ignore[method-assign]
    cluster.pebble_resolver()
    cluster.routed("web", "a.example.org")
    said = await cluster.problem("a.example.org: ")
    assert "404" in said
    assert "unauthorized" in said


async def _at_once(version: int) -> None:
    return


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"ca_certificate": ""}, "cannot be reached: certificate verify failed"),
        ({"directory": "https://127.0.0.1:1/dir"}, "cannot be reached: Connection refused"),
    ],
)
async def test_account_that_cannot_be_had_is_told_with_the_reason(
    cluster: Cluster, spec: dict[str, str], words: str
) -> None:
    cluster.pebble_resolver(**spec)
    cluster.routed("web", "a.example.org")

    def resolver() -> Resolver:
        (found,) = cluster.store.resolvers
        return found

    await until(lambda: resolver().failure)
    failure = resolver().failure
    assert failure is not None
    assert words in failure.reason
    assert cluster.row().order is None
    assert "resolver le has no account" in await cluster.problem(words)


async def test_server_that_forgot_the_account_gets_it_anew(cluster: Cluster) -> None:
    cluster.pebble_resolver()
    await until(lambda: next(iter(cluster.store.resolvers)).account_url)
    (known,) = cluster.store.resolvers
    cluster.put("resolvers", replace(known, account_url=f"{known.account_url}0", account_key=new_key()))
    cluster.routed("web", "a.example.org")
    await cluster.problem("registered anew")
    cluster.advance(PAUSE_FIRST + 1)
    await cluster.issued()


async def test_unwanted_certificates_are_kept_until_they_end(cluster: Cluster) -> None:
    cluster.pebble_resolver()
    cluster.routed("web", "a.example.org")
    first = await cluster.issued()
    cluster.service("web")
    await until(lambda: cluster.answering.book.certificates == [])
    cluster.advance(LIFETIME * 0.9)
    cluster.routed("web", "b.example.org")
    await until(lambda: any(row.domains == ["b.example.org"] and row.chain for row in cluster.store.certificates))
    kept = cluster.store.certificates.get(first.id)
    assert kept is not None
    assert kept.chain == first.chain
    cluster.advance(LIFETIME * 0.11)
    await until(lambda: cluster.store.certificates.get(first.id) is None)


async def test_binding_that_is_demanded_is_told(tmp_path: Path, answering: Answering) -> None:
    settings = {"externalAccountBindingRequired": True, "externalAccountMACKeys": {"kid-1": EAB_KEY}}
    with pebble(tmp_path, http_port=answering.http_port, tls_port=answering.tls_port, **settings) as strict:
        cluster = Cluster(strict, answering)
        try:
            cluster.pebble_resolver()
            await until(lambda: next(iter(cluster.store.resolvers)).failure)
            failure = next(iter(cluster.store.resolvers)).failure
            assert failure is not None
            assert "--eab-kid and --eab-key" in failure.reason
            cluster.delete("resolvers", "id-le")
            cluster.pebble_resolver(eab_kid="kid-1", eab_key=EAB_KEY)
            cluster.routed("web", "a.example.org")
            await cluster.issued()
        finally:
            await cluster.keeper.stop()
