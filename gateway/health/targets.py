"""What there is to check of a service.

Pure: plans in, targets out.
"""

from essaim.gateway.protocol.messages import ServicePlan
from essaim.gateway.protocol.options import HealthOptions

Target = tuple[str, str, str, int, HealthOptions]
"""An endpoint's key, node, address and port, and how to check it."""


def targets_of(service: ServicePlan) -> list[Target]:
    """The endpoints that may get traffic, of ports that can be checked; each once, on however many ports it serves."""
    options = service.options.health
    if options.kind == "none":
        return []
    found = {
        endpoint.key: (endpoint.key, endpoint.node_id, endpoint.address, endpoint.port, options)
        for port in service.ports
        if port.mode != "udp"
        for endpoint in port.endpoints
        if endpoint.usable
    }
    return list(found.values())
