"""The route table: what every gateway needs to know to serve every published port, and nothing else.

It is derived from services, tasks and nodes by the leader, sent to each node, and handed to its gateway; external
load balancers' configurations are made from the same table.

Pure: data only. Equal inputs give equal tables, byte by byte: lists are sorted (services by name, ports by published
port and protocol, endpoints by slot and task, gateways by node).
"""

from .shape import Shape


class RouteEndpoint(Shape):
    """One replica's port. `state` is up (gets new traffic) or draining (finishes what it has).

    `healthy` is the container's own HEALTHCHECK verdict (None: it has none, the gateway's checks decide).
    `version` is the service's spec version that the task was made from (for weights by version).
    """

    task_id: str
    task_name: str
    node_id: str
    address: str
    port: int
    state: str = "up"
    healthy: bool | None = None
    zone: str | None = None
    version: int = 0


class RoutePort(Shape):
    """One published (mode ingress) or label-routed port of a service.

    `published_port` 0: no listener of its own, reached through L7 routing labels only. `app_protocol` is tcp or http.
    """

    protocol: str
    target_port: int
    published_port: int
    app_protocol: str = "tcp"
    host_ip: str | None = None
    endpoints: list[RouteEndpoint] = []


class RouteService(Shape):
    """`labels` are the service's (`deploy.labels`): the gateway reads `traefik.*` and `essaim.*` from them. `fault` is
    what is wrong with the service in the leader's eyes."""

    id: str
    name: str
    labels: dict[str, str] = {}
    ports: list[RoutePort] = []
    fault: str | None = None


class RouteGateway(Shape):
    """A node whose gateway serves the mesh: what an external balancer is pointed at."""

    node_id: str
    hostname: str
    address: str
    zone: str | None = None


class RouteTable(Shape):
    """`version` is the store version it was derived at; a gateway ignores a table older than the one it has.
    `idle` are the ids of the nodes whose gateways are to serve nothing (`gateway_nodes.py`), sorted."""

    version: int = 0
    services: list[RouteService] = []
    gateways: list[RouteGateway] = []
    idle: list[str] = []
