"""The route table's types, for this room and for `configs/`, which sees nothing else of the gateway.

Pure: names, and what labels say of a port.
"""

from essaim.cluster.routes import RouteEndpoint, RouteGateway, RoutePort, RouteService, RouteTable

from .entry_points import ServedPoint
from .options import read_options
from .tls_policy import read_tls

__all__ = [
    "RouteEndpoint", "RouteGateway", "RoutePort", "RouteService", "RouteTable", "ServedPoint", "ends_tls",
    "takes_proxy_headers",
]  # fmt: skip


def ends_tls(service: RouteService, port: RoutePort) -> bool:
    """Whether TLS is ended at the gateways on a published port: who stands before them cannot look inside."""
    return port.protocol == "tcp" and read_tls(service.labels)[0].on(port.published_port)


def takes_proxy_headers(service: RouteService) -> bool:
    """Whether the gateways take PROXY headers on its published ports, from those that it trusts."""
    if "essaim.proxyprotocol.accept" not in service.labels:
        return False
    options, _ = read_options(service.labels)
    return options.accept_proxy and bool(options.trusted)
