"""A node's own part: its agent, its runtime and its gateway, whatever its role in the cluster.

Nothing here ends because a manager is away: tasks and the gateway carry on with what they last heard.
"""

import asyncio
import contextlib
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

from essaim.agent.agent import Agent
from essaim.agent.runtime.docker.engine import EngineError
from essaim.agent.runtime.docker.runtime import DockerRuntime
from essaim.agent.runtime.interface import Runtime, RuntimeUnavailable
from essaim.api.streams.tunnel import serve_engine
from essaim.cluster.errors import ClusterError
from essaim.cluster.node import Node, TLSInfo
from essaim.cluster.routes import RouteTable
from essaim.daemon.endings import within
from essaim.daemon.keys.identity import Identity
from essaim.daemon.peers.channel import SocketChannel
from essaim.daemon.peers.client import PeerClient
from essaim.gateway.control.supervisor import STOP_GRACE, Gateway

TUNNEL_SECONDS = 1.0
OVERLAY_SECONDS = 5.0
GATEWAY_SECONDS = STOP_GRACE + 5.0
"""How long each may take to end."""


class ManagerBook:
    """The managers' addresses that this node knows, and which to try next: the leader first, then in turn."""

    def __init__(self, addresses: list[str]) -> None:
        self.addresses = list(dict.fromkeys(addresses))
        self._leader = ""
        self._next = 0

    def learn(self, addresses: list[str]) -> bool:
        """True when this was news. An empty list is no news: somebody must be there."""
        fresh = list(dict.fromkeys(addresses))
        if not fresh or fresh == self.addresses:
            return False
        self.addresses = fresh
        return True

    def prefer(self, leader: str) -> None:
        self._leader = leader

    def pick(self) -> str:
        """The address to try now; a leader that was named is tried once."""
        if self._leader:
            leader, self._leader = self._leader, ""
            return leader
        if not self.addresses:
            return ""
        address = self.addresses[self._next % len(self.addresses)]
        self._next += 1
        return address


class WorkerRole:
    """Use `start()` and `stop()`."""

    def __init__(
        self,
        identity: Identity,
        *,
        state_dir: Path,
        runtime: Runtime,
        gateway: Gateway,
        peers: PeerClient,
        now: Callable[[], datetime],
        monotonic: Callable[[], float],
        log: Any,
        on_node: Callable[[Node], None],
        on_managers: Callable[[list[str]], None],
        on_refused: Callable[[str], None],
        tls_info: Callable[[], TLSInfo | None],
        on_trust: Callable[[TLSInfo], None],
        engine_url: str | None = None,
    ) -> None:
        self.gateway = gateway
        self.table = RouteTable()
        self.book = ManagerBook([*identity.managers, identity.advertise] if identity.raft_id else identity.managers)
        self._peers = peers
        self._on_managers = on_managers
        self._engine_url = engine_url
        self._log = log
        self._tunnels: set[asyncio.Task[None]] = set()
        self._overlays = runtime.overlays if isinstance(runtime, DockerRuntime) else None
        self.agent = Agent(
            node_id=identity.node_id,
            runtime=runtime,
            dial=self._dial,
            state_dir=state_dir / "agent",
            on_routes=self._routes,
            open_requests=gateway.open_requests,
            unfit=gateway.unfit,
            health=gateway.health,
            look=gateway.health.answers,
            on_certificates=gateway.set_certificates,
            on_managers=self._managers,
            on_redirect=self.book.prefer,
            on_node=on_node,
            on_refused=on_refused,
            on_networks=self._overlays.offer if self._overlays else lambda _: None,
            networks_settled=self._overlays.balancer.settled if self._overlays else None,
            on_tunnel=self._tunnel if engine_url else None,
            tls_info=tls_info,
            on_trust=on_trust,
            now=now,
            monotonic=monotonic,
            log=log,
        )

    async def start(self) -> None:
        self.gateway.on_change = self.agent.gateway_changed
        self.gateway.on_findings = self.agent.findings_changed
        await self.gateway.start()
        await self.agent.start()

    async def stop(self, *, keep_tasks: bool) -> list[str]:
        """`keep_tasks`: leave them, and the gateway's workers, running for the next start (a restart of the daemon).

        Takes bounded time; the names of tasks that could not be stopped.
        """
        left = await self.agent.stop(keep_tasks=keep_tasks)
        for tunnel in self._tunnels:
            tunnel.cancel()
        if self._tunnels:
            await asyncio.wait(list(self._tunnels), timeout=TUNNEL_SECONDS)
        if self._overlays is not None and not keep_tasks:
            await within(OVERLAY_SECONDS, "the overlay networks", self._clear_overlays(), self._log)
        await within(GATEWAY_SECONDS, "the gateway", self.gateway.stop(leave_workers=keep_tasks), self._log)
        return left

    async def _clear_overlays(self) -> None:
        assert self._overlays is not None
        with contextlib.suppress(RuntimeUnavailable, EngineError, OSError):
            await self._overlays.clear()

    async def _dial(self) -> SocketChannel:
        address = self.book.pick()
        if not address:
            raise ConnectionError("no manager's address is known")
        return await self._peers.session(address)

    def _tunnel(self, address: str, key: str) -> None:
        """A manager wants a stream to this node's Engine."""
        carrying = asyncio.create_task(self._carry(address, key), name="tunnel to the Engine")
        self._tunnels.add(carrying)
        carrying.add_done_callback(self._tunnels.discard)

    async def _carry(self, address: str, key: str) -> None:
        assert self._engine_url is not None
        try:
            await serve_engine(await self._peers.tunnel(address, key), self._engine_url)
        except (ClusterError, OSError) as error:
            self._log.warning("a stream to this node's Engine ended early", manager=address, reason=str(error))

    async def _routes(self, table: RouteTable) -> int:
        self.table = table
        applied: int = await self.gateway.apply(table)
        return applied

    def _managers(self, addresses: list[str]) -> None:
        if self.book.learn(addresses):
            self._on_managers(addresses)
