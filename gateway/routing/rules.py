"""Traefik's rule language: `Host(`a.example`) && (PathPrefix(`/api`) || !Method(`GET`))`.

Matchers by their names in Traefik 3, and version 2's where they mean the same (`Headers`, `HeadersRegexp`). Beyond
Traefik, `Host(`*.example.com`)` is any name one level below. `!` binds tighter than `&&`, that tighter than `||`.
The language is the same for TCP routers, whose matchers are in `tcp.py`.

Pure: text in, a predicate out.
"""

import ipaddress
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl

from essaim.gateway.affinity import values as values_of
from essaim.gateway.http1.head import Request

from .paths import shown

TEMPLATED = ("hostregexp", "path", "pathprefix", "pathregexp")
TEMPLATE = re.compile(r"\{[A-Za-z_]\w*(:[^{}]*(\{[0-9,]*\}[^{}]*)*)?\}")
REGEXPS = "HostRegexp(`^[a-z]+\\.example\\.com$`) and PathRegexp(`^/v[0-9]+/`)"
ODD_ENDS = (".", "]")
TOKEN = re.compile(r"\s*(?:(&&|\|\||!|\(|\)|,)|([A-Za-z]+)|`([^`]*)`|\"([^\"]*)\")")


class BadRule(ValueError):
    """The rule cannot be read; the message says where."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What a rule looks at."""

    request: Request
    path: bytes
    query: bytes
    address: str


Predicate = Callable[[Any], bool]


@dataclass(frozen=True, slots=True)
class Language:
    """Matchers by lower-case name; `names` as users write them; `host`: the one whose values are names of hosts."""

    matchers: Mapping[str, Callable[[list[str]], Predicate]]
    names: tuple[str, ...]
    host: str


@dataclass(frozen=True, slots=True)
class Rule:
    """`hosts`: the only names that can match ("*.x" for wildcards), or None when others can, too."""

    matches: Predicate
    hosts: frozenset[str] | None


def parse_rule(text: str, language: Language | None = None) -> Rule:
    """HTTP's language unless another is given. Raises BadRule."""
    tokens = _tokens(text)
    rule, rest = _either(tokens, language or HTTP)
    if rest:
        raise BadRule(f"{rest[0][1]!r} is not expected there in the rule {text!r}")
    return rule


Tokens = list[tuple[str, str]]


def _tokens(text: str) -> Tokens:
    found: Tokens = []
    position = 0
    while position < len(text.rstrip()):
        token = TOKEN.match(text, position)
        if token is None:
            raise BadRule(f"the rule {text!r} cannot be read from {text[position:].strip()[:20]!r} on")
        sign, name, quoted, double = token.groups()
        found.append(("sign", sign) if sign else ("name", name) if name else ("text", quoted or double or ""))
        position = token.end()
    return found


def _either(tokens: Tokens, language: Language) -> tuple[Rule, Tokens]:
    rule, tokens = _both(tokens, language)
    while tokens and tokens[0] == ("sign", "||"):
        other, tokens = _both(tokens[1:], language)
        rule = _or(rule, other)
    return rule, tokens


def _both(tokens: Tokens, language: Language) -> tuple[Rule, Tokens]:
    rule, tokens = _single(tokens, language)
    while tokens and tokens[0] == ("sign", "&&"):
        other, tokens = _single(tokens[1:], language)
        rule = _and(rule, other)
    return rule, tokens


def _single(tokens: Tokens, language: Language) -> tuple[Rule, Tokens]:
    if not tokens:
        raise BadRule("the rule ends where a matcher is expected")
    kind, value = tokens[0]
    if (kind, value) == ("sign", "!"):
        rule, rest = _single(tokens[1:], language)
        matches = rule.matches
        return Rule(lambda asked: not matches(asked), None), rest
    if (kind, value) == ("sign", "("):
        rule, rest = _either(tokens[1:], language)
        return rule, _expect(rest, ")")
    if kind != "name":
        raise BadRule(f"a matcher is expected instead of {value!r}")
    values: list[str] = []
    rest = _expect(tokens[1:], "(")
    while rest and rest[0][0] == "text":
        values.append(rest[0][1])
        rest = rest[1:]
        if rest and rest[0] == ("sign", ","):
            rest = rest[1:]
    return _matcher(value, values, language), _expect(rest, ")")


def _expect(tokens: Tokens, sign: str) -> Tokens:
    if not tokens or tokens[0] != ("sign", sign):
        raise BadRule(f"{sign!r} is missing in the rule")
    return tokens[1:]


def _and(a: Rule, b: Rule) -> Rule:
    first, second = a.matches, b.matches
    # Either side's names are enough to find the rule by; which of them match is the predicate's business.
    hosts = b.hosts if a.hosts is None else a.hosts
    return Rule(lambda asked: first(asked) and second(asked), hosts)


def _or(a: Rule, b: Rule) -> Rule:
    first, second = a.matches, b.matches
    hosts = None if a.hosts is None or b.hosts is None else a.hosts | b.hosts
    return Rule(lambda asked: first(asked) or second(asked), hosts)


def _matcher(name: str, values: list[str], language: Language) -> Rule:
    make = language.matchers.get(name.lower())
    if make is None:
        raise BadRule(f"there is no matcher {name!r}; there are: {', '.join(language.names)}")
    if not values:
        raise BadRule(f"{name} needs a value in backticks")
    hosts = None
    if name.lower() == language.host and "*" not in values:
        # A wildcard and a name below it may both be meant by one rule: the index takes each as it is written.
        hosts = frozenset(plain_host(value.lower()) for value in values)
    if name.lower() in TEMPLATED and (old := TEMPLATE.search(",".join(values))):
        raise BadRule(f"{name}: {old[0]} is Traefik 2's way to write a pattern; use a regular expression, as {REGEXPS}")
    try:
        return Rule(make(values), hosts)
    except (re.error, ValueError, IndexError) as error:
        raise BadRule(f"{name}({', '.join(values)}): {error}") from error


def plain_host(host: str) -> str:
    """Without the dot that may end a name, and the brackets around an IPv6 address: as rules compare it."""
    return host.removesuffix(".").removeprefix("[").removesuffix("]") if host[-1:] in ODD_ENDS else host


def _host(values: list[str]) -> Predicate:
    names = {plain_host(value.lower()) for value in values if not value.startswith("*.")}
    suffixes = tuple(plain_host(value.lower())[1:] for value in values if value.startswith("*."))

    def matches(asked: Asked) -> bool:
        host = plain_host(asked.request.host.decode("latin-1"))
        if host in names:
            return True
        dot = host.find(".")
        return bool(suffixes) and dot > 0 and host[dot:] in suffixes

    return matches


def _pattern(text: str) -> re.Pattern[bytes]:
    return re.compile(text.encode())


def _host_regexp(values: list[str]) -> Predicate:
    patterns = [re.compile(value.encode(), re.IGNORECASE) for value in values]
    return lambda asked: any(pattern.search(asked.request.host) for pattern in patterns)


def _path(values: list[str]) -> Predicate:
    paths = {_absolute(value) for value in values}
    return lambda asked: shown(asked.path) in paths


def _path_prefix(values: list[str]) -> Predicate:
    prefixes = tuple(_absolute(value) for value in values)
    return lambda asked: shown(asked.path).startswith(prefixes)


def _absolute(value: str) -> bytes:
    if not value.startswith("/"):
        raise ValueError("a path begins with /")
    return value.encode()


def _path_regexp(values: list[str]) -> Predicate:
    patterns = [_pattern(value) for value in values]
    return lambda asked: any(pattern.search(shown(asked.path)) for pattern in patterns)


def _method(values: list[str]) -> Predicate:
    methods = {value.upper().encode() for value in values}
    return lambda asked: asked.request.method in methods


def _header(values: list[str]) -> Predicate:
    name, value = values[0].lower(), values[1].encode()
    return lambda asked: value in values_of(asked.request.fields, name)


def _header_regexp(values: list[str]) -> Predicate:
    name, pattern = values[0].lower(), _pattern(values[1])
    return lambda asked: any(pattern.search(value) for value in values_of(asked.request.fields, name))


def _query(values: list[str]) -> Predicate:
    name, value = (values[0], values[1]) if len(values) > 1 else values[0].partition("=")[::2]
    return lambda asked: (name, value) in parse_qsl(asked.query.decode("latin-1"), keep_blank_values=True)


def _query_regexp(values: list[str]) -> Predicate:
    name, pattern = values[0], re.compile(values[1])
    return lambda asked: any(
        key == name and pattern.search(value)
        for key, value in parse_qsl(asked.query.decode("latin-1"), keep_blank_values=True)
    )


def client_ip(values: list[str]) -> Predicate:
    """Anything with an `address`."""
    networks = [ipaddress.ip_network(value, strict=False) for value in values]

    def matches(asked: Any) -> bool:
        try:
            address = ipaddress.ip_address(asked.address)
        except ValueError:
            return False
        return any(address in network for network in networks)

    return matches


NAMES = (
    "Host", "HostRegexp", "Path", "PathPrefix", "PathRegexp", "Method", "Header", "HeaderRegexp", "Query",
    "QueryRegexp", "ClientIP",
)  # fmt: skip
MATCHERS: dict[str, Callable[[list[str]], Predicate]] = {
    "host": _host,
    "hostregexp": _host_regexp,
    "path": _path,
    "pathprefix": _path_prefix,
    "pathregexp": _path_regexp,
    "method": _method,
    "header": _header,
    "headers": _header,
    "headerregexp": _header_regexp,
    "headersregexp": _header_regexp,
    "query": _query,
    "queryregexp": _query_regexp,
    "clientip": client_ip,
}
HTTP = Language(MATCHERS, NAMES, "host")
