"""A worker's routers: by entry point to be asked, by service to be replaced.

A router may lead to another service's port, which may come later or go earlier than the router: it is looked up by its
key when a request needs it.
"""

from .routing.middlewares import make_middleware
from .routing.router import Route, Router
from .routing.rules import parse_rule
from .wire import RouterPlan


class RouteBook:
    def __init__(self) -> None:
        self._routers: dict[str, Router] = {}
        # By service: its plans, and what was entered for them.
        self._entered: dict[str, tuple[list[RouterPlan], list[tuple[str, Route]]]] = {}

    def router(self, entry_point: str) -> Router:
        return self._routers.setdefault(entry_point, Router())

    def replace(self, service_id: str, plans: list[RouterPlan]) -> None:
        """Take a service's routers over; the same ones again keep their state (rate limits)."""
        before, entered = self._entered.get(service_id, ([], []))
        if plans == before:
            return
        for point, route in entered:
            self.router(point).remove(route)
        self._entered.pop(service_id, None)
        added: list[tuple[str, Route]] = []
        for plan in plans:
            chain = tuple(make_middleware(one.kind, one.options) for one in plan.chain)
            route = Route(plan.name, parse_rule(plan.rule), plan.priority, plan.port_key, chain)
            for point in plan.entry_points:
                self.router(point).add(route)
                added.append((point, route))
        if plans:
            self._entered[service_id] = (plans, added)
