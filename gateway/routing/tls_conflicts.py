"""Routers for one host that ask for different TLS rules: a client is let in by the first one's before its request is
seen, and its requests to the others are refused (421). Who wrote the labels should know.

Pure: plans in, warnings out.
"""

from collections.abc import Iterable, Mapping

from essaim.gateway.protocol.messages import ServicePlan

from .rules import parse_rule


def tls_conflicts(plans: Mapping[str, ServicePlan]) -> dict[str, list[str]]:
    """Warnings by service id."""
    secure = [(key, router) for key, plan in plans.items() for router in plan.routers if router.tls is not None]
    if len({router.tls.guard for _, router in secure if router.tls}) < 2:
        return {}
    rules: dict[tuple[str, str], list[tuple[str, str, object]]] = {}
    for key, router in secure:
        for host in _hosts(router.rule):
            for point in router.entry_points:
                rules.setdefault((point, host), []).append((key, router.name, router.tls and router.tls.guard))
    found: dict[str, list[str]] = {}
    for (point, host), routers in sorted(rules.items()):
        if len({guard for _, _, guard in routers}) < 2:
            continue
        names = ", ".join(sorted(name for _, name, _ in routers))
        said = f"TLS: routers for {host} at {point} ask for different rules ({names}): some requests are refused by 421"
        for key in sorted({key for key, _, _ in routers}):
            found.setdefault(key, []).append(said)
    return found


def _hosts(rule: str) -> Iterable[str]:
    hosts = parse_rule(rule).hosts
    return ["any host"] if hosts is None else sorted(hosts)
