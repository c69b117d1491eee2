"""Traefik's TCP routers: which connection goes where, by what its ClientHello says and who sends it.

The rule language is that of `rules.py` with matchers of its own. In the clear nothing is known of a name: only
`HostSNI(`*`)` matches there.

Pure: a connection's beginning in, a route out.
"""

import re
from dataclasses import dataclass

from essaim.gateway.protocol.tls_policy import TlsPolicy

from .matchers import Language, Predicate, client_ip
from .pattern import Pattern
from .router import ByHost
from .rules import Rule, parse_rule
from .tcp_middlewares import Guard

CATCH_ALL = re.compile(r"\s*HostSNI\s*\(\s*[`\"]\*[`\"]\s*\)\s*", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Dialled:
    """What a rule looks at: the name ("" if none) and the protocols of the ClientHello, and the client's address."""

    name: str
    protocols: tuple[bytes, ...]
    address: str


@dataclass(frozen=True, slots=True, eq=False)
class TcpRoute:
    """`secure`: for connections with TLS, which is ended here by the policy, or passed through if that is None."""

    name: str
    rule: Rule
    priority: int
    port_key: str
    secure: bool
    tls: TlsPolicy | None
    is_catch_all: bool
    guards: tuple[Guard, ...] = ()


class TcpRouter:
    """The TCP routers of one entry point."""

    def __init__(self) -> None:
        self._routes: dict[bool, ByHost[TcpRoute]] = {False: ByHost(), True: ByHost()}

    def add(self, route: TcpRoute) -> None:
        self._routes[route.secure].add(route)

    def remove(self, route: TcpRoute) -> None:
        self._routes[route.secure].remove(route)

    def find(self, dialled: Dialled, *, secure: bool) -> TcpRoute | None:
        return self._routes[secure].first(dialled.name, dialled)

    def has(self, *, secure: bool) -> bool:
        return self._routes[secure].is_used


def priority_of(rule: str, wanted: int) -> int:
    """Its length unless it says otherwise; any name for anybody comes last, as in Traefik."""
    return wanted or (-1 if CATCH_ALL.fullmatch(rule) else len(rule))


def parse_tcp_rule(rule: str, *, tls: bool) -> Rule:
    """Raises BadRule, and ValueError for a rule that can never match."""
    parsed = parse_rule(rule, TCP)
    if not tls and re.search(r"HostSNI(Regexp)?\s*\((?!\s*[`\"]\*[`\"]\s*\))|ALPN\s*\(", rule, re.IGNORECASE):
        raise ValueError("without tls no name is known: its rule may use HostSNI(`*`) and ClientIP only")
    return parsed


def _host_sni(values: list[str]) -> Predicate:
    names = {value.lower().removesuffix(".") for value in values if not value.startswith("*")}
    suffixes = {value[1:].lower() for value in values if value.startswith("*.")}
    if "*" in values:
        return lambda dialled: True

    def matches(dialled: Dialled) -> bool:
        dot = dialled.name.find(".")
        return dialled.name in names or (dot > 0 and dialled.name[dot:] in suffixes)

    return matches


def _host_sni_regexp(values: list[str]) -> Predicate:
    patterns = [Pattern(value, ignore_case=True) for value in values]
    return lambda dialled: any(pattern.matches(dialled.name.encode()) for pattern in patterns)


def _alpn(values: list[str]) -> Predicate:
    if "acme-tls/1" in values:
        raise ValueError("acme-tls/1 is the gateway's own, to prove names to an ACME server")
    wanted = {value.encode() for value in values}
    return lambda dialled: not wanted.isdisjoint(dialled.protocols)


TCP = Language(
    {"hostsni": _host_sni, "hostsniregexp": _host_sni_regexp, "clientip": client_ip, "alpn": _alpn},
    ("HostSNI", "HostSNIRegexp", "ClientIP", "ALPN"),
    "hostsni",
    frozenset({"hostsni", "hostsniregexp", "clientip", "alpn"}),
)
