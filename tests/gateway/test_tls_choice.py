"""Which certificate, which labels, which certificate's warnings: decisions without a socket."""

import errno
import ssl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from essaim.cluster.certificates import Certificate
from essaim.gateway.protocol.options import read_options
from essaim.gateway.protocol.tls_policy import TlsLabels, TlsPolicy, read_tls
from essaim.gateway.routing.rules import BadRule
from essaim.gateway.routing.tcp import Dialled, TcpRoute, TcpRouter, parse_tcp_rule, priority_of
from essaim.gateway.runtime.deadlines import Deadlines
from essaim.gateway.tls.certificates import CertificateStore
from essaim.gateway.tls.contexts import HTTP, CannotUse
from essaim.gateway.tls.handshakes import Handshakes
from essaim.gateway.tls.selection import Index
from essaim.gateway.tls.session import subject_line

from .authority import TestAuthority

LABELS = ["a", "b", "c"]
hosts = st.lists(st.sampled_from(LABELS), min_size=1, max_size=3).map(".".join)
patterns = st.one_of(hosts, hosts.map(lambda host: f"*.{host}"))
certificates = st.lists(st.tuples(st.lists(patterns, max_size=3), st.integers(0, 3)), max_size=5).map(
    lambda drawn: [
        Certificate(name=f"secret s{number}", chain="", key="", names=names, not_after=end)
        for number, (names, end) in enumerate(drawn)
    ]
)


def covers(pattern: str, host: str) -> bool:
    if not pattern.startswith("*."):
        return pattern == host
    return host.count(".") == pattern.count(".") and host.split(".")[1:] == pattern.split(".")[1:]


@given(certificates, hosts, st.lists(st.sampled_from(["s0", "s1", "secret s2", "s7"]), max_size=2, unique=True))
def test_choice_is_that_of_going_through_all(book: list[Certificate], host: str, only: list[str]) -> None:
    allowed = [one for one in book if not only or one.name in only or one.name.removeprefix("secret ") in only]
    best = sorted(allowed, key=lambda one: (-one.not_after, one.name))
    exact = [one.name for one in best if host in one.names]
    wild = [one.name for one in best if any(name[0] == "*" and covers(name, host) for name in one.names)]
    fallback = [one.name for label in only for one in book if label in (one.name, one.name.removeprefix("secret "))]
    assert Index(book).choose(host, tuple(only)) == [*exact, *wild, *fallback, ""][0]


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        ({}, TlsLabels()),
        ({"essaim.tls": "true"}, TlsLabels(everywhere=True)),
        ({"essaim.tls": "443, 8443"}, TlsLabels(ports=(443, 8443))),
        (
            {"essaim.tls.certificate": "a, b,a", "Essaim.TLS.Min": "1.3"},
            TlsLabels(TlsPolicy(certificates=("a", "b"), minimum="1.3")),
        ),
        (
            {"essaim.tls.alpn": "h2,http/1.1"},
            TlsLabels(TlsPolicy(alpn=("h2", "http/1.1"))),
        ),
        (
            {"essaim.tls.client.ca": "corp"},
            TlsLabels(TlsPolicy(client_mode="require", client_ca=("corp",))),
        ),
    ],
)
def test_labels_are_read(labels: dict[str, str], expected: TlsLabels) -> None:
    assert read_tls(labels) == (expected, [])
    assert read_options(labels)[0].tls == expected


@pytest.mark.parametrize(
    ("label", "value", "said"),
    [
        ("min", "1.1", "must be 1.2 or 1.3"),
        ("client.mode", "request", "would not be verified"),
        ("client.mode", "require", "needs essaim.tls.client.ca"),
        ("client.modus", "require", "known are: essaim.tls.alpn, essaim.tls.certificate"),
        ("ciphers", "A B", "OpenSSL's names"),
    ],
)
def test_label_that_cannot_be_honoured_refuses_instead_of_weakening(label: str, value: str, said: str) -> None:
    found, warnings = read_tls({"essaim.tls": "true", f"essaim.tls.{label}": value})
    assert said in found.policy.refused
    assert warnings == [f"TLS is refused: {found.policy.refused}"]
    certificate_store = CertificateStore()
    certificate_store.change([TestAuthority().certificate("", "a.example")], [])
    with pytest.raises(CannotUse):
        certificate_store.context("a.example", found.policy, HTTP)


def test_context_is_kept_until_its_certificate_or_its_authority_changes() -> None:
    authority, certificate_store = TestAuthority(), CertificateStore()
    first, second = authority.certificate("secret a", "a.example"), authority.certificate("secret b", "b.example")
    certificate_store.change([first, second], [])
    certificate_store.trust([authority.authority("corp")])
    plain, strict = TlsPolicy(), TlsPolicy(client_mode="require", client_ca=("corp",))
    kept, closed = (
        certificate_store.context("b.example", plain, HTTP),
        certificate_store.context("b.example", strict, HTTP),
    )
    assert closed.verify_mode is ssl.CERT_REQUIRED
    before = certificate_store.context("a.example", plain, HTTP)
    certificate_store.change([authority.certificate("secret a", "a.example")], [])
    assert certificate_store.context("a.example", plain, HTTP) is not before
    assert certificate_store.context("b.example", plain, HTTP) is kept
    assert [one.name for one in certificate_store.book().certificates] == ["secret a", "secret b"]
    certificate_store.trust([TestAuthority().authority("corp")])
    assert certificate_store.context("b.example", strict, HTTP) is not closed
    assert certificate_store.context("b.example", plain, HTTP) is kept
    certificate_store.change([first], [], anew=True)
    assert [one.name for one in certificate_store.book().certificates] == ["secret a"]
    certificate_store.change([second], ["secret a"])
    assert [one.name for one in certificate_store.book().certificates] == ["secret b"]
    certificate_store.trust([])
    with pytest.raises(CannotUse, match="none of the authorities corp is there"):
        certificate_store.context("b.example", strict, HTTP)


def test_context_is_tried_again_where_only_descriptors_were_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    certificate_store = CertificateStore()
    certificate_store.change([TestAuthority().certificate("secret a", "a.example")], [])

    def full(name: str, flags: int) -> int:
        raise OSError(errno.EMFILE, "Too many open files")

    with monkeypatch.context() as patched:
        patched.setattr("os.memfd_create", full)
        with pytest.raises(CannotUse, match="too many open files"):
            certificate_store.context("a.example", TlsPolicy(), HTTP)
    assert certificate_store.context("a.example", TlsPolicy(), HTTP)


def test_subject_cannot_break_out_of_its_line() -> None:
    line = subject_line(((("organizationName", 'A"\r\nX-Evil: 1'),), (("commonName", "b"),)))
    assert line.count(b"\r\n") == 1
    assert line.endswith(b"%2CCN%3Db%22\r\n")


class Slow:
    def __init__(self) -> None:
        self.deadline = 10.0
        self.ended = False

    def expire(self) -> None:
        self.ended = True


def test_handshakes_beyond_the_limit_take_the_oldest_ones_place() -> None:
    deadlines = Deadlines()
    handshakes = Handshakes(deadlines, most=2)
    first, second, third = Slow(), Slow(), Slow()
    for one in (first, second, third):
        handshakes.enter(one)
    assert (first.ended, second.ended, third.ended) == (True, False, False)
    assert deadlines.members == {second, third}
    handshakes.leave(second)
    handshakes.leave(second)
    assert (len(handshakes), deadlines.members) == (1, {third})


def tcp_route(rule: str, *, tls: bool = True, priority: int = 0) -> TcpRoute:
    return TcpRoute(rule, parse_tcp_rule(rule, tls=tls), priority_of(rule, priority), rule, tls, None, False)


@pytest.mark.parametrize(
    ("name", "protocols", "address", "expected"),
    [
        ("db.example", (), "192.0.2.1", "HostSNI(`db.example`)"),
        ("DB.example".lower(), (), "10.0.0.1", "HostSNI(`db.example`) && ClientIP(`10.0.0.0/8`)"),
        ("x.wild.example", (), "192.0.2.1", "HostSNI(`*.wild.example`)"),
        ("r12.example", (), "192.0.2.1", r"HostSNIRegexp(`^r\d+\.example$`)"),
        ("none.example", (b"mqtt",), "192.0.2.1", "ALPN(`mqtt`) && !HostSNI(`db.example`)"),
        ("none.example", (), "192.0.2.1", "HostSNI(`*`)"),
        ("", (), "192.0.2.1", "HostSNI(`*`)"),
    ],
)
def test_tcp_router_takes_the_most_exact_rule(
    name: str, protocols: tuple[bytes, ...], address: str, expected: str
) -> None:
    router = TcpRouter()
    routes = [
        tcp_route(rule)
        for rule in (
            "HostSNI(`*`)", "HostSNI(`db.example`)", "HostSNI(`db.example`) && ClientIP(`10.0.0.0/8`)",
            "HostSNI(`*.wild.example`)", r"HostSNIRegexp(`^r\d+\.example$`)", "ALPN(`mqtt`) && !HostSNI(`db.example`)",
        )
    ]  # fmt: skip
    for route in routes:
        router.add(route)
    found = router.find(Dialled(name, protocols, address), secure=True)
    assert found is not None
    assert found.name == expected
    assert router.find(Dialled(name, protocols, address), secure=False) is None
    for route in routes:
        router.remove(route)
    assert not router.has(secure=True)


def test_tcp_rules_that_can_never_match_are_refused() -> None:
    for rule in ("HostSNI(`a`)", "ClientIP(`10.0.0.1`) && ALPN(`h2`)", "HostSNIRegexp(`a`)"):
        with pytest.raises(ValueError, match="without tls no name is known"):
            parse_tcp_rule(rule, tls=False)
    parse_tcp_rule("HostSNI(`*`) && ClientIP(`10.0.0.1`)", tls=False)
    with pytest.raises(BadRule, match="the gateway's own"):
        parse_tcp_rule("ALPN(`acme-tls/1`)", tls=True)
