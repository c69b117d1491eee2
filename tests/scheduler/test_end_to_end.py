"""The leader with its loops and dispatcher, and agents at the other end of real sessions."""

import random
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import msgspec
import pytest

from essaim.cluster import changes
from essaim.cluster.service import Service, ServiceSpec
from essaim.cluster.shape import Version
from essaim.cluster.swarm import Cluster, DispatcherConfig, default_spec
from essaim.cluster.task import TaskState
from essaim.scheduler.leader import Leader
from tests.scheduler.agents import Manager, SimulatedAgent, node, until, utc_now
from tests.scheduler.world import image_of, replicated, with_image, with_replicas


class Running:
    """Three nodes, a leader, and short heartbeats."""

    def __init__(self) -> None:
        self.manager = Manager()
        self.store = self.manager.store
        self.agents: dict[str, SimulatedAgent] = {}
        self.stack = AsyncExitStack()
        self.leader = Leader(
            self.store,
            self.manager.writer,
            self.manager.dispatcher,
            random.Random(1),
            utc_now,
            time.monotonic,
            self.manager.quiet,
        )

    async def start(self) -> None:
        spec = msgspec.structs.replace(default_spec(), dispatcher=DispatcherConfig(heartbeat_period=500_000_000))
        first = [changes.put("clusters", Cluster(id="cluster", spec=spec), new=True)]
        await self.manager.writer.commit(first + [changes.put("nodes", node(f"n{i}"), new=True) for i in (1, 2, 3)])
        await self.leader.start()
        for i in (1, 2, 3):
            await self.connect(f"n{i}")

    async def connect(self, node_id: str) -> SimulatedAgent:
        self.agents[node_id] = await self.stack.enter_async_context(SimulatedAgent(node_id, self.manager.dispatcher))
        return self.agents[node_id]

    async def create(self, spec: ServiceSpec) -> str:
        service = Service(id=f"svc-{spec.name}", spec=spec, spec_version=Version(index=self.store.version))
        await self.manager.writer.commit([changes.put("services", service, new=True)])
        return service.id

    async def update(self, service_id: str, spec: ServiceSpec) -> None:
        service = self.store.services.get(service_id)
        assert service is not None
        version = Version(index=self.store.version)
        changed = msgspec.structs.replace(service, spec=spec, previous_spec=service.spec, spec_version=version)
        await self.manager.writer.commit([changes.put("services", changed, force=True)])

    def running(self, service_id: str) -> list[str]:
        return [
            image_of(t)
            for t in self.store.tasks.by("service", service_id)
            if t.is_live and t.state == TaskState.RUNNING and self.store.nodes.get(t.node_id or "")
        ]

    def up(self, service_id: str) -> set[str]:
        """Tasks that the first node's gateway would send requests to."""
        return {
            e.task_id
            for s in self.agents["n1"].table.services
            if s.id == service_id
            for p in s.ports
            for e in p.endpoints
            if e.state == "up"
        }


@pytest.fixture
async def cluster() -> AsyncIterator[Running]:
    running = Running()
    await running.start()
    yield running
    await running.stack.aclose()
    await running.leader.stop()
    assert running.manager.quiet.errors == []


async def test_service_goes_from_creation_to_routes_and_away(cluster: Running) -> None:
    web = await cluster.create(replicated("web", 6, ports=[(4000, 80)]))
    await until(lambda: len(cluster.up(web)) == 6)
    assert {len(a.tasks) for a in cluster.agents.values()} == {2}
    assert [g.node_id for g in cluster.agents["n1"].table.gateways] == ["n1", "n2", "n3"]
    await cluster.update(web, with_replicas(replicated("web", 6, ports=[(4000, 80)]), 2))
    await until(lambda: len(cluster.up(web)) == 2 and len(cluster.store.tasks) == 2)
    await cluster.manager.writer.commit([changes.Delete("services", web)])
    await until(lambda: not len(cluster.store.tasks) and not any(a.tasks for a in cluster.agents.values()))


async def test_update_replaces_tasks_behind_the_gate(cluster: Running) -> None:
    spec = replicated("web", 3, ports=[(4000, 80)])
    web = await cluster.create(spec)
    await until(lambda: len(cluster.up(web)) == 3)
    await cluster.update(web, with_image(spec, "web:2"))
    await until(lambda: cluster.running(web) == ["web:2"] * 3 and len(cluster.up(web)) == 3)


async def test_silent_node_is_called_down_and_its_tasks_run_elsewhere(cluster: Running) -> None:
    web = await cluster.create(replicated("web", 6, ports=[(4000, 80)]))
    await until(lambda: len(cluster.up(web)) == 6)
    lost = cluster.agents.pop("n3")
    await lost.__aexit__()

    def moved() -> bool:
        gone = cluster.store.nodes.get("n3")
        live = [t for t in cluster.store.tasks.by("service", web) if t.is_live]
        return gone is not None and gone.status.state == "down" and {t.node_id for t in live} == {"n1", "n2"}

    await until(moved)
    await until(lambda: len(cluster.running(web)) == 6 and len(cluster.up(web)) == 6)
    back = await cluster.connect("n3")
    await until(lambda: cluster.store.nodes.get("n3").is_ready)  # type: ignore[union-attr]
    await until(lambda: bool(back.received))
    assert len(cluster.running(web)) == 6


async def test_new_leader_goes_on_without_moving_anything(cluster: Running) -> None:
    web = await cluster.create(replicated("web", 6, ports=[(4000, 80)]))
    await until(lambda: len(cluster.up(web)) == 6)
    before = {t.id for t in cluster.store.tasks}
    await cluster.leader.stop()
    await cluster.stack.aclose()
    await cluster.leader.start()
    for i in (1, 2, 3):
        await cluster.connect(f"n{i}")
    await until(lambda: len(cluster.up(web)) == 6 and len(cluster.manager.dispatcher.sessions.connected) == 3)
    assert {t.id for t in cluster.store.tasks} == before
    assert {n.status.state for n in cluster.store.nodes} == {"ready"}
