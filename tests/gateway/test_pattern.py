"""Patterns are Go's: what they match, what is refused and why, and that no text makes them slow."""

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from essaim.gateway.routing.middlewares.expansion import LONGEST, Expansion, TooLong
from essaim.gateway.routing.pattern import BadPattern, Pattern, as_utf8


@pytest.mark.parametrize(
    ("pattern", "text", "expected"),
    [
        ("^/[[:alnum:]]+$", b"/ab1", True),
        ("^/[[:^digit:]]+$", b"/ab1", False),
        ("^/x\\z", b"/x", True),
        ("^/x$", b"/x\n", False),
        ("^/\\pL+$", "/äñ字".encode(), True),
        ("^/\\p{Greek}+$", "/αβ".encode(), True),
        ("^/\\Qa.b\\E$", b"/a.b", True),
        ("^/\\Qa.b\\E$", b"/axb", False),
        ("^/(?i)api$", b"/API", True),
        ("(?U)^/a+$", b"/aaa", True),
        ("^/(?P<n>a)(?<m>b)$", b"/ab", True),
        ("^/\\w$", "/é".encode(), False),
        ("^/.$", "/é".encode(), True),
        ("^/.$", b"/\xe9", True),
        ("^/..$", b"/\xe9\xff", True),
        ("^/\\x{FFFD}$", b"/\xe9", True),
        ("^/a\x00b$", b"/a\x00b", True),
    ],
)
def test_pattern_matches_as_in_go(pattern: str, text: bytes, expected: bool) -> None:
    assert Pattern(pattern).matches(text) is expected


@pytest.mark.parametrize(
    ("pattern", "said"),
    [
        ("(", "missing"),
        ("a{1001}", "invalid repetition size"),
        ("a{99999999999}", "at most 1000"),
        ("a{2,99999999}", "invalid repetition size"),
        ("(a{100}){100}", "invalid repetition size"),
        ("(?=a)", "look-aheads are not in Go's syntax"),
        ("(?!a)", "look-aheads are not in Go's syntax"),
        ("(?<=a)b", "look-behinds are not in Go's syntax"),
        ("(?<!a)b", "look-behinds are not in Go's syntax"),
        ("(a)\\1", "back-references are not in Go's syntax"),
        ("(?P<n>a)(?P=n)", "cannot be used"),
        ("a\\Z", "write \\z for the end of the text"),
        ("\\C", "Go does not match single bytes"),
        ("\\pL{500}", "it takes more than 1 MiB; use fewer or smaller repetitions"),
        ("a" * 20_000, "longer than 16384 characters"),
        ("\ud800", "not Unicode"),
    ],
)
def test_pattern_that_go_refuses_is_refused_with_the_reason(pattern: str, said: str) -> None:
    with pytest.raises(BadPattern, match=re.escape(said)):
        Pattern(pattern)


@pytest.mark.parametrize(
    "pattern", ["(?P<n>a)(?P<n>b)", "[(?P<n>](?P<n>a)", "\\Q{99999999}\\E", "[{9999999}]", "\\{99999999}", "\\\\C"]
)
def test_pattern_that_only_looks_refused_is_taken(pattern: str) -> None:
    Pattern(pattern)


def test_pattern_refused_prints_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    for pattern in ("(", "\\pL{500}", "(?=a)"):
        with pytest.raises(BadPattern):
            Pattern(pattern)
    found = Pattern("(?:(?:.?){30}){30}z")
    found.matches(bytes(range(1, 128)) * 60)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("pattern", "text"),
    [
        ("^/((a+)+)+$", b"/" + b"a" * 8000 + b"!"),
        ("^/(?:[a-z0-9-]+/?)+\\.php$", b"/" + b"a" * 8000 + b"!"),
        ("^/([a-z]+)*$", b"/" + b"a" * 8000 + b"!"),
        ("(x+x+)+y", b"x" * 8000),
        ("(?:[ab]*a[ab]{100}c)", b"ab" * 4000),
    ],
)
def test_pattern_takes_no_longer_than_the_text_is(pattern: str, text: bytes) -> None:
    found = Pattern(pattern)
    began = time.thread_time()
    assert not found.matches(text)
    # Some 5 ms at most; with an engine that goes back it would be years.
    assert time.thread_time() - began < 1.0


@given(st.text(max_size=30))
def test_pattern_any_text_is_taken_or_refused(pattern: str) -> None:
    try:
        found = Pattern(pattern, groups=True)
    except BadPattern:
        return
    found.matches(b"/abc")


@given(st.text(alphabet="ab.*+?|()[]^$-", max_size=10), st.text(alphabet="ab-", max_size=8))
def test_pattern_of_the_common_syntax_matches_what_python_matches(pattern: str, text: str) -> None:
    try:
        here, there = Pattern(pattern), re.compile(pattern)
    except (BadPattern, re.error):
        return
    if re.search(r"[*+?]{2}|\(\?", pattern):
        # Possessive and lazy repetitions are written alike and mean something else.
        return
    assert here.matches(text.encode()) == (there.search(text) is not None)


@given(st.binary(max_size=12))
def test_text_is_read_as_utf8_with_one_character_for_each_byte_that_is_none(text: bytes) -> None:
    found = as_utf8(text).decode()
    naive = ""
    while text:
        for length in range(1, 5):
            try:
                naive, text = naive + text[:length].decode(), text[length:]
                break
            except UnicodeDecodeError:
                if length == 4:
                    naive, text = naive + "\ufffd", text[1:]
    assert found == naive


@pytest.mark.parametrize(
    ("pattern", "replacement", "text", "found"),
    [
        ("", "-", "é", "-é-"),
        ("(a)", "$01", "a", ""),
        ("(a)", "${1", "a", "${1"),
        ("(a)", "${}", "a", "${}"),
        ("(a)", "$99999999999", "a", ""),
        ("(?P<n>a)", "${n}$n$m", "a", "aa"),
        ("(?P<n>a)", "$nx", "a", ""),
    ],
)
def test_expansion_of_odd_references_is_gos(pattern: str, replacement: str, text: str, found: str) -> None:
    assert Expansion(pattern, replacement).replace(text.encode()).decode() == found


@pytest.mark.parametrize(("pattern", "replacement"), [("(.*)", "$1" * 8000), ("", "x" * 9000), ("(a)", "$1" * 100)])
def test_expansion_that_grows_without_bound_is_given_up(pattern: str, replacement: str) -> None:
    with pytest.raises(TooLong):
        Expansion(pattern, replacement).replace(b"a" * 8000)
    assert len(Expansion(pattern, replacement).replace(b"a")) <= LONGEST
