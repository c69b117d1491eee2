"""The manager's part of a daemon: the store, its log, the dispatcher, and, while it leads, the scheduler's loops and
the keeper of the members.

Leadership may come and go at any time: one task follows it and starts and stops the loops in order, so that no two
runs of them overlap.
"""

import asyncio
import contextlib
import shutil
import ssl
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from random import SystemRandom
from typing import Any

from aiohttp import web

from essaim.certificates.keeper import CertificateKeeper
from essaim.cluster.errors import ClusterError
from essaim.cluster.store import Store
from essaim.cluster.watch import Lagged
from essaim.cluster.writer import Writer
from essaim.daemon.keys.identity import Identity
from essaim.daemon.keys.keyring import Keyring
from essaim.daemon.keys.locking import LockKeeper
from essaim.daemon.keys.rotation import RotationKeeper
from essaim.daemon.keys.tls import holder_from
from essaim.daemon.membership.admission import Admission
from essaim.daemon.membership.demotion import RoleDesk
from essaim.daemon.membership.issuing import Issuer
from essaim.daemon.membership.members import MemberKeeper
from essaim.daemon.peers.tunnels import TunnelDesk
from essaim.raft.interface import Leadership, LogError, MemberView
from essaim.raft.member.found import found_cluster
from essaim.raft.member.node import Options, RaftLog
from essaim.raft.transport.streams import Access
from essaim.scheduler.allocate.address_loop import is_settled
from essaim.scheduler.dispatch.dispatcher import Dispatcher
from essaim.scheduler.leader import Leader
from essaim.secrets.holder import member_name

FRESH_SECONDS = 1.0
"""How long a read waits for the leader to confirm that nothing newer was acknowledged."""
SETTLE_SECONDS = 1.0
"""How long the answer to a change of a service waits for what the leader allots."""


class ManagerRole:
    """Use `start()` and `stop()`. `now` is the wall clock in UTC, `monotonic` in seconds."""

    def __init__(
        self,
        identity: Identity,
        directory: Path,
        keyring: Keyring,
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
        self.issuer = Issuer(self.store, identity.cluster_id, now)
        self.log = RaftLog(
            directory,
            self.store,
            member_id=identity.raft_id,
            address=identity.advertise,
            options=Options(access=access_by(lambda: keyring.calling, identity.cluster_id), codecs=keyring.codecs()),
        )
        self.writer = Writer(self.log, self.store, now)
        self.dispatcher = Dispatcher(
            self.store,
            self.writer,
            monotonic=monotonic,
            log=log,
            leader_address=self.leader_address,
            manager_addresses=self.manager_addresses,
            reachable=self.reachable,
            on_session_end=self._session_ended,
        )
        self.admission = Admission(
            identity.cluster_id,
            self.store,
            self.writer,
            self.issuer,
            keyring,
            fresh=self.fresh,
            managers=self.manager_addresses,
        )
        self.roles = RoleDesk(identity.node_id, self.writer, self.log, self.fresh)
        self.tunnels = TunnelDesk(self.dispatcher.ask_tunnel)
        self._cutting: set[asyncio.Task[None]] = set()
        self._leader: Leader | None = None
        self._keeper = MemberKeeper(self.store, self.writer, self.log, log)
        self._rotation = RotationKeeper(self.store, self.writer, self._chance, log)
        self._certificates = CertificateKeeper(
            self.store,
            self.writer,
            self.dispatcher.told,
            now=now,
            monotonic=monotonic,
            log=log,
            faults=self.dispatcher.faults,
        )
        self.locks = LockKeeper(self.store, keyring, log)
        self._leadership_changed = asyncio.Event()
        self._following: asyncio.Task[None] | None = None
        self._unsubscribe: Callable[[], None] = lambda: None

    async def start(self) -> None:
        """Recover the store from disk; the loops start once this member leads."""
        await self.log.start()
        self._unsubscribe = self.log.on_leadership(self._on_leadership)
        self._following = asyncio.create_task(self._follow(), name="leadership")
        self.locks.start()

    async def stop(self) -> None:
        self._unsubscribe()
        await self.locks.stop()
        if self._following is not None:
            self._following.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._following
            self._following = None
        await self._step_down()
        await self.log.stop()

    def _session_ended(self, node_id: str) -> None:
        cutting = asyncio.create_task(self.tunnels.cut(node_id))
        self._cutting.add(cutting)
        cutting.add_done_callback(self._cutting.discard)

    def log_routes(self) -> Sequence[web.RouteDef]:
        """What the log itself serves on port 2377."""
        return self.log.routes()

    @staticmethod
    async def found(identity: Identity, directory: Path, keyring: Keyring) -> None:
        """Make the first member of a new cluster, whatever the directory held."""

        def make() -> None:
            shutil.rmtree(directory, ignore_errors=True)
            found_cluster(directory, {identity.raft_id: identity.advertise}, keyring.codecs())

        await asyncio.to_thread(make)

    @property
    def leadership(self) -> Leadership:
        return self.log.leadership

    def leader_address(self) -> str | None:
        return self.leadership.leader_address or None

    def manager_addresses(self) -> list[str]:
        """host:port of all managers, oldest first."""
        return [n.manager_status.addr for n in self.store.nodes if n.manager_status and n.manager_status.addr]

    def reachable(self) -> dict[str, bool]:
        """Manager node id -> whether it can be reached. Only the leader looks; the others believe the best of all
        but a member that no longer takes part."""
        seen = {view.id: view.reachable is not False for view in self._members()}
        return {n.id: seen.get(n.manager_status.raft_id or 0, False) for n in self.store.nodes if n.manager_status}

    def _members(self) -> Sequence[MemberView]:
        try:
            return self.log.members()
        except LogError:
            return []

    async def fresh(self) -> bool:
        """Wait until the store has every write acknowledged so far; False when no leader confirms that in time."""
        try:
            await self.log.read_barrier(timeout=FRESH_SECONDS)
        except LogError:
            return False
        return True

    async def settled(self, service_id: str) -> None:
        """Wait until the leader has allotted what a service asks for; no longer than that may take."""
        with self.store.watch("services") as watch, contextlib.suppress(TimeoutError):
            async with asyncio.timeout(SETTLE_SECONDS):
                while (service := self.store.services.get(service_id)) and not is_settled(service, self.store):
                    with contextlib.suppress(Lagged):
                        await watch.next()

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
        self._keeper.start()
        self._rotation.start()
        self._certificates.start()
        self._leader = leader
        self._logger.info("this manager leads", term=self.leadership.term)

    async def _step_down(self) -> None:
        if self._leader is None:
            return
        leader, self._leader = self._leader, None
        await self._certificates.stop()
        await self._rotation.stop()
        await self._keeper.stop()
        await leader.stop()
        self._logger.info("this manager no longer leads")


def access_by(calling: Callable[[], ssl.SSLContext], cluster_id: str) -> Access:
    """Managers of one cluster show each other certificates that name their member number."""

    def allows(request: web.BaseRequest, member: int) -> bool:
        try:
            holder = holder_from(request)
        except ClusterError:
            return False
        return holder.role == "manager" and holder.member == member and holder.cluster_id == cluster_id

    return Access(allows=allows, client_ssl=calling, server_name=member_name)
