"""From a route table to what this node's workers serve: services, and the sockets to bind.

Rules:
- Every published port is bound on the mesh address, or on the one address it was published on (`host_ip`).
- Two services that claim one address and port: the first by name has it, the other gets a warning (the cluster's
  allocator does not let it happen; two nodes' clocks or a hand-made table may).
- A wall around each service (`wall.py`): labels with which nobody can do anything cost that service, and no other.
- A port's `key` names it for as long as the service publishes it; its round-robin slot (`turn`) is given once and
  kept, so that all workers and all versions of the table count on.

Pure: data in, data out.
"""

from collections import defaultdict

import msgspec

from essaim.gateway.protocol.entry_points import EntryPoint, ServedPoint
from essaim.gateway.protocol.messages import EndpointPlan, PortPlan, ServicePlan
from essaim.gateway.protocol.options import ServiceOptions, read_options
from essaim.gateway.protocol.routes import RouteEndpoint, RoutePort, RouteService, RouteTable
from essaim.gateway.protocol.tls_policy import read_tls
from essaim.gateway.protocol.wall import presentable, walled
from essaim.gateway.routing.labels import Directory, Keys, Outcome, ServiceLabels, read_labels, resolve
from essaim.gateway.routing.middlewares.auth_warnings import auth_warnings
from essaim.gateway.routing.names import UNION
from essaim.gateway.routing.overlaps import overlaps
from essaim.gateway.routing.resolver import Resolver
from essaim.gateway.routing.tls_conflicts import tls_conflicts
from essaim.gateway.runtime.shared_memory import TURN_SLOTS

from .united import unions_of, united_ports

SERVED = ("tcp", "udp")
MOST_LABELS = 1 << 20
"""Characters of a service's labels."""
MOST_BYTES = 24 << 20
"""Of a service in a message, and of its routers."""
PROXY_AT_ENTRY_POINTS = (
    "label essaim.proxyprotocol.accept is for published ports and has no effect at entry points: start essaimd with "
    "--entrypoint NAME=PORT,trusted=NETWORK,proxyprotocol"
)


PROXY_AT_LAYER_7 = (
    "label essaim.proxyprotocol has no effect: none of the service's ports is served at layer 4 (replicas of HTTP are "
    "told who called by X-Forwarded-For)"
)


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
    """`bindings` by key; `warnings` by service id; `points` by port; `faults`: by service id, why it is not served, or
    not all of it."""

    services: dict[str, ServicePlan]
    bindings: dict[str, Bound]
    warnings: dict[str, list[str]]
    points: list[ServedPoint] = []
    faults: dict[str, str] = {}


class Known(msgspec.Struct, frozen=True):
    """What a service came to, the last time that it was looked at."""

    service: RouteService
    plan: ServicePlan
    labels: ServiceLabels | None
    warnings: list[str]
    claims: list[tuple[str, Bound]]
    fault: str = ""


NOTHING = Outcome([], [], [])


class Planner:
    """Plans one table after the other; what did not change between them stays the same object.

    `entry_points`: Traefik's, by name; they are bound once a router uses them. Measured with
    5,000 services that have a router each, one endpoint changed: 5 ms instead of 110 (half of it walks the table).
    """

    def __init__(self, mesh_addr: str, entry_points: dict[str, EntryPoint]) -> None:
        self._mesh_addr = mesh_addr
        self._entry_points = entry_points
        self._turns: dict[str, int] = {}
        self._next_turn = 0
        self._last: dict[str, Known] = {}
        self._resolver: Resolver[Outcome] = Resolver(_tcp_keys, self._resolve, _unresolved)
        self._encoder = msgspec.msgpack.Encoder()
        self._bindings: dict[str, Bound] = {}
        self._warnings: dict[str, list[str]] = {}
        self._points: list[ServedPoint] = []
        self._faults: dict[str, str] = {}
        self._questioned: frozenset[str] = frozenset()
        # Keys of ports that stand for several services' ports, and the services whose plans have them.
        self._unions: set[str] = set()
        self._united: set[str] = set()

    def plan(self, table: RouteTable, questioned: frozenset[str] = frozenset()) -> Planned:
        """`questioned`: entry points at which an ACME server's questions are answered; they are bound anyway."""
        before, current, fresh = self._last, dict[str, Known](), list[Known]()
        for service in table.services:
            known = before.get(service.id)
            if known is None or not _same(known.service, service):
                known = self._walled(service)
                fresh.append(known)
            current[service.id] = known
        plans = {key: known.plan for key, known in current.items()}
        outcomes = self._resolver.resolve((known.service, known.labels) for known in current.values() if known.labels)
        same = not self._resolver.worked and questioned == self._questioned and list(current) == list(before)
        same = same and all(_same_sockets(before[known.service.id], known) for known in fresh)
        for known in list(current.values()) if self._resolver.worked else fresh:
            routers, tcp, *_ = outcomes[known.service.id] if known.labels else NOTHING
            if routers != known.plan.routers or tcp != known.plan.tcp_routers:
                plan = msgspec.structs.replace(known.plan, routers=routers, tcp_routers=tcp)
                plans[known.service.id] = plan
                current[known.service.id] = msgspec.structs.replace(known, plan=plan)
        self._unite(current, plans, outcomes)
        if not same:
            self._bind(current, plans, outcomes, questioned)
        self._last, self._questioned = current, questioned
        return Planned(plans, self._bindings, self._warnings, self._points, self._faults)

    def _unite(self, current: dict[str, Known], plans: dict[str, ServicePlan], outcomes: dict[str, Outcome]) -> None:
        """Give each router that leads to several services' ports one port with the replicas of all."""
        if self._resolver.worked:
            self._unions = unions_of(outcomes.values())
        if not self._unions and not self._united:
            return
        united = united_ports(self._unions, plans, self._turn)
        for key in (united.keys() | self._united) & plans.keys():
            plan = plans[key]
            mine = [port for port in plan.ports if UNION not in port.key] + united.get(key, [])
            if mine != plan.ports:
                plans[key] = msgspec.structs.replace(plan, ports=mine)
                current[key] = msgspec.structs.replace(current[key], plan=plans[key])
        self._united = set(united)

    def _turn(self, key: str) -> int:
        """A port's place among the round-robin counters, kept for good."""
        if key not in self._turns:
            self._turns[key] = self._next_turn % TURN_SLOTS
            self._next_turn += 1
        return self._turns[key]

    def forget(self) -> None:
        """Plan the next table from the beginning; only the places among the counters stay."""
        self._last, self._questioned = {}, frozenset()
        self._resolver = Resolver(_tcp_keys, self._resolve, _unresolved)

    def _bind(
        self,
        current: dict[str, Known],
        plans: dict[str, ServicePlan],
        outcomes: dict[str, Outcome],
        questioned: frozenset[str],
    ) -> None:
        """What is bound, and what is said of services, from the beginning."""
        warnings: defaultdict[str, list[str]] = defaultdict(list)
        bindings: dict[str, Bound] = {}
        for key, known in current.items():
            # As few objects as can be: 5,000 empty lists would be a third of the time.
            if known.warnings:
                warnings[key] += known.warnings
            for binding_key, bound in known.claims:
                if bindings.setdefault(binding_key, bound) is not bound:
                    named = f"port {bound.binding.port}/{bound.binding.transport}"
                    warnings[key].append(f"{named} is published by another service already")
        faults = {key: known.fault for key, known in current.items() if known.fault}
        for key, outcome in outcomes.items():
            if outcome.warnings:
                warnings[key] += outcome.warnings
            if outcome.fault:
                faults[key] = outcome.fault
        for found in (
            walled(lambda: tls_conflicts(plans), lambda reason: {}),
            walled(lambda: auth_warnings(plans), lambda reason: {}),
            walled(lambda: overlaps(plans), lambda reason: {}),
        ):
            for key, said in found.items():
                warnings[key] += said
        self._bind_entry_points(plans, bindings, warnings, questioned)
        self._points = self._served_points(plans, bindings)
        self._bindings, self._faults = bindings, faults
        self._warnings = {key: presentable(said) for key, said in warnings.items()}

    def _walled(self, service: RouteService) -> Known:
        """What a service comes to; nothing, with its fault, if that cannot be found out, or not be said."""

        def work() -> Known:
            size = sum(len(label) + len(value) for label, value in service.labels.items())
            if size > MOST_LABELS:
                return _faulty(service, f"its labels have {size} characters, more than {MOST_LABELS}")
            known = self._service(service)
            size = len(self._encoder.encode(known.plan))
            return known if size <= MOST_BYTES else _faulty(service, f"it takes {size} bytes, more than {MOST_BYTES}")

        return walled(work, lambda reason: _faulty(service, reason))

    def _service(self, service: RouteService) -> Known:
        options, warnings = read_options(service.labels)
        labels = read_labels(service.labels)
        ports = [self._port(service, port, options) for port in service.ports]
        plan = ServicePlan(id=service.id, name=service.name, options=options, ports=ports)
        warnings += labels.warnings if labels else []
        warnings += [
            f"port {port.published_port}/{port.protocol}: the gateway serves tcp and udp only"
            for port in service.ports
            if port.published_port and port.protocol not in SERVED
        ]
        if options.proxy_protocol and plan.ports and all(port.mode != "tcp" for port in plan.ports):
            warnings.append(PROXY_AT_LAYER_7)
        if options.accept_proxy and labels and not any(p.published_port and p.protocol == "tcp" for p in service.ports):
            warnings.append(PROXY_AT_ENTRY_POINTS)
        claims = self._claims(service)
        return Known(service=service, plan=plan, labels=labels, warnings=warnings, claims=claims)

    def _resolve(self, service: RouteService, labels: ServiceLabels, everything: Directory, keys: Keys) -> Outcome:
        policy = read_tls(service.labels)[0].policy
        outcome = resolve(service, labels, everything, keys, self._entry_points, policy)
        size = len(self._encoder.encode((outcome.routers, outcome.tcp_routers)))
        return outcome if size <= MOST_BYTES else _unresolved(f"they take {size} bytes, more than {MOST_BYTES}")

    def _bind_entry_points(
        self,
        plans: dict[str, ServicePlan],
        bindings: dict[str, Bound],
        warnings: defaultdict[str, list[str]],
        questioned: frozenset[str],
    ) -> None:
        """Bind the entry points that routers use; a port that is published for HTTP as well serves both."""
        used = {point for plan in plans.values() for router in plan.all_routers for point in router.entry_points} | (
            questioned & self._entry_points.keys()
        )
        modes = {port.key: port.mode for plan in plans.values() for port in plan.ports} if used else {}
        for point in sorted(used):
            binding = Binding(transport="tcp", host=_everywhere(self._mesh_addr), port=self._entry_points[point].port)
            shared = bindings.get(binding.key)
            port = shared.port_key if shared else ""
            if port and modes[port] != "http":
                for plan in plans.values():
                    if any(point in router.entry_points for router in plan.all_routers):
                        said = f"entry point {point}: port {binding.port} is published by a service that is not HTTP"
                        warnings[plan.id].append(said)
                continue
            bindings[binding.key] = Bound(binding=binding, port_key=port, entry_point=point)

    def _served_points(self, plans: dict[str, ServicePlan], bindings: dict[str, Bound]) -> list[ServedPoint]:
        opaque = {point for plan in plans.values() for one in plan.tcp_routers for point in one.entry_points}
        opaque |= {
            point
            for plan in plans.values()
            for one in plan.routers
            if one.tls is not None
            for point in one.entry_points
        }
        names = [bound.entry_point for bound in bindings.values() if bound.entry_point]
        points = [ServedPoint(n, self._entry_points[n], "tcp" if n in opaque else "http") for n in names]
        return sorted(points, key=lambda one: one.point.port)

    def _port(self, service: RouteService, port: RoutePort, options: ServiceOptions) -> PortPlan:
        key = port_key(service, port)
        mode = "udp" if port.protocol == "udp" else "http" if port.app_protocol == "http" else "tcp"
        endpoints = [_endpoint(endpoint) for endpoint in port.endpoints]
        return PortPlan(
            key=key,
            mode=mode,
            turn=self._turn(key),
            published_port=port.published_port,
            endpoints=endpoints,
            tls=mode != "udp" and options.tls.on(port.published_port),
            target_port=port.target_port,
        )

    def _claims(self, service: RouteService) -> list[tuple[str, Bound]]:
        """The bindings that a service wants, by key."""
        claims: list[tuple[str, Bound]] = []
        for port in service.ports:
            if port.published_port and port.protocol in SERVED:
                host = port.host_ip if port.host_ip not in (None, "0.0.0.0", "::", "") else self._mesh_addr
                binding = Binding(transport=port.protocol, host=_everywhere(host), port=port.published_port)
                claims.append((binding.key, Bound(binding=binding, port_key=port_key(service, port))))
        return claims


def _same_sockets(old: Known, known: Known) -> bool:
    """Whether a service that has changed asks for the same sockets as before, and as much is said of it."""
    modes = [(port.key, port.mode) for port in known.plan.ports]
    return (
        (old.labels is None) == (known.labels is None)
        and old.claims == known.claims
        and old.warnings == known.warnings
        and old.fault == known.fault
        and modes == [(port.key, port.mode) for port in old.plan.ports]
    )


def _faulty(service: RouteService, reason: str) -> Known:
    """A service of which nothing is served."""
    service_id, name = (one.encode("ascii", "backslashreplace").decode() for one in (service.id, service.name))
    plan = ServicePlan(id=service_id, name=name, options=ServiceOptions(), ports=[])
    return Known(service=service, plan=plan, labels=None, warnings=[], claims=[], fault=f"not served: {reason}")


def _unresolved(reason: str) -> Outcome:
    return Outcome([], [], [], f"its routers are not served: {reason}")


def _tcp_keys(service: RouteService) -> Keys:
    """The keys of a service's ports for routers; the first of two with the same target."""
    return {
        (service.id, port.target_port): port_key(service, port)
        for port in reversed(service.ports)
        if port.protocol == "tcp"
    }


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
