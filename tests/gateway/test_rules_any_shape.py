"""Rules of any shape and size: they mean what a naive reading of them means, and cost a worker little."""

import sys
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from essaim.gateway.codec.message import Request
from essaim.gateway.routing.expression import DEEPEST, LONGEST, MOST_VALUES
from essaim.gateway.routing.matchers import Asked
from essaim.gateway.routing.router import Route, Router
from essaim.gateway.routing.rules import BadRule, parse_rule

HOSTS = ["a", "b", "c"]
PATHS = ["/x", "/y"]
Tree = tuple[str, list["Tree"]] | str
"""A matcher as written, or `&&`, `||`, `!` with its parts."""

matchers = st.sampled_from([
    "Host(`a`)", "Host(`b`)", "Host(`a`, `c`)", "Path(`/x`)", "Path(`/y`)", "PathPrefix(`/`)", "Method(`GET`)",
    "Header(`H`, `1`)", "HostRegexp(`^[ab]$`)", "ClientIP(`192.0.2.0/24`)", "ClientIP(`10.0.0.0/8`)",
])  # fmt: skip
trees: st.SearchStrategy[Tree] = st.recursive(
    matchers,
    lambda inner: st.one_of(
        st.tuples(st.sampled_from(["&&", "||"]), st.lists(inner, min_size=1, max_size=4)),
        st.tuples(st.just("!"), st.lists(inner, min_size=1, max_size=1)),
    ),
    max_leaves=12,
)


def asked(host: str = "a", path: str = "/x", method: str = "GET", fields: bytes = b"") -> Asked:
    request = Request(method.encode(), path.encode(), 1)
    request.host, request.fields = host.encode(), fields
    return Asked(request, path.encode(), b"", "192.0.2.7")


def written(tree: Tree) -> str:
    if isinstance(tree, str):
        return tree
    sign, parts = tree
    if sign == "!":
        return f"!({written(parts[0])})"
    return "(" + f" {sign} ".join(written(part) for part in parts) + ")"


def naive(tree: Tree, what: Asked) -> bool:
    """As it is read, one matcher after the other, each alone."""
    if isinstance(tree, str):
        return parse_rule(tree).matches(what)
    sign, parts = tree
    found = [naive(part, what) for part in parts]
    return not found[0] if sign == "!" else all(found) if sign == "&&" else any(found)


questions = [
    asked(host, path, method, fields)
    for host in HOSTS
    for path in PATHS
    for method, fields in (("GET", b""), ("PUT", b"H: 1\r\n"))
]


@given(trees)
def test_rule_means_what_a_naive_reading_means(tree: Tree) -> None:
    rule = parse_rule(written(tree))
    for what in questions:
        expected = naive(tree, what)
        assert rule.matches(what) is expected
        if expected and rule.hosts is not None:
            assert what.request.host.decode() in rule.hosts, "the router would not be found by this host"


@given(st.lists(trees, min_size=1, max_size=3))
def test_rule_without_parentheses_binds_and_before_or(parts: list[Tree]) -> None:
    flat = [part for part in parts if isinstance(part, str)] or ["Host(`a`)"]
    text = " || ".join(f"{part} && !Method(`PUT`)" for part in flat)
    tree: Tree = ("||", [("&&", [part, ("!", ["Method(`PUT`)"])]) for part in flat])
    assert [parse_rule(text).matches(what) for what in questions] == [naive(tree, what) for what in questions]


HUGE = {
    "hosts in one matcher": ", ".join(f"`h{n}.example`" for n in range(MOST_VALUES)).join(("Host(", ")")),
    "hosts in alternatives": " || ".join(f"Host(`h{n}.example`)" for n in range(MOST_VALUES)),
    "conditions": "Host(`h0.example`) && " + " && ".join("PathPrefix(`/`)" for _ in range(MOST_VALUES - 1)),
    "parentheses": "(" * 20_000 + "Host(`h0.example`)" + ")" * 20_000,
    "exclamation marks": "!" * 20_000 + "Host(`h0.example`)",
    "nested alternatives": "(" * 2_000 + "Host(`h0.example`)" + " || Host(`x`))" * 2_000,
    "nested to the right": "Host(`h0.example`) || (" * 2_000 + "Host(`x`)" + ")" * 2_000,
    "turned": "!(" * 2_000 + "Host(`h0.example`)" + ")" * 2_000,
}


@pytest.mark.parametrize("shape", HUGE)
def test_rule_of_any_size_is_read_and_asked_in_no_time(shape: str) -> None:
    began = time.thread_time()
    rule = parse_rule(HUGE[shape])
    # 10 to 40 ms; what calls itself for each part would not come to an end at all.
    assert time.thread_time() - began < 2.0
    what = asked("h0.example")
    frames = sys.getrecursionlimit()
    sys.setrecursionlimit(len_of_stack() + 30)
    try:
        assert rule.matches(what)
    finally:
        sys.setrecursionlimit(frames)
    assert not rule.matches(asked("other"))


def len_of_stack() -> int:
    depth = 0
    while True:
        try:
            sys._getframe(depth)
        except ValueError:
            return depth
        depth += 1


@pytest.mark.parametrize("shape", ["hosts in one matcher", "hosts in alternatives"])
def test_rule_of_thousands_of_hosts_is_one_look_into_a_set(shape: str) -> None:
    rule, router = parse_rule(HUGE[shape]), Router()
    assert rule.hosts == {f"h{n}.example" for n in range(MOST_VALUES)}
    router.add(Route("r", rule, 1, "p", ()))
    last, other = asked(f"h{MOST_VALUES - 1}.example"), asked("other")
    began = time.thread_time()
    for _ in range(1000):
        assert router.find(last) is not None
        assert router.find(other) is None
    # 2 ms; one host after the other would be 400.
    assert time.thread_time() - began < 0.2


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        ("Host(`a`) || " * MOST_VALUES + "Host(`a`)", "more than 5000 values; give the service several routers"),
        ("Host(`" + "a" * LONGEST + "`)", "longer than 256 KiB; give the service several routers"),
        ("Host(`a`) && (Path(`/`) || " * DEEPEST + "Host(`a`)" + ")" * DEEPEST, "nested more than 64 deep"),
        ("(" * 20_000, "ends where a matcher is expected"),
        ("Host(`a`)" + ")" * 20_000, "is not expected there"),
        ("(" * 20_000 + "Host(`a`)", "')' is missing"),
        ("Host(``)", "empty"),
    ],
)
def test_rule_beyond_what_is_sensible_is_refused_in_a_short_sentence(rule: str, said: str) -> None:
    with pytest.raises(BadRule, match=r"\S") as refused:
        parse_rule(rule)
    assert said in str(refused.value)
    assert len(str(refused.value)) < 300


@given(st.text(alphabet='()!&|,`"aHost \u00b2\u202e\x00', max_size=60))
def test_rule_any_text_is_read_or_refused(text: str) -> None:
    try:
        parse_rule(text).matches(asked())
    except BadRule:
        return
