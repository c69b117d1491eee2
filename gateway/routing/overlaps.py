"""Routers that ask for the very same requests: one of them never gets any, and nobody would know which.

Pure: plans in, warnings out.
"""

from collections.abc import Mapping

from essaim.gateway.protocol.messages import RouterPlan, ServicePlan, TcpRouterPlan


def overlaps(plans: Mapping[str, ServicePlan]) -> dict[str, list[str]]:
    """Warnings by service id."""
    first: dict[tuple[object, ...], tuple[str, str]] = {}
    found: dict[str, list[str]] = {}
    for key, plan in plans.items():
        for router in plan.all_routers:
            for point in router.entry_points:
                claim = _claim(point, router)
                known = first.setdefault(claim, (key, router.name))
                if known == (key, router.name):
                    continue
                other = plans[known[0]].name
                said = "have the same rule and priority at entry point"
                mine, theirs = f"{router.name} of {plan.name}", f"{known[1]} of {other}"
                warning = f"routers {theirs} and {mine} {said} {point}: only one of them gets requests"
                for one in {key, known[0]}:
                    found.setdefault(one, []).append(warning)
    return found


def _claim(point: str, router: RouterPlan | TcpRouterPlan) -> tuple[object, ...]:
    if isinstance(router, TcpRouterPlan):
        return "tcp", point, router.rule, router.priority, router.secure
    return "http", point, router.rule, router.priority, router.tls is not None
