"""The book out of the store: what is in it, and what is told instead."""

from datetime import timedelta

import pytest

from essaim.certificates.book.book import BookMaker
from essaim.cluster.acme import Failure, Order, OrderedCertificate, Resolver, ResolverSpec, certificate_id
from essaim.cluster.certificates import AlpnChallenge, CertificateBook, HttpChallenge
from essaim.cluster.changes import ChangeSet, Delete, encode, put
from essaim.cluster.objects import Config, ConfigSpec, Secret, SecretSpec
from essaim.cluster.service import Service, ServiceSpec
from essaim.cluster.shape import StoredObject
from essaim.cluster.store import Store
from tests.certificates import made
from tests.certificates.made import NOW

AT = NOW.timestamp()


class World:
    def __init__(self) -> None:
        self.store = Store()
        self.maker = BookMaker()

    def put(self, table: str, value: StoredObject) -> None:
        assert self.store.apply(self.store.version + 1, encode(ChangeSet([put(table, value, force=True)], NOW))).ok

    def delete(self, table: str, object_id: str) -> None:
        assert self.store.apply(self.store.version + 1, encode(ChangeSet([Delete(table, object_id)], NOW))).ok

    def secret(self, name: str, data: bytes | None, **labels: str) -> None:
        spec = SecretSpec(name=name, data=data, labels={key.replace("_", "."): value for key, value in labels.items()})
        self.put("secrets", Secret(id=f"id-{name}", spec=spec))

    def config(self, name: str, data: bytes) -> None:
        self.put("configs", Config(id=f"id-{name}", spec=ConfigSpec(name=name, data=data)))

    def service(self, name: str, **labels: str) -> None:
        self.put("services", Service(id=name, spec=ServiceSpec(name=name, labels=dict(labels))))

    def routed(self, name: str, host: str, resolver: str = "le") -> None:
        router = f"traefik.http.routers.{name}"
        self.service(name, **{f"{router}.rule": f"Host(`{host}`)", f"{router}.tls.certresolver": resolver})

    def resolver(self, name: str = "le") -> None:
        self.put("resolvers", Resolver(id=f"id-{name}", spec=ResolverSpec(name=name, directory="https://ca/dir")))

    def book(self, at: float = AT) -> CertificateBook:
        return self.maker.make(self.store, at)

    def names(self) -> list[str]:
        return [one.name for one in self.book().certificates]

    def told(self, at: float = AT) -> list[tuple[str, str]]:
        return [(one.service_id, one.text) for one in self.book(at).problems]


def test_secrets_that_services_ask_for_are_in_the_book_and_no_others() -> None:
    world = World()
    world.secret("shop", made.self_signed("a", "shop.example.org"))
    world.secret("other", made.self_signed("b", "other.example.org"))
    world.secret("offered", made.self_signed("c", "*.example.org"), essaim_certificate="true")
    world.service("web", **{"essaim.tls.certificate": "shop"})
    book = world.book()
    assert [(one.name, one.names) for one in book.certificates] == [
        ("secret offered", ["*.example.org"]),
        ("secret shop", ["shop.example.org"]),
    ]
    assert book.problems == []
    assert book.version == world.store.version
    world.service("web", **{"traefik.http.routers.web.tls": "true"})
    assert world.names() == ["secret offered"]


@pytest.mark.parametrize(
    ("label", "value", "needed"),
    [
        ("essaim.tls", "443", True),
        ("Essaim.TLS.Min", "1.3", True),
        ("traefik.http.routers.a.tls", "true", True),
        ("traefik.tcp.routers.a.tls.passthrough", "true", True),
        ("traefik.http.routers.a.entrypoints", "web,websecure", True),
        ("traefik.http.routers.a.rule", "Host(`a.example.org`)", False),
        ("essaim.balance", "random", False),
    ],
)
def test_offered_certificate_is_in_the_book_once_a_service_may_end_tls(label: str, value: str, needed: bool) -> None:
    world = World()
    world.secret("offered", made.self_signed("c", "*.example.org"), essaim_certificate="true")
    world.service("web")
    assert world.names() == []
    world.service("web", **{label: value})
    assert world.names() == (["secret offered"] if needed else [])


def test_chain_and_key_may_be_of_two_objects() -> None:
    chain, key = made.issued("a.example.org")
    world = World()
    world.config("chain", b"".join(chain))
    world.secret("key", key)
    world.service("web", **{"essaim.tls.certificate": "chain:key"})
    assert world.names() == ["secret chain:key"]


def test_broken_certificates_are_told_to_each_service_that_asks() -> None:
    world = World()
    world.secret("broken", b"words")
    world.config("open", made.pair("a.example.org"))
    world.secret("driven", None)
    for name in ("one", "two"):
        world.service(name, **{"essaim.tls.certificate": "broken,open,nosuch,driven", "essaim.tls.client.ca": "broken"})
    told = world.told()
    assert world.names() == []
    assert {service for service, _ in told} == {"one", "two"}
    said = [text for service, text in told if service == "one"]
    for words in (
        "certificate broken cannot be used: it holds no certificate",
        "certificate open cannot be used: open is a config, which anybody may read",
        "certificate nosuch cannot be used: there is no secret 'nosuch'",
        "certificate driven cannot be used: secret driven has no content of its own",
        "client authority broken cannot be used",
    ):
        assert any(words in text for text in said), (words, said)


def test_offered_secret_that_is_broken_is_told_to_nobody_in_particular() -> None:
    world = World()
    world.secret("broken", b"words", essaim_certificate="true")
    assert [service for service, _ in world.told()] == [""]


def test_age_is_told_before_and_after_the_end() -> None:
    world = World()
    world.secret("shop", made.self_signed("a", "shop.example.org"))
    world.service("web", **{"essaim.tls.certificate": "shop"})
    assert world.told() == []
    assert world.told(AT + timedelta(days=80).total_seconds()) == [("web", "certificate shop expires on 2026-08-30")]
    assert world.told(AT + timedelta(days=91).total_seconds()) == [
        ("web", "certificate shop has expired on 2026-08-30")
    ]
    assert world.told(AT - timedelta(days=2).total_seconds()) == [
        ("web", "certificate shop is not valid before 2026-05-31")
    ]
    assert world.names() == ["secret shop"]


def test_authorities_come_by_the_name_of_the_label() -> None:
    world = World()
    world.config("partners", made.root().cert_pem.bytes())
    world.service("web", **{"essaim.tls.client.ca": "partners"})
    (authority,) = world.book().authorities
    assert authority.name == "partners"
    assert authority.chain == made.root().cert_pem.bytes().decode()


def test_authorities_beyond_what_a_message_holds_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    data = made.root().cert_pem.bytes()
    monkeypatch.setattr("essaim.certificates.book.book.MOST_AUTHORITIES", len(data) + 10)
    world = World()
    for name in ("a", "b"):
        world.config(name, data)
    world.service("web", **{"essaim.tls.client.ca": "a,b"})
    assert [one.name for one in world.book().authorities] == ["a"]
    assert "client authority b cannot be used: all services' authorities together" in world.told()[0][1]


def test_replaced_secret_of_the_same_name_is_read_anew() -> None:
    world = World()
    world.secret("shop", b"words", essaim_certificate="true")
    world.service("web", **{"essaim.tls": "true"})
    assert world.names() == []
    world.delete("secrets", "id-shop")
    spec = SecretSpec(name="shop", data=made.pair("a.example.org"), labels={"essaim.certificate": "true"})
    world.put("secrets", Secret(id="another", spec=spec))
    assert world.names() == ["secret shop"]


def ordered(*domains: str, **fields: object) -> OrderedCertificate:
    row = certificate_id("id-le", domains)
    return OrderedCertificate(id=row, resolver_id="id-le", domains=sorted(domains), **fields)  # type: ignore[arg-type]


def test_missing_resolver_is_told() -> None:
    world = World()
    world.routed("web", "a.example.org", resolver="nosuch")
    ((service, text),) = world.told()
    assert service == "web"
    assert "there is no certificate resolver 'nosuch'" in text


def test_issued_certificates_are_in_the_book_while_they_are_wanted() -> None:
    world = World()
    world.resolver()
    world.routed("web", "a.example.org")
    world.put("certificates", ordered("a.example.org", chain="C", key="K", not_before=AT - 1, not_after=AT + 9e6))
    world.put("certificates", ordered("b.example.org", chain="C", key="K", not_before=AT - 1, not_after=AT + 9e6))
    (one,) = world.book().certificates
    assert (one.name, one.names, one.not_after) == ("acme le a.example.org", ["a.example.org"], AT + 9e6)


def test_two_certificates_of_one_first_name_have_names_of_their_own() -> None:
    world = World()
    world.resolver()
    for number, domains in enumerate((("a.example.org", "b.example.org"), ("a.example.org", "c.example.org"))):
        world.routed(f"web{number}", "`,`".join(domains))
        world.put("certificates", ordered(*domains, chain="C", key="K", not_before=AT - 1, not_after=AT + 9e6))
    names = world.names()
    assert len(set(names)) == 2
    assert names[0] == "acme le a.example.org +1"


def test_failure_is_told_with_its_reason_and_the_next_attempt() -> None:
    world = World()
    world.resolver()
    world.routed("web", "a.example.org")
    failure = Failure(reason="the server says no", attempts=3, at=AT, retry_at=AT + 60)
    world.put("certificates", ordered("a.example.org", failure=failure))
    ((service, text),) = world.told()
    assert (service, text) == (
        "web",
        "no certificate for a.example.org: the server says no (attempt 3; the next one at 2026-06-01 00:01:00 UTC)",
    )


def test_challenges_of_orders_in_progress_are_in_the_book() -> None:
    world = World()
    order = Order(
        url="https://ca/order/1",
        key="K",
        begun_at=AT,
        http_challenges=[HttpChallenge(token="t", answer="t.x")],
        alpn_challenges=[AlpnChallenge(domain="a.example.org", chain="C", key="K")],
    )
    world.put("certificates", ordered("a.example.org", order=order))
    book = world.book()
    assert [one.token for one in book.http_challenges] == ["t"]
    assert [one.domain for one in book.alpn_challenges] == ["a.example.org"]


def test_certificates_are_read_ahead_a_step_each_and_once() -> None:
    world = World()
    world.service("web", **{"essaim.tls": "true"})
    for number in range(3):
        world.secret(f"s{number}", made.pair("a.example.org"), essaim_certificate="true")
    world.secret("broken", b"words", essaim_certificate="true")
    assert len(list(world.maker.read_ahead(world.store))) == 4
    assert len(world.names()) == 3
    assert list(world.maker.read_ahead(world.store)) == []


def test_label_that_names_an_ordered_certificate_asks_for_no_secret() -> None:
    world = World()
    world.service("web", **{"essaim.tls.certificate": "acme le a.example.org"})
    assert world.told() == []


def test_failed_renewal_is_told_as_such_and_the_old_one_served() -> None:
    world = World()
    world.resolver()
    world.routed("web", "a.example.org")
    failure = Failure(reason="no", attempts=1, at=AT, retry_at=AT + 60)
    row = ordered("a.example.org", chain="C", key="K", not_before=AT - 1, not_after=AT + 9e6, failure=failure)
    world.put("certificates", row)
    ((_, text),) = world.told()
    assert text.startswith("the certificate for a.example.org is not renewed: no (attempt 1;")
    assert world.names() == ["acme le a.example.org"]


def test_resolvers_and_certificates_survive_a_snapshot() -> None:
    world = World()
    world.resolver()
    world.put("certificates", ordered("a.example.org", chain="C", key="K"))
    restored = Store()
    restored.restore(9, world.store.snapshot()())
    assert list(restored.certificates) == list(world.store.certificates)
    assert restored.resolvers.named("le") == world.store.resolvers.named("le")
