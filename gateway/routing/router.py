"""Which router takes a request: by host first, then by priority.

Routers whose rule names hosts are found by that name in a dictionary, so that a look-up costs the same with ten
routers and with ten thousand; only those for any host are tried one by one.

Pure: requests in, routes out.
"""

from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from essaim.gateway.protocol.tls_policy import TlsPolicy

from .call import Middleware
from .matchers import Asked, plain_host
from .rules import Rule

ANY = ""


@dataclass(frozen=True, slots=True, eq=False)
class Route:
    """A router, ready to be asked. Greater priority first; among equals by name.

    `tls`: the rules by which its clients' connections must have come in; None for the clear.
    """

    name: str
    rule: Rule
    priority: int
    port_key: str
    chain: tuple[Middleware, ...]
    tls: TlsPolicy | None = None


class Ruled(Protocol):
    @property
    def name(self) -> str: ...
    @property
    def rule(self) -> Rule: ...
    @property
    def priority(self) -> int: ...


R = TypeVar("R", bound=Ruled)


class ByHost(Generic[R]):
    """Routes by the hosts that their rules name."""

    def __init__(self) -> None:
        self._by_host: dict[str, list[R]] = {}

    @property
    def is_used(self) -> bool:
        return bool(self._by_host)

    def add(self, route: R) -> None:
        for host in _places(route):
            routes = self._by_host.setdefault(host, [])
            routes.append(route)
            routes.sort(key=_order)

    def remove(self, route: R) -> None:
        for host in _places(route):
            routes = self._by_host[host]
            routes.remove(route)
            if not routes:
                del self._by_host[host]

    def first(self, host: str, asked: Any) -> R | None:
        """The first route whose rule matches."""
        by_host = self._by_host
        best: R | None = None
        for routes in (by_host.get(host), by_host.get(_wildcard(host)), by_host.get(ANY)):
            for route in routes or ():
                if best is not None and _order(best) <= _order(route):
                    break
                if route.rule.matches(asked):
                    best = route
                    break
        return best

    def naming(self, host: str) -> R | None:
        """The first route whose rule names this host, whatever else it asks for."""
        named = [*self._by_host.get(host, ())[:1], *self._by_host.get(_wildcard(host), ())[:1]] if host else []
        return min(named, key=_order, default=None)

    def for_any(self) -> R | None:
        return next(iter(self._by_host.get(ANY, ())), None)


class Router(ByHost[Route]):
    """The HTTP routers of one entry point, those in the clear or those behind TLS."""

    def find(self, asked: Asked) -> Route | None:
        return self.first(plain_host(asked.request.host.decode("latin-1")), asked)

    def names(self, host: str) -> bool:
        return self.naming(host) is not None

    def policy(self, host: str) -> TlsPolicy | None:
        """By which rules a client comes in that asks for this name before it has asked for anything else."""
        route = self.naming(host) or self.for_any()
        return route.tls if route else None


def _order(route: Ruled) -> tuple[int, str]:
    return -route.priority, route.name


def _places(route: Ruled) -> list[str]:
    return [ANY] if route.rule.hosts is None else sorted(route.rule.hosts)


def _wildcard(host: str) -> str:
    return "*" + host[host.find(".") :] if "." in host else "*"
