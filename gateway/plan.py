"""From a route table to what this node's workers serve: services, and the sockets to bind.

Rules:
- Every published port is bound on the mesh address, or on the one address it was published on (`host_ip`).
- Two services that claim one address and port: the first by name has it, the other gets a warning (the cluster's
  allocator does not let it happen; two nodes' clocks or a hand-made table may).
- A port's `key` names it for as long as the service publishes it; its round-robin slot (`turn`) is given once and
  kept, so that all workers and all versions of the table count on.

Pure: data in, data out.
"""

import msgspec

from .options import ServiceOptions, read_options
from .routes import RouteEndpoint, RoutePort, RouteService, RouteTable
from .wire import EndpointPlan, PortPlan, ServicePlan

TURN_SLOTS = 65_536
"""How many ports have a round-robin counter of their own; beyond, ports share one, which only costs evenness."""


class Binding(msgspec.Struct, frozen=True):
    """A socket to have. `host` "" is every address of the node, IPv4 and IPv6."""

    transport: str
    host: str
    port: int

    @property
    def key(self) -> str:
        return f"{self.transport}/{self.host}/{self.port}"


class Planned(msgspec.Struct, frozen=True):
    """`bindings` by key with the key of the port they serve; `warnings` by service id."""

    services: dict[str, ServicePlan]
    bindings: dict[str, tuple[Binding, str]]
    warnings: dict[str, list[str]]


class Planner:
    """Plans one table after the other; what did not change between them stays the same object."""

    def __init__(self, mesh_addr: str) -> None:
        self._mesh_addr = mesh_addr
        self._turns: dict[str, int] = {}
        self._next_turn = 0
        self._last: dict[str, tuple[RouteService, ServicePlan, list[str]]] = {}

    def plan(self, table: RouteTable) -> Planned:
        services: dict[str, ServicePlan] = {}
        warnings: dict[str, list[str]] = {}
        bindings: dict[str, tuple[Binding, str]] = {}
        last: dict[str, tuple[RouteService, ServicePlan, list[str]]] = {}
        for service in table.services:
            known = self._last.get(service.id)
            if known is None or known[0] != service:
                known = (service, *self._service(service))
            last[service.id] = known
            services[service.id] = known[1]
            found = [*known[2], *self._bind(service, bindings)]
            if found:
                warnings[service.id] = found
        self._last = last
        return Planned(services=services, bindings=bindings, warnings=warnings)

    def _service(self, service: RouteService) -> tuple[ServicePlan, list[str]]:
        options, warnings = read_options(service.labels)
        ports = [self._port(service, port, options) for port in service.ports]
        return ServicePlan(id=service.id, name=service.name, options=options, ports=ports), warnings

    def _port(self, service: RouteService, port: RoutePort, options: ServiceOptions) -> PortPlan:
        key = port_key(service, port)
        if key not in self._turns:
            self._turns[key] = self._next_turn % TURN_SLOTS
            self._next_turn += 1
        mode = "udp" if port.protocol == "udp" else "http" if port.app_protocol == "http" else "tcp"
        endpoints = [_endpoint(endpoint) for endpoint in port.endpoints]
        return PortPlan(
            key=key, mode=mode, turn=self._turns[key], published_port=port.published_port, endpoints=endpoints
        )

    def _bind(self, service: RouteService, bindings: dict[str, tuple[Binding, str]]) -> list[str]:
        warnings = []
        for port in service.ports:
            if not port.published_port:
                continue
            if port.protocol not in ("tcp", "udp"):
                warnings.append(f"port {port.published_port}/{port.protocol}: the gateway serves tcp and udp only")
                continue
            host = port.host_ip if port.host_ip not in (None, "0.0.0.0", "::", "") else self._mesh_addr
            binding = Binding(
                transport=port.protocol, host="" if host in ("0.0.0.0", "::") else host, port=port.published_port
            )
            if binding.key in bindings:
                warnings.append(f"port {port.published_port}/{port.protocol} is published by another service already")
                continue
            bindings[binding.key] = (binding, port_key(service, port))
        return warnings


def port_key(service: RouteService, port: RoutePort) -> str:
    return f"{service.id}/{port.published_port}/{port.target_port}/{port.protocol}/{port.host_ip or ''}"


def endpoint_key(endpoint: RouteEndpoint) -> str:
    return f"{endpoint.task_id}@{endpoint.address}:{endpoint.port}"


def _endpoint(endpoint: RouteEndpoint) -> EndpointPlan:
    return EndpointPlan(
        key=endpoint_key(endpoint),
        task_id=endpoint.task_id,
        node_id=endpoint.node_id,
        address=endpoint.address,
        port=endpoint.port,
        usable=endpoint.state == "up" and endpoint.healthy is not False,
        draining=endpoint.state != "up",
        zone=endpoint.zone,
        version=endpoint.version,
    )
