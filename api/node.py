"""What the HTTP API needs from the daemon that it runs in: the node's part in the cluster, and its hands.

The daemon implements `LocalNode`; tests implement it with a store of their own. Reads go to the local store, writes
through the writer (any manager); what only the leader can do (task logs) the daemon forwards.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from essaim.cluster.node import NodeDescription
from essaim.cluster.routes import RouteTable
from essaim.cluster.store import Store
from essaim.cluster.swarm import SwarmSpec
from essaim.cluster.wire import LogChunk, LogRequest
from essaim.cluster.writer import Writer
from essaim.raft.interface import Leadership

DialEngine = Callable[[str], Awaitable[tuple[asyncio.StreamReader, asyncio.StreamWriter]]]
"""Opens a byte stream to the Docker Engine of the node with that ID, as if its socket were here (a tunnel between the
daemons, mutual TLS). Raises ClusterError when the node is down or has no Engine. Given to `create_app`."""


@dataclass(frozen=True, slots=True)
class InitRequest:
    """`advertise_addr` and `listen_addr` may be empty, an IP, IP:port or an interface's name, as docker takes them."""

    listen_addr: str = ""
    advertise_addr: str = ""
    data_path_addr: str = ""
    force_new_cluster: bool = False
    availability: str = "active"
    default_addr_pool: list[str] = field(default_factory=list)
    subnet_size: int = 0
    data_path_port: int = 0
    spec: SwarmSpec = field(default_factory=SwarmSpec)


@dataclass(frozen=True, slots=True)
class JoinRequest:
    remote_addrs: list[str]
    join_token: str
    listen_addr: str = ""
    advertise_addr: str = ""
    data_path_addr: str = ""
    availability: str = "active"


@dataclass(frozen=True, slots=True)
class Manager:
    """Present while this node is a manager. `leadership` tells who leads; without a leader writes fail fast."""

    store: Store
    writer: Writer
    leadership: Leadership
    reachable: dict[str, bool]
    """Manager node id -> whether it can be reached, as far as this node knows."""


class LocalNode(Protocol):
    """The daemon, seen from the API."""

    @property
    def node_id(self) -> str:
        """Empty outside a swarm."""

    @property
    def address(self) -> str:
        """The advertised IP; empty outside a swarm."""

    @property
    def swarm_state(self) -> Literal["inactive", "pending", "active", "error", "locked"]: ...

    @property
    def error(self) -> str:
        """Why `swarm_state` is error (or pending), for a user."""

    @property
    def manager(self) -> Manager | None: ...

    async def fresh(self) -> bool:
        """Wait (a second at most) until local reads show every write acknowledged before the call; False when no
        leader confirms it, so that what is read is the last known state."""

    async def settled(self, service_id: str) -> None:
        """Wait (a second at most) until the leader has allotted what a service asks for (ports, virtual addresses): a
        client that reads its version after the answer can update it by that."""

    @property
    def remote_managers(self) -> dict[str, str]:
        """Node id (or address, when the id is not known) -> host:port of the managers that this node knows."""

    @property
    def description(self) -> NodeDescription:
        """This host: name, platform, resources, engine."""

    @property
    def engine_url(self) -> str | None:
        """The local Docker Engine (unix:///... or http://...), or None with the process runtime."""

    async def init(self, request: InitRequest) -> str:
        """Make a new swarm; the node's id. Raises ClusterError."""

    async def join(self, request: JoinRequest) -> None:
        """Raises ClusterError."""

    async def unlock(self, unlock_key: str) -> None:
        """Take part again as a locked manager. Raises Unauthorized for the wrong key, other ClusterErrors."""

    async def leave(self, *, force: bool) -> str:
        """What had to be left behind, in words; empty for nothing. Raises ClusterError."""

    async def promote(self, node_id: str) -> None:
        """Make a worker a manager. Raises ClusterError."""

    async def demote(self, node_id: str) -> None:
        """Raises ClusterError (the last manager, a lost quorum)."""

    async def remove(self, node_id: str, *, force: bool) -> None:
        """Take a node out of the cluster. Raises ClusterError."""

    def task_logs(self, requests: list[LogRequest]) -> AsyncIterator[LogChunk]:
        """The output of several tasks, interleaved as it comes; ends when all have ended (never, with follow)."""

    def routes(self) -> RouteTable:
        """The table that this node's gateway serves by."""

    async def gateway_status(self) -> dict[str, Any]:
        """Live listeners and endpoints with their verdicts (see docs/gateway.md)."""

    async def gateway_metrics(self) -> str:
        """The gateway's counters in Prometheus' text format; empty outside a swarm."""
