"""Patterns beside the real Traefik: Go's engine and RE2 match the same paths, replace the same, and refuse the same."""

from pathlib import Path

import pytest

from essaim.gateway.routing.rules import BadRule, Rule, parse_rule

from .beside_traefik import TRAEFIK, answers, asked_of, middleware_differences, traefik
from .conftest import Backends

pytestmark = pytest.mark.skipif(TRAEFIK is None, reason="traefik is not installed")

PATTERNS = [
    "^/[[:alnum:]]+$", "^/[[:^digit:]]+$", "^/[[:word:].]+$", "^/x\\z", "^/x$", "^/\\pL+$", "^/\\p{Greek}$", "^/\\PL+$",
    "^/\\Qa.b\\E$", "^/(?i)api", "(?i:^/API)$", "(?U)^/x+?$", "^/(?P<n>a)", "^/(?<n>a)", "^/a{2,3}$", "^/a{1000}$",
    "^/a{1001}$", "^/a{99999999999}$", "^/a{,2}$", "^/(a{100}){100}$", "^/.$", "^/..$", "^/\\w+$", "^/\\S+\\s\\S+$",
    "^/[^a]$", "^/\\x{e9}$", "^/\\xe9$", "^/\\351$", "^/\\C$", "^/(?=a)", "^/(?!a)", "^/(?<=a)b", "^/(a)\\1$", "\\Z",
    "^/(?P<n>a)(?P<n>b)", "^/[z-a]", "^/a**", "*", "(", ")", "^/a|^/b$", "^(/a|/b)+$", "^/\\bab\\b$", "^/a\\Bb$",
    "(?m)^/x$", "(?s)^/.x$", "^/.x$", "^/([a-z]+)*$", "^/[[:foo:]]", "^/\\pX", "^/\\d+\\.\\d*$", "^/a++b", "(?i)^/É$",
    "^/\\u00e9", "[[:alpha:]", "(?z)a", "^/[\\d-a]+$", "^/[a\\-z]$", "\\A/x", "^/x\\n?$", "^/(?:)$", "^/$", "",
]  # fmt: skip
PATHS = [
    ("GET", path, "a.example", "")
    for path in (
        "/", "/x", "/xx", "/x%0A", "/x/", "/api", "/API/v1", "/a", "/aa", "/aaa", "/aaaa", "/ab", "/abab", "/a.b",
        "/axb", "/abc", "/1", "/12.5", "/-", "/%C3%A9", "/%C3%89", "/%CE%B1", "/%E9", "/%FF%FE", "/%0Ax", "/a%20b",
        "/b", "/a{,2}", "/" + "a" * 1000, "/aaaaaaaaaaaaaaaaaaaaaaaaaaaaa!", "/d-1", "/z",
    )
]  # fmt: skip
FIELDS = [("GET", "/", "a.example", f"X-A: {value}") for value in ("a", "é", "€", "one two", "a\tb")]
FIELD_PATTERNS = ["^.$", "^..$", "^\\w$", "^\\pL$", "^\\S+\\s\\S+$", "^[[:ascii:]]+$"]


def _rule(text: str) -> Rule | None:
    try:
        return parse_rule(text)
    except BadRule:
        return None


async def _differences(
    folder: Path, backend: int, rules: list[str], asked: list[tuple[str, str, str, str]]
) -> list[str]:
    routers = [{"rule": rule} for rule in [*rules, "PathPrefix(`/`)"]]
    different: list[str] = []
    async with traefik(folder, backend, routers) as ports:
        log = (folder / "log").read_text()
        for number, (text, port) in enumerate(zip(rules, ports, strict=False)):
            rule = _rule(text)
            if (rule is None) != (f"r{number}@file" in log):
                different.append(f"{text}: refused here or there only")
            for question, (status, _) in zip(asked, await answers(port, asked), strict=True):
                here = rule is not None and rule.matches(asked_of(question))
                if here != (status == 200):
                    different.append(f"{text} {question[1][:40]} {question[3]}: there {status}, here {here}")
    return different


async def test_patterns_match_and_are_refused_as_in_traefik(tmp_path: Path, backends: Backends) -> None:
    rules = [f"PathRegexp(`{pattern}`)" for pattern in PATTERNS]
    different = await _differences(tmp_path, await backends.web("s"), rules, PATHS)
    assert not different, "\n".join(different)


async def test_patterns_for_fields_match_utf8_as_in_traefik(tmp_path: Path, backends: Backends) -> None:
    rules = [f"HeaderRegexp(`X-A`, `{pattern}`)" for pattern in FIELD_PATTERNS]
    different = await _differences(tmp_path, await backends.web("s"), rules, FIELDS)
    assert not different, "\n".join(different)


REPLACED = [
    ("[[:alpha:]]+", "x$0"), ("^/(?P<n>[a-z]+)", "/${n}1-$n1-$2"), ("(a)|(b)", "x$2y$1"), ("(?:c|$)", "-"),
    ("^/api(?:/(.*))?$", "/$1"), ("(?i)API", "x$$-${0}$"), ("/*$", "/end"), ("([a-z])", "$1$1"), ("[a-z]*$", "!"),
]  # fmt: skip


async def test_replacements_are_traefiks(tmp_path: Path, backends: Backends) -> None:
    made = [("replacePathRegex", {"regex": regex, "replacement": text}) for regex, text in REPLACED]
    different = await middleware_differences(tmp_path, await backends.web("s"), made)
    assert not different, "\n".join(different)
