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
from .routing.labels import ServiceLabels, directory, read_labels, resolve
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


class Bound(msgspec.Struct, frozen=True):
    """What is served on a socket: a port, the routers of an entry point, or both (the routers first)."""

    binding: Binding
    port_key: str
    entry_point: str = ""


class Planned(msgspec.Struct, frozen=True):
    """`bindings` by key; `warnings` by service id."""

    services: dict[str, ServicePlan]
    bindings: dict[str, Bound]
    warnings: dict[str, list[str]]


class Known(msgspec.Struct, frozen=True):
    """What a service came to, the last time that it was looked at."""

    service: RouteService
    plan: ServicePlan
    labels: ServiceLabels | None
    warnings: list[str]


class Planner:
    """Plans one table after the other; what did not change between them stays the same object.

    `entry_points`: the ports of Traefik's entry points by name; they are bound once a router uses them.
    """

    def __init__(self, mesh_addr: str, entry_points: dict[str, int]) -> None:
        self._mesh_addr = mesh_addr
        self._entry_points = entry_points
        self._turns: dict[str, int] = {}
        self._next_turn = 0
        self._last: dict[str, Known] = {}

    def plan(self, table: RouteTable, questioned: frozenset[str] = frozenset()) -> Planned:
        """`questioned`: entry points at which an ACME server's questions are answered; they are bound anyway."""
        current: dict[str, Known] = {}
        for service in table.services:
            known = self._last.get(service.id)
            current[service.id] = known if known and _same(known.service, service) else self._service(service)
        plans = {key: known.plan for key, known in current.items()}
        warnings = {key: list(known.warnings) for key, known in current.items()}
        self._route(current, plans, warnings)
        bindings: dict[str, Bound] = {}
        for known in current.values():
            warnings[known.service.id] += self._bind(known.service, bindings)
        self._bind_entry_points(plans, bindings, warnings, questioned)
        self._last = {
            key: known if plans[key] is known.plan else msgspec.structs.replace(known, plan=plans[key])
            for key, known in current.items()
        }
        return Planned(
            services=plans, bindings=bindings, warnings={key: said for key, said in warnings.items() if said}
        )

    def _service(self, service: RouteService) -> Known:
        options, warnings = read_options(service.labels)
        labels = read_labels(service.labels)
        ports = [self._port(service, port, options) for port in service.ports]
        plan = ServicePlan(id=service.id, name=service.name, options=options, ports=ports)
        return Known(service=service, plan=plan, labels=labels, warnings=warnings + (labels.warnings if labels else []))

    def _route(self, current: dict[str, Known], plans: dict[str, ServicePlan], warnings: dict[str, list[str]]) -> None:
        """Resolve the routers, which may refer to each other's services: with every table, as any may have changed."""
        labelled = [(known.service, known.labels) for known in current.values() if known.labels]
        if not labelled:
            return
        keys = {
            (service.id, port.target_port): port_key(service, port)
            for service, _ in labelled
            for port in reversed(service.ports)
            if port.protocol == "tcp"
        }
        everything = directory(labelled, keys)
        for service, labels in labelled:
            plan = plans[service.id]
            policy = plan.options.tls.policy
            routers, tcp, said = resolve(service, labels, everything, keys, self._entry_points, policy)
            warnings[service.id] += said
            if routers != plan.routers or tcp != plan.tcp_routers:
                plans[service.id] = msgspec.structs.replace(plan, routers=routers, tcp_routers=tcp)

    def _bind_entry_points(
        self,
        plans: dict[str, ServicePlan],
        bindings: dict[str, Bound],
        warnings: dict[str, list[str]],
        questioned: frozenset[str],
    ) -> None:
        """Bind the entry points that routers use; a port that is published for HTTP as well serves both."""
        used = {point for plan in plans.values() for router in plan.all_routers for point in router.entry_points} | (
            questioned & self._entry_points.keys()
        )
        modes = {port.key: port.mode for plan in plans.values() for port in plan.ports} if used else {}
        for point in sorted(used):
            binding = Binding(transport="tcp", host=_everywhere(self._mesh_addr), port=self._entry_points[point])
            shared = bindings.get(binding.key)
            port = shared.port_key if shared else ""
            if port and modes[port] != "http":
                for plan in plans.values():
                    if any(point in router.entry_points for router in plan.all_routers):
                        said = f"entry point {point}: port {binding.port} is published by a service that is not HTTP"
                        warnings[plan.id].append(said)
                continue
            bindings[binding.key] = Bound(binding=binding, port_key=port, entry_point=point)

    def _port(self, service: RouteService, port: RoutePort, options: ServiceOptions) -> PortPlan:
        key = port_key(service, port)
        if key not in self._turns:
            self._turns[key] = self._next_turn % TURN_SLOTS
            self._next_turn += 1
        mode = "udp" if port.protocol == "udp" else "http" if port.app_protocol == "http" else "tcp"
        endpoints = [_endpoint(endpoint) for endpoint in port.endpoints]
        return PortPlan(
            key=key,
            mode=mode,
            turn=self._turns[key],
            published_port=port.published_port,
            endpoints=endpoints,
            tls=mode != "udp" and options.tls.on(port.published_port),
        )

    def _bind(self, service: RouteService, bindings: dict[str, Bound]) -> list[str]:
        warnings = []
        for port in service.ports:
            if not port.published_port:
                continue
            if port.protocol not in ("tcp", "udp"):
                warnings.append(f"port {port.published_port}/{port.protocol}: the gateway serves tcp and udp only")
                continue
            host = port.host_ip if port.host_ip not in (None, "0.0.0.0", "::", "") else self._mesh_addr
            binding = Binding(transport=port.protocol, host=_everywhere(host), port=port.published_port)
            if binding.key in bindings:
                warnings.append(f"port {port.published_port}/{port.protocol} is published by another service already")
                continue
            bindings[binding.key] = Bound(binding=binding, port_key=port_key(service, port))
        return warnings


def _same(one: RouteService, other: RouteService) -> bool:
    """Tables that came as changes share what did not change: 5,000 services are compared in 0.3 ms instead of 30."""
    return one is other or one == other


def _everywhere(host: str) -> str:
    return "" if host in ("0.0.0.0", "::") else host


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
