"""What the gateway serves and why, for `essaim lb status` and the admin API.

Pure: state in, JSON's types out.
"""

from collections.abc import Callable
from typing import Any

from essaim.gateway.health.share import Found
from essaim.gateway.protocol.messages import EndpointCounts, PortCounts
from essaim.gateway.protocol.routes import RouteEndpoint, RouteTable
from essaim.gateway.runtime.counters import NOTHING

from .plan import Planned, endpoint_key, port_key


def describe(
    table: RouteTable,
    planned: Planned,
    failed: dict[str, str],
    verdict: Callable[[str], Found],
    counts: dict[str, PortCounts],
    tls_warnings: dict[str, list[str]],
    faults: dict[str, str] | None = None,
) -> dict[str, Any]:
    """`version`, `listeners` (with the error of those that could not be bound) and `services` with their endpoints and
    what these have been given: open connections, requests (L4: connections) and failures since the workers' start.
    `faults`: by service id, why it is not served, or not all of it; what the leader found stands before it."""
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
    hosts = {gateway.node_id: gateway.hostname for gateway in table.gateways}

    def checked(service_id: str, protocol: str) -> bool:
        return protocol != "udp" and planned.services[service_id].options.health.kind != "none"

    services = [
        {
            "id": service.id,
            "name": service.name,
            "fault": "; ".join(said for said in (service.fault, (faults or {}).get(service.id)) if said) or None,
            "warnings": planned.warnings.get(service.id, []) + tls_warnings.get(service.id, []),
            "routers": [
                {
                    "name": router.name,
                    "rule": router.rule,
                    "entry_points": router.entry_points,
                    "tls": router.tls is not None,
                }
                for router in planned.services[service.id].routers
            ],
            "tcp_routers": [
                {
                    "name": router.name,
                    "rule": router.rule,
                    "entry_points": router.entry_points,
                    "tls": "passthrough" if router.secure and router.tls is None else router.secure,
                }
                for router in planned.services[service.id].tcp_routers
            ],
            "ports": [
                {
                    "published": port.published_port,
                    "target": port.target_port,
                    "protocol": port.protocol,
                    "app_protocol": port.app_protocol,
                    "endpoints": [
                        _judged(
                            endpoint,
                            checked(service.id, port.protocol),
                            verdict,
                            hosts,
                            counted.get((port_key(service, port), endpoint.task_id), NOTHING),
                        )
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


def _judged(
    endpoint: RouteEndpoint,
    is_checked: bool,
    verdict: Callable[[str], Found],
    hosts: dict[str, str],
    counts: EndpointCounts,
) -> dict[str, Any]:
    """`verdict` (up, down, ejected by traffic on this node, or draining) with its `reason`; `found_by` names the node
    whose gateway found it, and is None where the cluster did, or nobody."""
    found_by = None
    if endpoint.state != "up":
        said, reason = "draining", "the task is being stopped"
    elif endpoint.healthy is False:
        said, reason = "down", "the container's health check fails"
    elif not is_checked:
        said, reason = "up", "not checked"
    else:
        up, reason, by = verdict(endpoint_key(endpoint))
        said, found_by = "up" if up else "down", hosts.get(by, by) or None
    if said == "up" and counts.ejected:
        said, reason, found_by = "ejected", counts.ejection, None
    return {
        "task_id": endpoint.task_id,
        "task_name": endpoint.task_name,
        "node_id": endpoint.node_id,
        "address": endpoint.address,
        "port": endpoint.port,
        "verdict": said,
        "reason": reason,
        "found_by": found_by,
        "open": counts.open,
        "requests": sum(counts.codes.values()),
        "failures": sum(count for code, count in counts.codes.items() if code >= 500) + counts.connect_errors,
    }
