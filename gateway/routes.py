"""The route table's types, for this room and for `configs/`, which sees nothing else of the gateway.

Pure: names only.
"""

from essaim.cluster.routes import RouteEndpoint, RouteGateway, RoutePort, RouteService, RouteTable

__all__ = ["RouteEndpoint", "RouteGateway", "RoutePort", "RouteService", "RouteTable"]
