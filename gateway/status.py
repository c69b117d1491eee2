"""What the gateway serves and why, for `essaim lb status` and the admin API.

Pure: state in, JSON's types out.
"""

from typing import Any

from .counting import NOTHING
from .plan import Planned, endpoint_key, port_key
from .routes import RouteEndpoint, RouteTable
from .wire import EndpointCounts, PortCounts


def describe(
    table: RouteTable,
    planned: Planned,
    failed: dict[str, str],
    verdicts: dict[str, tuple[bool, str]],
    counts: dict[str, PortCounts],
) -> dict[str, Any]:
    """`version`, `listeners` (with the error of those that could not be bound) and `services` with their endpoints and
    what these have been given: open connections, requests (L4: connections) and failures since the workers' start."""
    counted = {(key, one.task_id): one for key, port in counts.items() for one in port.endpoints}
    names = {port_key(service, port): service.name for service in table.services for port in service.ports}
    modes = {port.key: port.mode for service in planned.services.values() for port in service.ports}
    listeners = [
        {
            "address": bound.binding.host,
            "port": bound.binding.port,
            "protocol": bound.binding.transport,
            "mode": modes.get(bound.port_key, "http"),
            "service": names.get(bound.port_key),
            "entry_point": bound.entry_point or None,
            "bound": binding_key not in failed,
            "error": failed.get(binding_key),
        }
        for binding_key, bound in sorted(planned.bindings.items(), key=lambda item: _order(item[1].binding))
    ]
    services = [
        {
            "id": service.id,
            "name": service.name,
            "warnings": planned.warnings.get(service.id, []),
            "routers": [
                {"name": router.name, "rule": router.rule, "entry_points": router.entry_points}
                for router in planned.services[service.id].routers
            ],
            "ports": [
                {
                    "published": port.published_port,
                    "target": port.target_port,
                    "protocol": port.protocol,
                    "app_protocol": port.app_protocol,
                    "endpoints": [
                        _endpoint(endpoint, verdicts, counted.get((port_key(service, port), endpoint.task_id), NOTHING))
                        for endpoint in port.endpoints
                    ],
                }
                for port in service.ports
            ],
        }
        for service in table.services
    ]
    return {"version": table.version, "listeners": listeners, "services": services}


def _order(binding: Any) -> tuple[int, str, str]:
    return binding.port, binding.transport, binding.host


def _endpoint(endpoint: RouteEndpoint, verdicts: dict[str, tuple[bool, str]], counts: EndpointCounts) -> dict[str, Any]:
    verdict, reason = _verdict(endpoint, verdicts)
    return {
        "task_id": endpoint.task_id,
        "task_name": endpoint.task_name,
        "node_id": endpoint.node_id,
        "address": endpoint.address,
        "port": endpoint.port,
        "verdict": verdict,
        "reason": reason,
        "open": counts.open,
        "requests": sum(counts.codes),
        "failures": counts.codes[5] + counts.connect_errors,
    }


def _verdict(endpoint: RouteEndpoint, verdicts: dict[str, tuple[bool, str]]) -> tuple[str, str]:
    """up, down or draining, and why."""
    if endpoint.state != "up":
        return "draining", "the task is being stopped"
    if endpoint.healthy is False:
        return "down", "the container's health check fails"
    up, reason = verdicts.get(endpoint_key(endpoint), (True, "not checked"))
    return ("up" if up else "down"), reason
