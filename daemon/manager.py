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
from essaim.cluster.errors import ClusterError, FailedPrecondition, Unavailable
from essaim.cluster.ids import new_id
from essaim.cluster.store import Store
from essaim.cluster.watch import Lagged
from essaim.cluster.writer import NO_QUORUM, Writer
from essaim.raft.found import found_cluster
from essaim.raft.interface import Leadership, LogError, MemberView, NoQuorum, Refused
from essaim.raft.node import Options, RaftLog
from essaim.raft.streams import Access
from essaim.scheduler.addressing import is_settled
from essaim.scheduler.dispatcher import Dispatcher
from essaim.scheduler.leader import Leader
from essaim.secrets.holder import member_name

from . import membership
from .identity import Identity
from .issuing import Issuer
from .keeper import MemberKeeper
from .keyring import Keyring
from .locking import LockKeeper
from .membership import BecomeManager, Issued, JoinAnswer, JoinMessage
from .rotation import RotationKeeper
from .tls import holder_from
from .tunnels import TunnelDesk

FRESH_SECONDS = 1.0
"""How long a read waits for the leader to confirm that nothing newer was acknowledged."""
SETTLE_SECONDS = 1.0
"""How long the answer to a change of a service waits for what the leader allots."""
CHANGE_SECONDS = 20.0
LOSES_QUORUM = (
    "rpc error: code = FailedPrecondition desc = can't remove member from the raft: this would result in a loss of "
    "quorum"
)


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
            now=now,
            monotonic=monotonic,
            log=log,
            leader_address=self.leader_address,
            manager_addresses=self.manager_addresses,
            reachable=self.reachable,
            on_session_end=self._session_ended,
        )
        self.tunnels = TunnelDesk(self.dispatcher.ask_tunnel)
        self._cutting: set[asyncio.Task[None]] = set()
        self._leader: Leader | None = None
        self._keeper = MemberKeeper(self.store, self.writer, self.log, log)
        self._rotation = RotationKeeper(self.store, self.writer, self._chance, log)
        self._certificates = CertificateKeeper(
            self.store,
            self.writer,
            self.dispatcher,
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

    # -- what hosts ask for on port 2377 -------------------------------------------------------------------------

    async def join(self, message: JoinMessage) -> JoinAnswer:
        """Admit a host. Raises ClusterError."""
        await self._log_is_known()
        role = membership.role_of_token(self.store, message.token)
        node_id = new_id(self._chance)
        raft_id = self._chance.getrandbits(63) | 1 if role == "manager" else 0
        issued = self.issuer.issue(message.request, node_id, role, raft_id)
        after = self.store.version
        await self.writer.commit(membership.admit(message, role=role, node_id=node_id, raft_id=raft_id, after=after))
        return self._answer(node_id, role, raft_id, issued)

    async def become_manager(self, node_id: str, message: BecomeManager) -> JoinAnswer:
        """A promoted node asks for its member number. Raises ClusterError."""
        fresh_id = self._chance.getrandbits(63) | 1
        await self.writer.update(lambda store: membership.enlist(store, node_id, message.address, fresh_id))
        raft_id = self.issuer.member_of(node_id)
        issued = self.issuer.issue(message.request, node_id, "manager", raft_id)
        return self._answer(node_id, "manager", raft_id, issued)

    async def left(self, node_id: str) -> None:
        """A node has left: it is down from now on, without waiting for its heartbeat, and no manager any more."""
        await self.writer.update(lambda store: membership.departed(store, node_id))

    def _answer(self, node_id: str, role: str, raft_id: int, issued: Issued) -> JoinAnswer:
        return JoinAnswer(
            node_id=node_id,
            cluster_id=self.identity.cluster_id,
            role=role,
            managers=self.manager_addresses(),
            certificate=issued.certificate,
            roots=issued.roots,
            raft_id=raft_id,
        )

    async def _log_is_known(self) -> None:
        """A manager that has just started or joined may not have the cluster yet."""
        if self.store.cluster is None and not await self.fresh():
            raise Unavailable(NO_QUORUM)

    # -- promotion and demotion -------------------------------------------------------------------------------------

    async def promote(self, node_id: str) -> None:
        """The node asks for its member number when it hears of it, and is kept a learner until it has caught up."""
        await self.writer.update(lambda store: membership.set_role(store, node_id, "manager"))

    async def demote(self, node_id: str, timeout: float = CHANGE_SECONDS) -> None:
        """Take the node out of the log; one whose loss would cost the quorum stays what it is. Raises ClusterError.

        When this very member goes, the keeper of the next leader finishes.
        """
        node = self.store.nodes.get(node_id)
        raft_id = node.manager_status.raft_id if node and node.manager_status else None
        await self.writer.update(lambda store: membership.set_role(store, node_id, "worker"))
        if not raft_id or all(view.id != raft_id for view in self._members()):
            return
        try:
            await self._take_out(raft_id, timeout)
        except Refused as error:
            await self.fresh()
            if all(view.id != raft_id for view in self._members()):
                return  # the keeper was faster
            await self.writer.update(lambda store: membership.set_role(store, node_id, "manager"))
            raise FailedPrecondition(f"{LOSES_QUORUM} ({error})") from error
        except NoQuorum as error:
            raise Unavailable(NO_QUORUM) from error
        except LogError as error:
            if raft_id != self.identity.raft_id:
                raise Unavailable(f"the demotion is under way, but not yet confirmed: {error}") from error
        else:
            if raft_id != self.identity.raft_id:
                await self.writer.update(lambda store: membership.discharge(store, node_id))

    async def _take_out(self, raft_id: int, timeout: float) -> None:
        if self.leadership.leader_id == raft_id:
            others = [v for v in self._members() if v.is_voter and v.id != raft_id]
            others.sort(key=lambda view: (view.reachable is not True, -view.match))
            if not others:
                raise Refused("it is the only voter")
            await self.log.transfer(others[0].id, timeout=timeout)
        await self.log.remove(raft_id, timeout=timeout)


def access_by(calling: Callable[[], ssl.SSLContext], cluster_id: str) -> Access:
    """Managers of one cluster show each other certificates that name their member number."""

    def allows(request: web.BaseRequest, member: int) -> bool:
        try:
            holder = holder_from(request)
        except ClusterError:
            return False
        return holder.role == "manager" and holder.member == member and holder.cluster_id == cluster_id

    return Access(allows=allows, client_ssl=calling, server_name=member_name)
