"""A node for the API to stand on: a store behind a log in memory, and a scheduler that marks tasks running at once."""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime
from typing import Any, Literal

from msgspec.structs import replace

from essaim.api.node import InitRequest, JoinRequest, Manager
from essaim.cluster.changes import Change, Delete, put
from essaim.cluster.errors import ClusterError, NotYet, Unauthorized
from essaim.cluster.ids import new_id
from essaim.cluster.node import EngineDescription, ManagerStatus, Node, NodeDescription, NodeSpec, NodeStatus
from essaim.cluster.routes import RouteGateway, RouteTable
from essaim.cluster.service import Platform, Resources, Service
from essaim.cluster.store import Store
from essaim.cluster.swarm import Cluster, JoinTokens
from essaim.cluster.task import ContainerStatus, Task, TaskStatus
from essaim.cluster.wire import LogChunk, LogRequest
from essaim.cluster.writer import Writer
from essaim.raft.interface import Leadership, NoQuorum
from essaim.secrets import tokens
from essaim.secrets.ca import new_authority, tls_info
from essaim.secrets.rotation import stored

LEADER = Leadership(term=1, leader_id=1, leader_address="127.0.0.1:2377", is_local=True)


def utc_now() -> datetime:
    return datetime.now(UTC)


class MemoryLog:
    """Applies at once; `lost` makes every write fail as without quorum."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.index = 0
        self.lost = False

    async def start(self) -> None:
        pass

    async def stop(self) -> None:
        pass

    async def propose(self, command: bytes, *, timeout: float | None = None) -> Any:
        await asyncio.sleep(0)
        if self.lost:
            raise NoQuorum("no leader")
        self.index += 1
        return self._store.apply(self.index, command)

    async def read_barrier(self, *, timeout: float | None = None) -> None:
        pass

    @property
    def leadership(self) -> Leadership:
        return LEADER

    def on_leadership(self, callback: Callable[[Leadership], Awaitable[None] | None]) -> Callable[[], None]:
        callback(LEADER)
        return lambda: None


def host(name: str = "vm") -> NodeDescription:
    return NodeDescription(
        hostname=name,
        platform=Platform(architecture="x86_64", os="linux"),
        resources=Resources(nano_cpus=2 * 10**9, memory_bytes=2 << 30),
        engine=EngineDescription(engine_version="1.2.3", labels={}, plugins=[]),
        runtime="process",
        data_addr="127.0.0.1",
    )


class FakeNode:
    """A `LocalNode` that becomes the only manager of a swarm by `init`."""

    def __init__(self, seed: int = 1) -> None:
        self.has_leader = True
        self.chance = random.Random(seed)
        self.swarm_state: Literal["inactive", "pending", "active", "error", "locked"] = "inactive"
        self.node_id = ""
        self.address = ""
        self.error = ""
        self.manager: Manager | None = None
        self.remote_managers: dict[str, str] = {}
        self.description = host()
        self.engine_url: str | None = None
        self.unlocked_by = ""
        self.left_behind = ""
        self.joined: JoinRequest | None = None
        self.removed: list[str] = []
        self.logs: dict[str, list[tuple[int, bytes]]] = {}
        self.default_logs: list[tuple[int, bytes]] = []
        self.log_requests: list[LogRequest] = []
        self.log: MemoryLog | None = None

    async def init(self, request: InitRequest) -> str:
        store = Store()
        self.log = MemoryLog(store)
        writer = Writer(self.log, store, utc_now)
        self.node_id = new_id(self.chance)
        self.address = request.advertise_addr.partition(":")[0] or "127.0.0.1"
        authority = new_authority(utc_now())
        digest = tokens.root_digest(authority.certificate)
        made = (str(tokens.generate(digest, self.chance)) for _ in range(2))
        cluster = Cluster(
            id=new_id(self.chance),
            spec=request.spec,
            join_tokens=JoinTokens(worker=next(made), manager=next(made)),
            root_ca=stored(authority),
            tls_info=tls_info(authority.certificate, authority.certificate),
            default_addr_pool=request.default_addr_pool or None,
            subnet_size=request.subnet_size or 24,
            data_path_port=request.data_path_port or 4789,
        )
        node = Node(
            id=self.node_id,
            spec=NodeSpec(labels={}, role="manager", availability=request.availability),
            description=self.description,
            status=NodeStatus(state="ready", addr=self.address),
            manager_status=ManagerStatus(addr=f"{self.address}:2377", raft_id=1, reachability="reachable"),
        )
        await writer.commit([put("clusters", cluster, new=True), put("nodes", node, new=True)])
        self.manager = Manager(store, writer, LEADER, {self.node_id: True})
        self.remote_managers = {self.node_id: f"{self.address}:2377"}
        self.swarm_state = "active"
        return self.node_id

    async def join(self, request: JoinRequest) -> None:
        self.joined = request
        self.become_worker()

    async def fresh(self) -> bool:
        return self.has_leader

    async def settled(self, service_id: str) -> None:
        """Nobody allots anything here."""

    def become_worker(self) -> None:
        self.swarm_state, self.manager, self.node_id = "active", None, new_id(self.chance)

    async def unlock(self, unlock_key: str) -> None:
        if unlock_key != self.unlocked_by:
            raise Unauthorized("swarm could not be unlocked: invalid key provided")
        self.swarm_state = "active"

    async def leave(self, *, force: bool) -> str:
        self.swarm_state, self.manager, self.node_id = "inactive", None, ""
        return self.left_behind

    async def promote(self, node_id: str) -> None:
        raise NotYet("promotion is not supported yet")

    async def demote(self, node_id: str) -> None:
        raise NotYet("demotion is not supported yet")

    async def remove(self, node_id: str, *, force: bool) -> None:
        if self.manager is None:
            raise ClusterError("not a manager")
        self.removed.append(node_id)
        await self.manager.writer.commit([Delete("nodes", node_id)])

    async def task_logs(self, requests: list[LogRequest]) -> AsyncIterator[LogChunk]:
        self.log_requests = requests
        for request in requests:
            for stream, line in self.logs.get(request.task_id, self.default_logs):
                wanted = request.stdout if stream == 1 else request.stderr
                if wanted:
                    stamp = "2026-01-02T03:04:05.000000006Z"
                    yield LogChunk(request.request, request.task_id, stream, stamp, line)
            yield LogChunk(request.request, request.task_id, end=True)

    def routes(self) -> RouteTable:
        return RouteTable(version=7, gateways=[RouteGateway(node_id="n", hostname="vm", address="127.0.0.1")])

    async def gateway_metrics(self) -> str:
        return "essaim_gateway_fake 1\n"

    async def gateway_status(self) -> dict[str, Any]:
        return {"listeners": []}

    async def add_worker(self, name: str, *, state: str = "ready") -> str:
        """A second node in the store, for tests of node commands."""
        assert self.manager is not None
        node = Node(
            id=new_id(self.chance),
            spec=NodeSpec(labels={}, role="worker"),
            description=host(name),
            status=NodeStatus(state=state, addr="127.0.0.2"),
        )
        await self.manager.writer.commit([put("nodes", node, new=True)])
        return node.id


class InstantScheduler:
    """Gives every service its tasks, running, as soon as it changes; just enough for clients that wait for them."""

    def __init__(self, node: FakeNode) -> None:
        self._node = node

    async def settle(self) -> None:
        """One pass over the store."""
        manager = self._node.manager
        if manager is None:
            return
        changes: list[Change] = []
        for service in manager.store.services:
            changes += self._reconcile(manager.store, service)
        known = {s.id for s in manager.store.services}
        changes += [Delete("tasks", t.id) for t in manager.store.tasks if t.service_id not in known]
        await manager.writer.write(changes, atomic=False)

    def _reconcile(self, store: Store, service: Service) -> list[Change]:
        mode = service.spec.mode
        wanted = mode.replicated.replicas if mode and mode.replicated else 1
        live = [t for t in store.tasks.by("service", service.id) if t.is_live]
        stale = [t for t in live if t.spec_version != service.spec_version or (t.slot or 0) > (wanted or 0)]
        kept = {t.slot for t in live if t not in stale}
        ended = TaskStatus(timestamp=utc_now(), state="shutdown", message="shutdown")
        gone: list[Change] = [put("tasks", replace(t, desired_state="shutdown", status=ended)) for t in stale]
        new = [self._task(service, slot) for slot in range(1, (wanted or 0) + 1) if slot not in kept]
        return gone + [put("tasks", t, new=True) for t in new]

    def _task(self, service: Service, slot: int) -> Task:
        assert service.spec.task_template is not None
        status = TaskStatus(
            timestamp=utc_now(),
            state="running",
            message="started",
            container_status=ContainerStatus(container_id=f"{self._node.chance.getrandbits(256):064x}", exit_code=0),
        )
        return Task(
            id=new_id(self._node.chance),
            spec=service.spec.task_template,
            service_id=service.id,
            service_name=service.spec.name,
            slot=slot,
            node_id=self._node.node_id,
            status=status,
            spec_version=service.spec_version,
            service_labels=service.spec.labels,
        )

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            manager = self._node.manager
            if manager is None:
                await asyncio.sleep(0.01)
                continue
            with manager.store.watch("services") as watch:
                await self.settle()
                while self._node.manager is manager:
                    try:
                        async with asyncio.timeout(0.2):
                            await watch.next()
                    except TimeoutError:
                        continue
                    await self.settle()


class QueueChannel:
    """One end of a channel in memory."""

    def __init__(self, incoming: "asyncio.Queue[bytes | None]", outgoing: "asyncio.Queue[bytes | None]") -> None:
        self._incoming, self._outgoing = incoming, outgoing
        self._closed = False

    async def send(self, data: bytes) -> None:
        if self._closed:
            raise ConnectionResetError("the channel is closed")
        await self._outgoing.put(data)

    async def receive(self) -> bytes | None:
        return None if self._closed else await self._incoming.get()

    async def close(self) -> None:
        if not self._closed:
            self._closed = True
            with contextlib.suppress(asyncio.QueueFull):
                self._outgoing.put_nowait(None)


def channel_pair() -> tuple[QueueChannel, QueueChannel]:
    """Both ends of a channel; each direction holds a few messages, with room for the end."""
    one: asyncio.Queue[bytes | None] = asyncio.Queue(1000)
    other: asyncio.Queue[bytes | None] = asyncio.Queue(1000)
    return QueueChannel(one, other), QueueChannel(other, one)
