"""What Traefik's rules can ask of a request: the matchers by their names in Traefik 3, and version 2's where they mean
the same (`Headers`, `HeadersRegexp`). Beyond Traefik, `Host(`*.example.com`)` is any name one level below.

Pure: values in, predicates out.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl

from essaim.gateway.codec.fields import values as values_of
from essaim.gateway.codec.message import Request
from essaim.gateway.protocol.addresses import Networks

from .paths import shown
from .pattern import Pattern

ODD_ENDS = (".", "]")
TEMPLATE = re.compile(r"(?<!\\[pPx])\{[A-Za-z_]\w*(:[^{}]*(\{[0-9,]*\}[^{}]*)*)?\}")
TEMPLATED = ("hostregexp", "path", "pathprefix", "pathregexp")
REGEXPS = "HostRegexp(`^[a-z]+\\.example\\.com$`) and PathRegexp(`^/v[0-9]+/`)"


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
    """Matchers by lower-case name; `names` as users write them; `host`: the one whose values are names of hosts.

    `any_of`: those that match when one of their values does: `M(a) || M(b)` is `M(a, b)`.
    """

    matchers: Mapping[str, Callable[[list[str]], Predicate]]
    names: tuple[str, ...]
    host: str
    any_of: frozenset[str]


def check_template(name: str, values: list[str]) -> None:
    """Raises ValueError for a pattern in Traefik 2's way."""
    for value in values if name.lower() in TEMPLATED else ():
        if old := TEMPLATE.search(value):
            raise ValueError(f"{old[0][:80]} is Traefik 2's way to write a pattern; use regular expressions: {REGEXPS}")


def plain_host(host: str) -> str:
    """Without the dot that may end a name, and the brackets around an IPv6 address: as rules compare it."""
    return host.removesuffix(".").removeprefix("[").removesuffix("]") if host[-1:] in ODD_ENDS else host


def _host(values: list[str]) -> Predicate:
    names = {plain_host(value.lower()) for value in values if not value.startswith("*.")}
    suffixes = {plain_host(value.lower())[1:] for value in values if value.startswith("*.")}

    def matches(asked: Asked) -> bool:
        host = plain_host(asked.request.host.decode("latin-1"))
        if host in names:
            return True
        dot = host.find(".")
        return bool(suffixes) and dot > 0 and host[dot:] in suffixes

    return matches


def _any_pattern(values: list[str], *, ignore_case: bool = False) -> Callable[[bytes], bool]:
    patterns = [Pattern(value, ignore_case=ignore_case) for value in values]
    if len(patterns) == 1:
        return patterns[0].matches
    return lambda text: any(pattern.matches(text) for pattern in patterns)


def _host_regexp(values: list[str]) -> Predicate:
    matches = _any_pattern(values, ignore_case=True)
    return lambda asked: matches(asked.request.host)


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
    matches = _any_pattern(values)
    return lambda asked: matches(shown(asked.path))


def _method(values: list[str]) -> Predicate:
    methods = {value.upper().encode() for value in values}
    return lambda asked: asked.request.method in methods


def _header(values: list[str]) -> Predicate:
    name, value = values[0].lower(), _second(values).encode()
    return lambda asked: value in values_of(asked.request.fields, name)


def _header_regexp(values: list[str]) -> Predicate:
    name, pattern = values[0].lower(), Pattern(_second(values))
    return lambda asked: any(pattern.matches(value) for value in values_of(asked.request.fields, name))


def _second(values: list[str]) -> str:
    if len(values) < 2:
        raise ValueError("two values are needed: a name, and what it must be")
    return values[1]


def _query(values: list[str]) -> Predicate:
    name, value = (values[0], values[1]) if len(values) > 1 else values[0].partition("=")[::2]
    return lambda asked: (name, value) in _pairs(asked.query)


def _query_regexp(values: list[str]) -> Predicate:
    name, pattern = values[0], Pattern(_second(values))
    return lambda asked: any(key == name and pattern.matches(value.encode()) for key, value in _pairs(asked.query))


def _pairs(query: bytes) -> list[tuple[str, str]]:
    return parse_qsl(query.decode("latin-1"), keep_blank_values=True)


def client_ip(values: list[str]) -> Predicate:
    """Anything with an `address`."""
    networks = Networks(value.strip() for value in values)
    return lambda asked: asked.address in networks


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
ANY_OF = frozenset({"host", "hostregexp", "path", "pathprefix", "pathregexp", "method", "clientip"})
HTTP = Language(MATCHERS, NAMES, "host", ANY_OF)
