"""Filters: may a task run on a node at all. Each checks quickly, and explains itself when asked.

`STATIC` ones depend on the node's object alone and are remembered per node; `DYNAMIC` ones on what runs there.
The first filter that refuses a node gives the reason that users read in `service ps`.

Pure: no I/O.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

from essaim.cluster.node import Node
from essaim.cluster.service import Placement, Platform
from essaim.cluster.task import Task
from essaim.scheduler.constraints import parsed, same_architecture

from .resources import Demand, demand_of
from .view import HostPort, NodeState, host_ports

NODES = "\0"
"""Stands for a number of nodes in a reason; names of resources and constraints may hold any other sign."""


@dataclass(frozen=True, slots=True)
class Request:
    """What one task (and all others of its group) asks of a node."""

    service_id: str
    version: int
    demand: Demand
    constraints: tuple[str, ...]
    platforms: tuple[tuple[str, str], ...]
    plugins: tuple[tuple[str, str], ...]
    max_replicas: int
    ports: tuple[HostPort, ...]
    preferences: tuple[str, ...]
    strategy: str = "spread"

    @property
    def static_key(self) -> tuple[object, ...]:
        return (self.constraints, self.platforms, self.plugins)


def request_of(task: Task, strategy: str = "spread") -> Request:
    placement = task.spec.placement or Placement()
    preferences = [p.spread.spread_descriptor for p in placement.preferences or [] if p.spread]
    return Request(
        service_id=task.service_id or task.id,
        version=task.spec_version.index if task.spec_version else 0,
        demand=demand_of(task.spec),
        constraints=tuple(placement.constraints or ()),
        platforms=tuple((p.os or "", p.architecture or "") for p in placement.platforms or ()),
        plugins=_plugins(task),
        max_replicas=placement.max_replicas or 0,
        ports=tuple(host_ports(task)) if task.ports else (),
        preferences=tuple(preferences),
        strategy=strategy,
    )


def _plugins(task: Task) -> tuple[tuple[str, str], ...]:
    """(type, name) of the volume and log drivers that a node must have, the built-in ones left out."""
    needed: set[tuple[str, str]] = set()
    container = task.spec.container_spec
    for mount in (container.mounts if container else None) or ():
        driver = mount.volume_options.driver_config if mount.volume_options else None
        if driver and driver.name and driver.name != "local":
            needed.add(("Volume", driver.name))
    return tuple(sorted(needed))


def platform_matches(node: Node, platforms: Iterable[Platform] | None) -> bool:
    return _runs_on(node, tuple((p.os or "", p.architecture or "") for p in platforms or ()))


def _runs_on(node: Node, platforms: tuple[tuple[str, str], ...]) -> bool:
    platform = node.description.platform if node.description else None
    if not platforms or platform is None:
        return True
    own_os, own_arch = (platform.os or "").lower(), platform.architecture or ""
    return any(
        (not os or os.lower() == own_os) and (not arch or same_architecture(arch, own_arch)) for os, arch in platforms
    )


class Filter(Protocol):
    def check(self, request: Request, state: NodeState) -> bool:
        """Whether the node will do."""

    def explain(self, request: Request, state: NodeState) -> str:
        """Why it will not, with NODES for the number of nodes of which that is true."""


class Available:
    def check(self, request: Request, state: NodeState) -> bool:
        return state.node.takes_tasks and state.node.spec.availability == "active"

    def explain(self, request: Request, state: NodeState) -> str:
        if not state.node.is_ready:
            return f"{NODES} not ready"
        if not state.node.takes_tasks:
            return f"{NODES} whose Docker Engine does not answer"
        return f"{NODES} not available for new tasks"


class RunsTasks:
    def check(self, request: Request, state: NodeState) -> bool:
        return state.node.runs_tasks

    def explain(self, request: Request, state: NodeState) -> str:
        return f"{NODES} only serving as gateway"


class Constrained:
    def check(self, request: Request, state: NodeState) -> bool:
        if not request.constraints:
            return True
        constraints = parsed(list(request.constraints))
        return constraints is not None and all(c.holds(state.node) for c in constraints)

    def explain(self, request: Request, state: NodeState) -> str:
        constraints = parsed(list(request.constraints))
        if constraints is None:
            return f"invalid constraint on {NODES}"
        failing = next((c.text for c in constraints if not c.holds(state.node)), "")
        return f"constraint {failing} not satisfied on {NODES}"


class RightPlatform:
    def check(self, request: Request, state: NodeState) -> bool:
        return not request.platforms or _runs_on(state.node, request.platforms)

    def explain(self, request: Request, state: NodeState) -> str:
        return f"unsupported platform on {NODES}"


class HasPlugins:
    def check(self, request: Request, state: NodeState) -> bool:
        if not request.plugins:
            return True
        engine = state.node.description.engine if state.node.description else None
        if engine is None or engine.plugins is None:
            return True  # it does not say what it has; the node itself will refuse
        have = {(p.type, p.name.split(":", 1)[0]) for p in engine.plugins}
        return all((kind, name.split(":", 1)[0]) in have for kind, name in request.plugins)

    def explain(self, request: Request, state: NodeState) -> str:
        return f"missing plugin on {NODES}"


class Resourced:
    def check(self, request: Request, state: NodeState) -> bool:
        return state.stock.lacks(request.demand) is None

    def explain(self, request: Request, state: NodeState) -> str:
        return f"insufficient {state.stock.lacks(request.demand)} on {NODES}"


class PortsFree:
    def check(self, request: Request, state: NodeState) -> bool:
        return not any(state.ports[port] > 0 for port in request.ports)

    def explain(self, request: Request, state: NodeState) -> str:
        return f"host-mode port already in use on {NODES}"


class FewReplicas:
    def check(self, request: Request, state: NodeState) -> bool:
        return not request.max_replicas or state.services[request.service_id] < request.max_replicas

    def explain(self, request: Request, state: NodeState) -> str:
        return f"max replicas per node limit exceed on {NODES}"


STATIC: tuple[Filter, ...] = (Available(), RunsTasks(), Constrained(), RightPlatform(), HasPlugins())
DYNAMIC: tuple[Filter, ...] = (Resourced(), PortsFree(), FewReplicas())


def dynamic_filters(request: Request) -> tuple[Filter, ...]:
    """Those that can refuse anything at all for this request."""
    resourced, ports, few = DYNAMIC
    chosen: list[Filter] = []
    if request.demand.cpu or request.demand.memory or request.demand.generic:
        chosen.append(resourced)
    if request.ports:
        chosen.append(ports)
    if request.max_replicas:
        chosen.append(few)
    return tuple(chosen)


def passes(filters: tuple[Filter, ...], request: Request, state: NodeState) -> bool:
    return all(f.check(request, state) for f in filters)


def explain(request: Request, states: Iterable[NodeState]) -> str:
    """Why none of the nodes can take one more task, counted by cause, most frequent first."""
    causes: Counter[str] = Counter()
    for state in states:
        refusing = next((f for f in (*STATIC, *DYNAMIC) if not f.check(request, state)), None)
        if refusing is not None:
            causes[refusing.explain(request, state)] += 1
    if not causes:
        return "no suitable node"
    ranked = sorted(causes.items(), key=lambda pair: (-pair[1], pair[0]))
    phrases = [cause.replace(NODES, "1 node" if count == 1 else f"{count} nodes") for cause, count in ranked]
    return f"no suitable node ({'; '.join(phrases)})"
