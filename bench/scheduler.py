"""How fast the scheduler is: placement at scale, and one manager under many agents.

    python bench/scheduler.py placement        100,000 tasks on 1,000 and on 10,000 nodes, one core, store included
    python bench/scheduler.py dispatch         1,000 simulated agents with 20,000 tasks on one manager
    python bench/scheduler.py routes           one change among 5,000 services
    python bench/scheduler.py                  all of it

Every figure is printed beside its limit; the exit code is 1 when one is missed. `--scale 0.1` makes all numbers a
tenth, for a quick look.
"""

import argparse
import asyncio
import random
import resource
import sys
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import msgspec

from essaim.cluster import changes, wire
from essaim.cluster.changes import ChangeSet
from essaim.cluster.container import ContainerSpec
from essaim.cluster.node import Node, NodeDescription, NodeSpec, NodeStatus
from essaim.cluster.service import (
    Endpoint,
    EndpointSpec,
    Placement,
    PlacementPreference,
    Platform,
    PortConfig,
    Replicated,
    ResourceRequirements,
    Resources,
    Service,
    ServiceMode,
    ServiceSpec,
    SpreadOver,
    TaskSpec,
)
from essaim.cluster.shape import Version
from essaim.cluster.store import Store
from essaim.cluster.task import Task, TaskEndpoint, TaskState, TaskStatus
from essaim.daemon.collector import tune_collector
from essaim.scheduler.leader import Leader
from essaim.scheduler.loop import CHUNK
from essaim.scheduler.place.placement_loop import Placer
from essaim.scheduler.traffic.routes import RouteCache
from tests.scheduler.agents import Manager, SimulatedAgent, until, utc_now
from tests.scheduler.agents import node as member

GB = 1 << 30
NOW = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass
class Figure:
    name: str
    value: float
    limit: float | None
    unit: str

    @property
    def ok(self) -> bool:
        return self.limit is None or self.value <= self.limit

    def __str__(self) -> str:
        limit = "" if self.limit is None else f"  (at most {self.limit:g} {self.unit}: {'ok' if self.ok else 'MISSED'})"
        return f"{self.name:<72}{self.value:>10.3f} {self.unit}{limit}"


def apply(store: Store, index: int, proposed: list[changes.Change]) -> None:
    for start in range(0, len(proposed), CHUNK):
        index += 1
        store.apply(index, changes.encode(ChangeSet(proposed[start : start + CHUNK], NOW, atomic=False)))


def node(number: int) -> Node:
    return Node(
        id=f"node{number:06}",
        spec=NodeSpec(
            labels={"zone": f"z{number % 3}", "rack": f"r{number % 40}", "disk": "ssd" if number % 2 else "hdd"}
        ),
        description=NodeDescription(
            hostname=f"host{number}",
            platform=Platform(architecture="x86_64", os="linux"),
            resources=Resources(nano_cpus=64_000_000_000, memory_bytes=256 * GB),
            data_addr=f"10.0.{number // 256}.{number % 256}",
        ),
        status=NodeStatus(state="ready", addr="10.0.0.1"),
    )


def template(*, demanding: bool) -> TaskSpec:
    placement = None
    if demanding:
        placement = Placement(
            constraints=["node.labels.disk==ssd", "node.platform.os==linux"],
            preferences=[
                PlacementPreference(spread=SpreadOver(spread_descriptor="node.labels.zone")),
                PlacementPreference(spread=SpreadOver(spread_descriptor="node.labels.rack")),
            ],
        )
    return TaskSpec(
        container_spec=ContainerSpec(image="web:1", env=["A=1", "B=2"]),
        resources=ResourceRequirements(reservations=Resources(nano_cpus=100_000_000, memory_bytes=64 << 20)),
        placement=placement,
    )


def waiting_tasks(count: int, services: int, *, demanding: bool) -> list[Task]:
    spec = template(demanding=demanding)
    return [
        Task(
            id=f"task{number:08}",
            name=f"svc{number % services}.{number}.x",
            spec=spec,
            service_id=f"svc{number % services}",
            service_name=f"svc{number % services}",
            slot=number // services + 1,
            status=TaskStatus(timestamp=NOW, state="pending", message="pending task scheduling"),
            spec_version=Version(index=1),
        )
        for number in range(count)
    ]


def place(nodes: int, tasks: int, services: int, *, demanding: bool) -> tuple[float, float]:
    """CPU seconds to place the tasks: the decisions alone, and with every change applied to the store and observed."""
    store = Store()
    apply(store, 0, [changes.put("nodes", node(n), new=True) for n in range(nodes)])
    wanted = [changes.put("tasks", t, new=True) for t in waiting_tasks(tasks, services, demanding=demanding)]
    apply(store, 1000, list(wanted))
    placer = Placer()
    placer.reset(store)
    deciding = 0.0
    index = 10_000
    began = time.process_time()
    with store.watch(*placer.tables, limit=10_000_000) as watch:
        while True:
            started = time.process_time()
            decision = placer.decide(store, NOW)
            deciding += time.process_time() - started
            if not decision.changes:
                break
            apply(store, index, decision.changes)
            index += 10
            placer.observe(watch.drain())
    total = time.process_time() - began
    placed = sum(1 for task in store.tasks if task.state == TaskState.ASSIGNED)
    assert placed == tasks, f"only {placed} of {tasks} placed"
    return deciding, total


def placement(scale: float) -> list[Figure]:
    tasks, few, many = int(100_000 * scale), int(1000 * scale), int(10_000 * scale)
    figures: list[Figure] = []
    per_task: dict[int, float] = {}
    for services in (1, max(1, tasks // 10)):
        for nodes in (few, many):
            deciding, total = place(nodes, tasks, services, demanding=False)
            what = f"{tasks} tasks of {services} services on {nodes} nodes"
            figures.append(Figure(f"{what}, decisions", deciding, None, "s"))
            figures.append(Figure(f"{what}, with the store", total, 8.0 if nodes == few else None, "s"))
            per_task[nodes] = total
        ratio = per_task[many] / per_task[few]
        figures.append(Figure(f"time a task, {many} nodes to {few}, {services} services", ratio, 1.5, "x"))
    for services in (1, max(1, tasks // 1000)):
        deciding, total = place(few, tasks, services, demanding=True)
        what = f"{tasks} tasks of {services} services on {few} nodes, constraints and preferences"
        figures.append(Figure(what, total, 12.0, "s"))
    return figures


def routes(scale: float) -> list[Figure]:
    services, replicas = int(5000 * scale), 4
    store = Store()
    apply(store, 0, [changes.put("nodes", node(n), new=True) for n in range(20)])
    found: list[changes.Change] = []
    for number in range(services):
        ports = [PortConfig(protocol="tcp", target_port=80, published_port=1000 + number, publish_mode="ingress")]
        spec = ServiceSpec(name=f"svc{number}", endpoint_spec=EndpointSpec(ports=ports))
        service = Service(id=f"svc{number}", spec=spec, endpoint=Endpoint(spec=spec.endpoint_spec, ports=ports))
        found.append(changes.put("services", service, new=True))
        for slot in range(replicas):
            found.append(changes.put("tasks", running_task(f"svc{number}", slot, number % 20, ports), new=True))
    apply(store, 100, found)
    cache = RouteCache()
    began = time.process_time()
    first = cache.table(store)
    whole = time.process_time() - began
    index = 1_000_000
    rounds = 50
    spent = 0.0
    with store.watch(*cache.tables) as watch:
        for number in range(rounds):
            task = store.tasks.get(f"svc{number}-1")
            assert task is not None
            gone = msgspec.structs.replace(task, status=msgspec.structs.replace(task.status, state="failed"))
            index += 1
            store.apply(index, changes.encode(ChangeSet([changes.put("tasks", gone)], NOW)))
            events = watch.drain()
            began = time.process_time()
            cache.observe(events)
            table = cache.table(store)
            spent += time.process_time() - began
            assert table is not first
    return [
        Figure(f"route table of {services} services with {replicas} replicas, the first", whole, None, "s"),
        Figure("the next one after one change", spent / rounds * 1000, 20, "ms"),
    ]


def running_task(service: str, slot: int, number: int, ports: list[PortConfig]) -> Task:
    return Task(
        id=f"{service}-{slot}",
        spec=TaskSpec(),
        service_id=service,
        slot=slot,
        node_id=f"node{number:06}",
        status=TaskStatus(state="running"),
        ports=ports,
        endpoints=[TaskEndpoint(protocol="tcp", target_port=80, address="10.0.0.1", port=32768 + slot)],
    )


@dataclass
class Fleet:
    """A manager and its agents, all in this process: what is measured is both sides' cost."""

    manager: Manager
    agents: list[SimulatedAgent]

    async def scale(self, name: str, replicas: int) -> None:
        template = TaskSpec(container_spec=ContainerSpec(image="web:1"))
        mode = ServiceMode(replicated=Replicated(replicas=replicas))
        spec = ServiceSpec(name=name, task_template=template, mode=mode)
        old = self.manager.store.services.get(name)
        version = Version(index=self.manager.store.version + 1)
        service = msgspec.structs.replace(old, spec=spec) if old else Service(id=name, spec=spec, spec_version=version)
        await self.manager.writer.commit([changes.put("services", service, new=old is None)])

    def assigned(self) -> int:
        return sum(len(agent.tasks) for agent in self.agents)

    def all_run(self) -> bool:
        return all(task.state == TaskState.RUNNING for task in self.manager.store.tasks)

    async def idle(self, seconds: float) -> float:
        """Cores used by heartbeats alone."""
        before = cpu()
        await asyncio.sleep(seconds)
        return (cpu() - before) / seconds

    async def busy(self, seconds: float) -> tuple[float, float]:
        """Cores used with about 1,000 status updates a second, and how many it were."""
        before, began, sent = cpu(), time.monotonic(), 0
        while time.monotonic() - began < seconds:
            for agent in self.agents[:: max(1, len(self.agents) // 100)]:
                status = TaskStatus(state="running", message=str(sent))
                await agent.send(wire.Reports([wire.TaskReport(next(iter(agent.tasks)), status)]))
                sent += 1
            await asyncio.sleep(0.1)
        return (cpu() - before) / seconds, sent / seconds


async def dispatch(scale: float) -> list[Figure]:
    agents, tasks = int(1000 * scale), int(20_000 * scale)
    manager = Manager()
    leader = Leader(
        manager.store, manager.writer, manager.dispatcher, random.Random(1), utc_now, time.monotonic, manager.quiet
    )
    names = [f"n{n}" for n in range(agents)]
    await manager.writer.write([changes.put("nodes", member(name), new=True) for name in names])
    await leader.start()
    async with AsyncExitStack() as stack:
        fleet = Fleet(manager, [SimulatedAgent(name, manager.dispatcher, heartbeat=1.0) for name in names])
        for agent in fleet.agents:
            await stack.enter_async_context(agent)
        await until(lambda: len(manager.dispatcher.sessions.connected) == agents, within=120)
        figures = await measure(fleet, tasks)
    await leader.stop()
    return figures


async def measure(fleet: Fleet, tasks: int) -> list[Figure]:
    began = time.monotonic()
    for number in range(10):
        await fleet.scale(f"big{number}", tasks // 20)
    await fleet.scale("small", tasks // 2 - 100)
    await until(lambda: fleet.assigned() >= tasks - 100 and fleet.all_run(), within=300)
    started = time.monotonic() - began
    idle = await fleet.idle(10)
    busy, rate = await fleet.busy(10)
    began = time.monotonic()
    await fleet.scale("small", tasks // 2)
    await until(lambda: fleet.assigned() >= tasks, within=60)
    dispatched = time.monotonic() - began
    return [
        Figure(
            f"{tasks} tasks on {len(fleet.agents)} agents, from nothing to all reported running", started, None, "s"
        ),
        Figure("heartbeats of all agents, both sides, in cores", idle, 0.5, "cores"),
        Figure(f"the same with {rate:.0f} status updates a second", busy, 0.5, "cores"),
        Figure("a service scale of 100 until every agent has its task", dispatched, 1.0, "s"),
    ]


def cpu() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


PARTS: dict[str, Callable[[float], list[Figure]]] = {
    "placement": placement,
    "routes": routes,
    "dispatch": lambda scale: asyncio.run(dispatch(scale)),
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", nargs="?", choices=sorted(PARTS))
    parser.add_argument("--scale", type=float, default=1.0)
    arguments = parser.parse_args()
    tune_collector()  # as the daemon does: with Python's own thresholds its collector would be most of what is measured
    missed = False
    for name in [arguments.part] if arguments.part else list(PARTS):
        for figure in PARTS[name](arguments.scale):
            print(figure, flush=True)
            missed = missed or not figure.ok
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
