"""What a manager knows, as numbers for Prometheus: counted from the store when asked, so that nothing can drift."""

from collections import Counter
from collections.abc import Iterator

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from essaim.cluster.store import Store

from .node import LocalNode, Manager

MOST_FAULTY = 100
"""Series: a mistake of ours may make every service of a cluster faulty at once."""


class ClusterCollector(Collector):
    """The cluster as this node sees it; a worker tells only that it is one."""

    def __init__(self, node: LocalNode) -> None:
        self._node = node

    def collect(self) -> Iterator[GaugeMetricFamily]:
        node, manager = self._node, self._node.manager
        active = node.swarm_state == "active"
        yield _gauge("essaim_node_active", "Whether this node is an active part of a swarm.", float(active))
        yield _gauge("essaim_node_manager", "Whether this node is a manager.", float(manager is not None))
        if manager is None:
            return
        yield _gauge("essaim_leader", "Whether this manager leads.", float(manager.leadership.is_local))
        yield _gauge("essaim_store_version", "The version of this manager's store.", manager.store.version)
        yield from _counts(manager)


def _counts(manager: Manager) -> Iterator[GaugeMetricFamily]:
    store = manager.store
    yield _gauge("essaim_services", "Services.", len(store.services))
    yield from _faulty(store)
    nodes = GaugeMetricFamily(
        "essaim_nodes", "Nodes by role, state and availability.", labels=["role", "state", "availability"]
    )
    for key, count in Counter((n.spec.role, n.status.state, n.spec.availability) for n in store.nodes).items():
        nodes.add_metric(list(key), count)
    yield nodes
    tasks = GaugeMetricFamily("essaim_tasks", "Tasks by observed and desired state.", labels=["state", "desired"])
    for states, count in Counter((t.status.state, t.desired_state) for t in store.tasks).items():
        tasks.add_metric(list(states), count)
    yield tasks
    yield from _replicas(store)


def _faulty(store: Store) -> Iterator[GaugeMetricFamily]:
    """Kept in the store by the leader, so that every manager tells the same."""
    names = sorted(s.spec.name or s.id for s in store.services if s.fault)
    yield _gauge("essaim_services_faulty", "Services that cannot be carried out as specified.", len(names))
    faulty = GaugeMetricFamily(
        "essaim_service_faulty",
        f"A service that cannot be carried out as specified (the first {MOST_FAULTY} by name); its tasks' errors in "
        "`service ps` say why.",
        labels=["service"],
    )
    for name in names[:MOST_FAULTY]:
        faulty.add_metric([name], 1)
    yield faulty


def _replicas(store: Store) -> Iterator[GaugeMetricFamily]:
    running = GaugeMetricFamily("essaim_service_tasks_running", "Running tasks of a service.", labels=["service"])
    live = Counter(t.service_id for t in store.tasks if t.status.state == "running")
    for service in store.services:
        running.add_metric([service.spec.name or service.id], live[service.id])
    yield running


def _gauge(name: str, text: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, text, value=value)


def exposition(node: LocalNode) -> bytes:
    """Prometheus' text format."""
    registry = CollectorRegistry()
    registry.register(ClusterCollector(node))
    return generate_latest(registry)


async def whole(node: LocalNode) -> bytes:
    """What the cluster and this node's gateway tell, in Prometheus' text format."""
    return exposition(node) + (await node.gateway_metrics()).encode()
