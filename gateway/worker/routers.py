"""A worker's routers: by entry point to be asked, by service to be replaced.

A router may lead to another service's port, which may come later or go earlier than the router: it is looked up by its
key when a request needs it.

A router that cannot be made is left out, and said so; the others are entered.
"""

from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

from essaim.gateway.protocol.messages import RouterPlan, TcpRouterPlan
from essaim.gateway.protocol.wall import fault_of
from essaim.gateway.routing.middlewares.build import make_middleware
from essaim.gateway.routing.router import Route, Router
from essaim.gateway.routing.rules import parse_rule
from essaim.gateway.routing.tcp import CATCH_ALL, TcpRoute, TcpRouter, parse_tcp_rule
from essaim.gateway.routing.tcp_middlewares import make_guard

P = TypeVar("P", bound=RouterPlan | TcpRouterPlan)
R = TypeVar("R")
E = TypeVar("E", contravariant=True)


class Table(Protocol[E]):
    """Where routes are asked for: a `Router`, a `TcpRouter`."""

    def add(self, route: E) -> None: ...
    def remove(self, route: E) -> None: ...


class _Entries(Generic[P, R]):
    """The routers of one kind. `make` makes a route; `places` says where it is entered."""

    def __init__(self, make: Callable[[P], R], places: Callable[[P], list[Table[R]]]) -> None:
        self._make = make
        self._places = places
        # By service: its plans, what was entered for them, and what could not be.
        self._known: dict[str, tuple[list[P], list[tuple[Table[R], R]], list[str]]] = {}

    def replace(self, service_id: str, plans: list[P]) -> list[str]:
        before, entered, faults = self._known.get(service_id, ([], [], []))
        if plans == before:
            return faults
        for table, route in entered:
            table.remove(route)
        self._known.pop(service_id, None)
        added: list[tuple[Table[R], R]] = []
        faults = []
        for plan in plans:
            try:
                route = self._make(plan)
            except Exception as error:
                faults.append(f"router {plan.name} is not served: {fault_of(error)}")
                continue
            for table in self._places(plan):
                table.add(route)
                added.append((table, route))
        if plans:
            self._known[service_id] = (plans, added, faults)
        return faults


class Routers:
    def __init__(self) -> None:
        # By entry point, and whether behind TLS.
        self._routers: dict[tuple[str, bool], Router] = {}
        self._tcp: dict[str, TcpRouter] = {}
        self._http_entries: _Entries[RouterPlan, Route] = _Entries(
            _route, lambda plan: [self.router(point, secure=plan.tls is not None) for point in plan.entry_points]
        )
        self._tcp_entries: _Entries[TcpRouterPlan, TcpRoute] = _Entries(
            _tcp_route, lambda plan: [self.tcp(point) for point in plan.entry_points]
        )

    def router(self, entry_point: str, *, secure: bool = False) -> Router:
        return self._routers.setdefault((entry_point, secure), Router())

    def tcp(self, entry_point: str) -> TcpRouter:
        return self._tcp.setdefault(entry_point, TcpRouter())

    def replace(self, service_id: str, plans: list[RouterPlan], tcp_plans: list[TcpRouterPlan]) -> list[str]:
        """Take a service's routers over; the same ones again keep their state (rate limits). Returns what is wrong
        with those that cannot be made."""
        return self._http_entries.replace(service_id, plans) + self._tcp_entries.replace(service_id, tcp_plans)


def _route(plan: RouterPlan) -> Route:
    chain = tuple(make_middleware(one.kind, one.options) for one in plan.chain)
    return Route(plan.name, parse_rule(plan.rule), plan.priority, plan.port_key, chain, plan.tls)


def _tcp_route(plan: TcpRouterPlan) -> TcpRoute:
    rule = parse_tcp_rule(plan.rule, tls=plan.secure)
    catch_all = CATCH_ALL.fullmatch(plan.rule) is not None
    guards = tuple(make_guard(one.kind, one.options) for one in plan.chain)
    return TcpRoute(plan.name, rule, plan.priority, plan.port_key, plan.secure, plan.tls, catch_all, guards)
