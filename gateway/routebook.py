"""A worker's routers: by entry point to be asked, by service to be replaced.

A router may lead to another service's port, which may come later or go earlier than the router: it is looked up by its
key when a request needs it.
"""

from .routing.middlewares import make_middleware
from .routing.router import Route, Router
from .routing.rules import parse_rule
from .routing.tcp import CATCH_ALL, TcpRoute, TcpRouter, parse_tcp_rule
from .routing.tcp_middlewares import make_guard
from .wire import RouterPlan, TcpRouterPlan


class RouteBook:
    def __init__(self) -> None:
        # By entry point, and whether behind TLS.
        self._routers: dict[tuple[str, bool], Router] = {}
        self._tcp: dict[str, TcpRouter] = {}
        # By service: its plans, and what was entered for them.
        self._entered: dict[str, tuple[list[RouterPlan], list[tuple[Router, Route]]]] = {}
        self._dialled: dict[str, tuple[list[TcpRouterPlan], list[tuple[TcpRouter, TcpRoute]]]] = {}

    def router(self, entry_point: str, *, secure: bool = False) -> Router:
        return self._routers.setdefault((entry_point, secure), Router())

    def tcp(self, entry_point: str) -> TcpRouter:
        return self._tcp.setdefault(entry_point, TcpRouter())

    def replace(self, service_id: str, plans: list[RouterPlan]) -> None:
        """Take a service's routers over; the same ones again keep their state (rate limits)."""
        before, entered = self._entered.get(service_id, ([], []))
        if plans == before:
            return
        for router, route in entered:
            router.remove(route)
        self._entered.pop(service_id, None)
        added: list[tuple[Router, Route]] = []
        for plan in plans:
            chain = tuple(make_middleware(one.kind, one.options) for one in plan.chain)
            route = Route(plan.name, parse_rule(plan.rule), plan.priority, plan.port_key, chain, plan.tls)
            for point in plan.entry_points:
                router = self.router(point, secure=plan.tls is not None)
                router.add(route)
                added.append((router, route))
        if plans:
            self._entered[service_id] = (plans, added)

    def replace_tcp(self, service_id: str, plans: list[TcpRouterPlan]) -> None:
        before, entered = self._dialled.get(service_id, ([], []))
        if plans == before:
            return
        for router, route in entered:
            router.remove(route)
        self._dialled.pop(service_id, None)
        added: list[tuple[TcpRouter, TcpRoute]] = []
        for plan in plans:
            rule = parse_tcp_rule(plan.rule, tls=plan.secure)
            catch_all = CATCH_ALL.fullmatch(plan.rule) is not None
            guards = tuple(make_guard(one.kind, one.options) for one in plan.chain)
            route = TcpRoute(plan.name, rule, plan.priority, plan.port_key, plan.secure, plan.tls, catch_all, guards)
            for point in plan.entry_points:
                router = self.tcp(point)
                router.add(route)
                added.append((router, route))
        if plans:
            self._dialled[service_id] = (plans, added)
