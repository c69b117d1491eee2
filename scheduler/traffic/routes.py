"""The route table, derived from services, tasks and nodes.

- An endpoint is `up` while its task runs, is meant to, is healthy as far as its own check says, and its node is not
  down; it is `draining` while it still runs but was told to stop, or is about to be.
- A service whose part cannot be made keeps the last one, less what is no longer so, with the reason as its `fault`.
- `RouteCache` keeps each service's part and makes anew only those that something happened to: one change among 5,000
  services costs one service's work and one pass over the list.

Pure: the store in, a table out; equal stores give equal tables but for `version`.
"""

from collections.abc import Iterable
from functools import partial

import msgspec

from essaim.cluster.gateway_nodes import idle_nodes
from essaim.cluster.node import Node
from essaim.cluster.routes import RouteEndpoint, RouteGateway, RoutePort, RouteService, RouteTable
from essaim.cluster.service import PortConfig, Service
from essaim.cluster.store import Store
from essaim.cluster.task import Task, TaskState
from essaim.cluster.walls import Faults, Walls
from essaim.cluster.watch import Event
from essaim.scheduler.tasks import is_gone, published_ports, task_ports

ZONE_LABELS = ("essaim.zone", "zone")
ROUTERS = ("traefik.http.routers.", "traefik.tcp.routers.")
FAULTY = "its routes cannot be made"
FAILED = RouteService(id="", name="")


def zone_of(node: Node | None) -> str | None:
    labels = (node.spec.labels if node else None) or {}
    return next((labels[key] for key in ZONE_LABELS if labels.get(key)), None)


def address_of(node: Node) -> str:
    return (node.description.data_addr if node.description else None) or node.status.addr or ""


def serves(task: Task) -> bool:
    """It runs, wherever it is on its way to."""
    return task.state == TaskState.RUNNING and bool(task.endpoints)


def endpoint_state(task: Task) -> str | None:
    """`up`, `draining`, or None for a task that gets no traffic at all."""
    if task.desired > TaskState.COMPLETE:
        return "draining"
    return None if task.status.healthy is False else "up"


def endpoints_of(tasks: Iterable[Task], port: PortConfig, store: Store) -> list[RouteEndpoint]:
    wanted = (port.protocol or "tcp", port.target_port)
    found: list[RouteEndpoint] = []
    for task in tasks:
        node = store.nodes.get(task.node_id or "")
        state = endpoint_state(task)
        if state is None or is_gone(node):
            continue
        for endpoint in task.endpoints or ():
            if (endpoint.protocol, endpoint.target_port) == wanted:
                found.append(
                    RouteEndpoint(
                        task_id=task.id,
                        task_name=task.name or task.id,
                        node_id=task.node_id or "",
                        address=endpoint.address,
                        port=endpoint.port,
                        state=state,
                        healthy=task.status.healthy,
                        zone=zone_of(node),
                        version=task.spec_version.index if task.spec_version else 0,
                    )
                )
    return found


def app_protocol(service: Service, port: PortConfig) -> str:
    """tcp or http, from the port itself, or from the label `essaim.port.TARGET.protocol`."""
    labels = service.spec.labels or {}
    labelled = labels.get(f"essaim.port.{port.target_port}.protocol")
    routed_only = not port.published_port
    return port.app_protocol or labelled or ("http" if routed_only else "tcp")


def route_service(service: Service, store: Store) -> RouteService | None:
    """The service's part of the table, or None when it publishes nothing.

    One whose labels ask for routers is there without a port, too: each gateway says why they are not served.
    """
    if service.pending_delete:
        return None
    ports = [port for port in task_ports(service) if (port.publish_mode or "ingress") == "ingress" and port.target_port]
    if not ports and not asks_for_routers(service):
        return None
    tasks = [task for task in store.tasks.by("service", service.id) if serves(task)]
    tasks.sort(key=lambda t: (t.slot or 0, t.id))
    routes = [
        RoutePort(
            protocol=port.protocol or "tcp",
            target_port=port.target_port or 0,
            published_port=port.published_port or 0,
            app_protocol=app_protocol(service, port),
            host_ip=port.host_ip,
            endpoints=endpoints_of(tasks, port, store),
        )
        for port in ports
    ]
    routes.sort(key=lambda r: (r.published_port, r.protocol, r.target_port))
    return RouteService(
        id=service.id,
        name=service.spec.name or service.id,
        labels=service.spec.labels or {},
        ports=routes,
        fault=service.fault,
    )


def asks_for_routers(service: Service) -> bool:
    return any(label.lower().startswith(ROUTERS) for label in service.spec.labels or {})


def remains(part: RouteService, store: Store) -> RouteService:
    """The last part that could be made, with those of its endpoints whose tasks still have them."""
    ports = [
        msgspec.structs.replace(port, endpoints=[e for e in map(partial(_as_now, store), port.endpoints) if e])
        for port in part.ports
    ]
    return msgspec.structs.replace(part, ports=ports)


def _as_now(store: Store, endpoint: RouteEndpoint) -> RouteEndpoint | None:
    task = store.tasks.get(endpoint.task_id)
    if task is None or not serves(task) or is_gone(store.nodes.get(task.node_id or "")):
        return None
    state = endpoint_state(task)
    same = any((e.address, e.port) == (endpoint.address, endpoint.port) for e in task.endpoints or ())
    if state is None or not same:
        return None
    return msgspec.structs.replace(endpoint, state=state, healthy=task.status.healthy)


def gateways(store: Store) -> list[RouteGateway]:
    """Every ready node that serves: whatever its availability, its gateway does unless a label says otherwise."""
    idle = idle_nodes(store.nodes)
    found = [
        RouteGateway(node_id=node.id, hostname=node.hostname, address=address_of(node), zone=zone_of(node))
        for node in store.nodes
        if node.is_ready and node.id not in idle and address_of(node)
    ]
    return sorted(found, key=lambda g: g.node_id)


class RouteCache:
    """Feed it every event of services, tasks and nodes; ask for the table when `is_stale`."""

    tables = ("services", "tasks", "nodes")

    def __init__(self, faults: Faults | None = None) -> None:
        self._walls = Walls(FAULTY, faults)
        self._services: dict[str, RouteService] = {}
        self._stale: set[str] | None = None
        self._gateways: list[RouteGateway] | None = None
        self._idle: list[str] = []
        self._nodes: set[str] = set()
        self._table = RouteTable()
        self._known = False

    @property
    def is_stale(self) -> bool:
        return not self._known or self._stale is None or bool(self._stale) or bool(self._nodes)

    def reset(self) -> None:
        """Make everything anew the next time."""
        self._known = False

    def observe(self, events: Iterable[Event]) -> None:
        stale = self._stale if self._stale is not None else set()
        for event in events:
            if event.table == "services":
                stale.add(event.object.id)
            elif event.table == "tasks":
                service_id = event.object.service_id
                if service_id and may_concern(event):
                    stale.add(service_id)
            elif event.table == "nodes":
                self._nodes.add(event.object.id)
        self._stale = stale

    def table(self, store: Store) -> RouteTable:
        """The table as of now; the same object as before when nothing in it has changed."""
        if not self._known:
            self._services.clear()
            self._stale = {service.id for service in store.services}
            self._known = True
            self._gateways = None
        stale = self._stale or set()
        for node_id in self._nodes:
            stale.update(task.service_id for task in store.tasks.by("node", node_id) if task.service_id)
            self._gateways = None
        self._nodes.clear()
        self._stale = set()
        changed = [self._renew(service_id, store) for service_id in stale]
        before = self._table
        if self._gateways is None:
            self._gateways, self._idle = gateways(store), sorted(idle_nodes(store.nodes))
        found, idle = self._gateways, self._idle
        if any(changed) or (found, idle) != (before.gateways, before.idle) or not before.version:
            services = sorted(self._services.values(), key=lambda s: s.name)
            self._table = RouteTable(version=store.version, services=services, gateways=found, idle=idle)
        return self._table

    def _renew(self, service_id: str, store: Store) -> bool:
        service = store.services.get(service_id)
        old = self._services.get(service_id)
        new = None
        if service is None:
            self._walls.clear(service_id)
        else:
            make = partial(route_service, service, store)
            new = self._walls.guard(service_id, service_id, make, FAILED)
            if new is FAILED:
                new = self._faulty(service, old, store)
        if new == old:
            return False
        if new is None:
            self._services.pop(service_id, None)
        else:
            self._services[service_id] = new
        return True

    def _faulty(self, service: Service, old: RouteService | None, store: Store) -> RouteService:
        fault = self._walls.reason(service.id)
        bare = RouteService(id=service.id, name=service.spec.name or service.id)
        try:
            kept = remains(old, store) if old is not None else bare
        except Exception:  # the fault is known: nothing is left that could be served
            kept = bare
        return msgspec.structs.replace(kept, fault=fault)


def may_concern(event: Event) -> bool:
    """As `concerns`; of a task that cannot be read, its service's part will say what is wrong."""
    try:
        return concerns(event)
    except Exception:
        return True


def concerns(event: Event) -> bool:
    """Most events of tasks are steps before they run."""
    old, new = event.old, event.object
    return serves(new) or (old is not None and serves(old))


def route_table(store: Store, cache: RouteCache | None = None) -> RouteTable:
    """The table as of now. A cache must have been fed all events since its last table."""
    return (cache or RouteCache()).table(store)


def has_routes(service: Service | None) -> bool:
    """Whether gateways may send the service's tasks anything."""
    return service is not None and bool(published_ports(service) or task_ports(service))
