"""Which router takes a request: by host first, then by priority.

Routers whose rule names hosts are found by that name in a dictionary, so that a look-up costs the same with ten
routers and with ten thousand; only those for any host are tried one by one.

Pure: requests in, routes out.
"""

from dataclasses import dataclass

from .call import Middleware
from .rules import Asked, Rule

ANY = ""


@dataclass(frozen=True, slots=True, eq=False)
class Route:
    """A router, ready to be asked. Greater priority first; among equals by name."""

    name: str
    rule: Rule
    priority: int
    port_key: str
    chain: tuple[Middleware, ...]


class Router:
    """The routers of one entry point."""

    def __init__(self) -> None:
        self._by_host: dict[str, list[Route]] = {}

    def add(self, route: Route) -> None:
        for host in _places(route):
            routes = self._by_host.setdefault(host, [])
            routes.append(route)
            routes.sort(key=_order)

    def remove(self, route: Route) -> None:
        for host in _places(route):
            routes = self._by_host[host]
            routes.remove(route)
            if not routes:
                del self._by_host[host]

    def find(self, asked: Asked) -> Route | None:
        """The first route whose rule matches."""
        host = asked.request.host.decode("latin-1")
        lists = [self._by_host.get(host), self._by_host.get(_wildcard(host)), self._by_host.get(ANY)]
        best: Route | None = None
        for routes in lists:
            for route in routes or ():
                if best is not None and _order(best) <= _order(route):
                    break
                if route.rule.matches(asked):
                    best = route
                    break
        return best


def _order(route: Route) -> tuple[int, str]:
    return -route.priority, route.name


def _places(route: Route) -> list[str]:
    return [ANY] if route.rule.hosts is None else sorted(route.rule.hosts)


def _wildcard(host: str) -> str:
    return "*" + host[host.find(".") :] if "." in host else "*"
