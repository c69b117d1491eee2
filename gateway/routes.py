"""The route table's types, for this room and for `configs/`, which sees nothing else of the gateway.

Pure: names, and what labels say of a port.
"""

from essaim.cluster.routes import RouteEndpoint, RouteGateway, RoutePort, RouteService, RouteTable

from .tls.policy import read_tls

__all__ = ["RouteEndpoint", "RouteGateway", "RoutePort", "RouteService", "RouteTable", "ends_tls"]


def ends_tls(service: RouteService, port: RoutePort) -> bool:
    """Whether TLS is ended at the gateways on a published port: who stands before them cannot look inside."""
    return port.protocol == "tcp" and read_tls(service.labels)[0].on(port.published_port)
