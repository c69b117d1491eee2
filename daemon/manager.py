"""The manager's part of a daemon: the store, its log, the dispatcher, and, while it leads, the scheduler's loops.

Leadership may come and go at any time: one task follows it and starts and stops the loops in order, so that no two
runs of them overlap.
"""

import asyncio
import contextlib
import secrets as chance_source
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from random import SystemRandom
from typing import Any

from aiohttp import web

from essaim.cluster.changes import Change, NodeReport
from essaim.cluster.errors import NotYet, Unauthorized
from essaim.cluster.ids import new_id
from essaim.cluster.node import NodeStatus
from essaim.cluster.store import Store
from essaim.cluster.writer import Writer
from essaim.raft.interface import Leadership, Log
from essaim.raft.single import SingleLog
from essaim.scheduler.dispatcher import Dispatcher
from essaim.scheduler.leader import Leader

from .identity import Identity
from .membership import BecomeManager, JoinAnswer, JoinMessage, LeaveMessage, admit, is_node, role_of_token

MORE_MANAGERS = (
    "this version of essaim runs one manager: joining or promoting another is not yet possible. "
    "Join with the worker token (essaim swarm join-token worker)"
)


class ManagerRole:
    """Use `start()` and `stop()`. `now` is the wall clock in UTC, `monotonic` in seconds."""

    def __init__(
        self,
        identity: Identity,
        directory: Path,
        *,
        now: Callable[[], datetime],
        monotonic: Callable[[], float],
        log: Any,
    ) -> None:
        self.identity = identity
        self._now = now
        self._monotonic = monotonic
        self._logger = log
        self._chance = SystemRandom()
        self.store = Store()
        self.log: Log = SingleLog(directory, self.store, address=identity.advertise)
        self.writer = Writer(self.log, self.store, now)
        self.dispatcher = Dispatcher(
            self.store,
            self.writer,
            now=now,
            monotonic=monotonic,
            log=log,
            leader_address=self.leader_address,
            manager_addresses=self.manager_addresses,
        )
        self._leader: Leader | None = None
        self._leadership_changed = asyncio.Event()
        self._following: asyncio.Task[None] | None = None
        self._unsubscribe: Callable[[], None] = lambda: None

    async def start(self) -> None:
        """Recover the store from disk; the loops start once this member leads."""
        await self.log.start()
        self._unsubscribe = self.log.on_leadership(self._on_leadership)
        self._following = asyncio.create_task(self._follow(), name="leadership")

    async def stop(self) -> None:
        self._unsubscribe()
        if self._following is not None:
            self._following.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._following
            self._following = None
        await self._step_down()
        await self.log.stop()

    def log_routes(self) -> Sequence[web.RouteDef]:
        """What the log itself serves on port 2377."""
        return []

    @property
    def leadership(self) -> Leadership:
        return self.log.leadership

    def leader_address(self) -> str | None:
        return self.leadership.leader_address or None

    def manager_addresses(self) -> list[str]:
        """host:port of all managers, oldest first."""
        return [n.manager_status.addr for n in self.store.nodes if n.manager_status and n.manager_status.addr]

    def reachable(self) -> dict[str, bool]:
        """Manager node id -> whether this member hears of it."""
        return {n.id: True for n in self.store.nodes if n.manager_status}

    # -- leadership -------------------------------------------------------------------------------------------------

    def _on_leadership(self, _: Leadership) -> None:
        self._leadership_changed.set()

    async def _follow(self) -> None:
        while True:
            await self._leadership_changed.wait()
            self._leadership_changed.clear()
            if self.leadership.is_local and self._leader is None:
                await self._lead()
            elif not self.leadership.is_local:
                await self._step_down()

    async def _lead(self) -> None:
        leader = Leader(
            self.store,
            self.writer,
            self.dispatcher,
            chance=self._chance,
            now=self._now,
            monotonic=self._monotonic,
            log=self._logger,
        )
        await leader.start()
        self._leader = leader
        self._logger.info("this manager leads", term=self.leadership.term)

    async def _step_down(self) -> None:
        if self._leader is None:
            return
        leader, self._leader = self._leader, None
        await leader.stop()
        self._logger.info("this manager no longer leads")

    # -- what hosts ask for on port 2377 -------------------------------------------------------------------------

    async def join(self, message: JoinMessage) -> JoinAnswer:
        """Admit a host. Raises ClusterError."""
        role = role_of_token(self.store, message.token)
        if role == "manager":
            raise NotYet(MORE_MANAGERS)
        node_id, credential = new_id(self._chance), chance_source.token_hex(32)
        await self.writer.commit(
            admit(message, role=role, node_id=node_id, credential=credential, raft_id=self._chance.getrandbits(63) | 1)
        )
        assert self.store.cluster is not None
        return JoinAnswer(
            node_id=node_id,
            credential=credential,
            cluster_id=self.store.cluster.id,
            role=role,
            managers=self.manager_addresses(),
        )

    async def become_manager(self, message: BecomeManager) -> JoinAnswer:
        raise NotYet(MORE_MANAGERS)

    async def remove_member(self, raft_id: int) -> None:
        raise NotYet(MORE_MANAGERS)

    async def left(self, message: LeaveMessage) -> None:
        """A node has left: it is down from now on, without waiting for its heartbeat."""
        if not is_node(self.store, message.node_id, message.credential):
            raise Unauthorized(f"node {message.node_id} is not of this cluster, or its credential is wrong")
        node = self.store.nodes.get(message.node_id)
        addr = node.status.addr if node else None
        change: Change = NodeReport(message.node_id, NodeStatus(state="down", addr=addr, message="node left the swarm"))
        await self.writer.commit([change])
