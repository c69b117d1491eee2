"""What labels ask for, against a naive second reading."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from essaim.certificates.asked.rule_names import hosts_of
from essaim.certificates.asked.wanted import merged, name_error, wanted_by

NAMES = st.sampled_from(["a.example.org", "b.example.org", "c.example.org", "d.example.org"])
LEAF = st.one_of(
    st.lists(NAMES, min_size=1, max_size=2).map(lambda names: ("Host", names)),
    NAMES.map(lambda name: ("HostSNI", [name])),
    st.just(("PathPrefix", ["/x(y"])),
    st.just(("Header", ["Host", "q.example.org"])),
)
TREE = st.recursive(
    LEAF,
    lambda inner: st.one_of(
        inner.map(lambda one: ("!", one)),
        st.tuples(st.sampled_from(["&&", "||"]), inner, inner),
    ),
    max_leaves=8,
)


def written(tree: tuple) -> str:  # type: ignore[type-arg]
    if tree[0] == "!":
        return f"!({written(tree[1])})" if tree[1][0] in ("&&", "||", "!") else f"!{written(tree[1])}"
    if tree[0] in ("&&", "||"):
        return f"({written(tree[1])} {tree[0]} {written(tree[2])})"
    return f"{tree[0]}({', '.join(f'`{value}`' for value in tree[1])})"


def naive(tree: tuple, negated: bool = False) -> list[str]:  # type: ignore[type-arg]
    if tree[0] == "!":
        return naive(tree[1], not negated)
    if tree[0] in ("&&", "||"):
        return [*naive(tree[1], negated), *naive(tree[2], negated)]
    return list(tree[1]) if tree[0].startswith("Host") and not negated else []


@given(TREE)
def test_hosts_of_a_rule_are_those_that_a_walk_over_its_tree_finds(tree: tuple) -> None:  # type: ignore[type-arg]
    assert hosts_of(written(tree)) == list(dict.fromkeys(naive(tree)))


@given(st.text(max_size=80))
def test_hosts_of_anything_never_fail(text: str) -> None:
    hosts_of(text)


def test_labels_ask_for_secrets_authorities_and_orders() -> None:
    wanted = wanted_by(
        "s1",
        {
            "essaim.tls.certificate": "shop, chain:key",
            "essaim.tls.client.ca": "partners",
            "Traefik.HTTP.Routers.Shop.TLS.CertResolver": "le",
            "traefik.http.routers.shop.rule": "Host(`Shop.example.org`, `www.shop.example.org`) && !Host(`x.org`)",
            "traefik.http.routers.plain.rule": "Host(`plain.example.org`)",
            "traefik.tcp.routers.db.tls.certresolver": "le",
            "traefik.tcp.routers.db.tls.domains[0].main": "db.example.org",
            "traefik.tcp.routers.db.tls.domains[0].sans": "db2.example.org,db.example.org",
            "traefik.tcp.routers.db.rule": "HostSNI(`*`)",
        },
    )
    assert wanted.certificates == {"shop": {"s1"}, "chain:key": {"s1"}}
    assert wanted.authorities == {"partners": {"s1"}}
    assert wanted.orders == {
        ("le", ("shop.example.org", "www.shop.example.org")): {"s1"},
        ("le", ("db.example.org", "db2.example.org")): {"s1"},
    }
    assert wanted.problems == []


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        ("Host(`*.example.org`)", "DNS-01"),
        ("HostSNI(`*`)", "DNS-01"),
        ("PathPrefix(`/`)", "its rule has no Host"),
        ("Host(`192.0.2.1`)", "an address"),
        ("Host(`exa mple.org`)", "not a name in DNS"),
        ("Host(" + ",".join(f"`h{n}.example.org`" for n in range(101)) + ")", "100 names at most"),
    ],
)
def test_names_that_cannot_be_proved_are_problems_of_the_service(rule: str, words: str) -> None:
    wanted = wanted_by("s1", {"traefik.http.routers.a.tls.certresolver": "le", "traefik.http.routers.a.rule": rule})
    assert wanted.orders == {}
    assert [one.service_id for one in wanted.problems] == ["s1"]
    assert words in wanted.problems[0].text


def test_good_names_beside_bad_ones_are_ordered() -> None:
    labels = {
        "traefik.http.routers.a.tls.certresolver": "le",
        "traefik.http.routers.a.rule": "Host(`*.example.org`) || Host(`a.example.org`)",
    }
    wanted = wanted_by("s1", labels)
    assert list(wanted.orders) == [("le", ("a.example.org",))]
    assert len(wanted.problems) == 1


def test_disabled_services_order_nothing() -> None:
    labels = {
        "traefik.enable": "false",
        "traefik.http.routers.a.tls.certresolver": "le",
        "traefik.http.routers.a.rule": "Host(`a.example.org`)",
        "essaim.tls.certificate": "shop",
    }
    wanted = wanted_by("s1", labels)
    assert wanted.orders == {}
    assert list(wanted.certificates) == ["shop"]


def test_wants_of_services_are_merged_by_reference() -> None:
    one = wanted_by("s1", {"essaim.tls.certificate": "shop"})
    other = wanted_by("s2", {"essaim.tls.certificate": "shop,more"})
    assert merged([one, other]).certificates == {"shop": {"s1", "s2"}, "more": {"s2"}}
    assert one.certificates == {"shop": {"s1"}}


@pytest.mark.parametrize("name", ["a.example.org", "xn--bcher-kva.example", "localhost", "_x.example.org", "a--b.c"])
def test_names_of_dns_are_good(name: str) -> None:
    assert name_error(name) == ""


@pytest.mark.parametrize("name", ["", ".", "a..b", "-a.example.org", "a" * 64 + ".org", "é.example.org", "a/b"])
def test_what_is_no_name_is_not(name: str) -> None:
    assert name_error(name)
