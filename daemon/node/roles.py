"""A node's roles: what runs in its daemon while it is in a swarm, and how that changes.

The identity file is written before a role is started and after one has ended, so that a daemon killed in the middle
comes back as what the file says; the log's directory is emptied only while no member can be running on it. The keys
are there before the identity, and go after it. While they are locked, no role runs.
"""

import asyncio
import shutil
from collections.abc import Callable, Coroutine
from datetime import datetime
from pathlib import Path
from random import SystemRandom
from typing import Any

import msgspec

from essaim.agent.runtime.interface import Runtime
from essaim.cluster.errors import ClusterError, Unavailable
from essaim.cluster.node import Node, TLSInfo
from essaim.daemon.addresses import split_host_port
from essaim.daemon.endings import within
from essaim.daemon.keys.identity import BrokenIdentity, Identity, IdentityFile
from essaim.daemon.keys.keyring import Keyring, Keys
from essaim.daemon.keys.renewal import Renewer
from essaim.daemon.membership.joins import BecomeManager, Issued, JoinAnswer, RenewMessage
from essaim.daemon.peers.callback import answering
from essaim.daemon.peers.client import PeerClient
from essaim.daemon.settings import DEFAULT_CLUSTER_PORT, Settings
from essaim.gateway.control.supervisor import Gateway
from essaim.raft.interface import Unusable
from essaim.raft.member.found import has_log, prepare_member
from essaim.secrets.nodekey import new_key, request_for

from .leftovers import Leftovers
from .manager import ManagerRole
from .peer_server import PeerServer
from .runtimes import Runtimes
from .transitions import Step, Transitions
from .worker import WorkerRole

LINGER_SECONDS = 60.0
"""How long the gateway's workers go on serving when the daemon is gone, for the next one to take over."""

PART_SECONDS = 3.0
MANAGER_SECONDS = 10.0
"""How long the parts of a role may take to end. The manager has a log to close."""


class Roles:
    """The identity and what runs by it. Methods are called one at a time, by whoever holds `changing`."""

    def __init__(
        self,
        settings: Settings,
        runtimes: Runtimes,
        peers: PeerClient,
        keyring: Keyring,
        *,
        now: Callable[[], datetime],
        monotonic: Callable[[], float],
        log: Any,
    ) -> None:
        self._settings = settings
        self._runtimes = runtimes
        self._peers = peers
        self.keyring = keyring
        self._now = now
        self._monotonic = monotonic
        self._log = log
        self.file = IdentityFile(settings.state_dir)
        self.identity: Identity | None = None
        self.manager: ManagerRole | None = None
        self.worker: WorkerRole | None = None
        self.error = ""
        self.changing = asyncio.Lock()
        self._runtime: Runtime | None = None
        self._server: PeerServer | None = None
        self._background: set[asyncio.Task[None]] = set()
        self._renewer: Renewer | None = None
        self._wanted: TLSInfo | None = None
        self.leftovers = Leftovers(log)
        self.transitions = Transitions(lambda: self.identity, self._take_step, self.changing, log)

    @property
    def raft_dir(self) -> Path:
        return self._settings.state_dir / "raft"

    async def load(self) -> None:
        """Resume what the file says, if there is one and its keys are not locked. Raises BrokenIdentity, Unusable."""
        identity = await asyncio.to_thread(self.file.load)
        if identity is None:
            return
        if identity.leaving:
            self.leftovers.start(identity.node_id, self._runtimes.make(identity.data_ip), self._left)
            return
        if not await asyncio.to_thread(self.keyring.load):
            raise BrokenIdentity(
                f"{self.keyring.path}: this node's keys are missing. A node of a version of essaim without TLS between "
                f"nodes cannot be taken over: remove {self._settings.state_dir}, and init or join anew"
            )
        self.identity = identity
        if identity.runtime != self._runtimes.kind:
            identity = msgspec.structs.replace(identity, runtime=self._runtimes.kind)
            await self.save(identity)
        if self.keyring.locked:
            self._log.warning("this manager is locked; unlock it with `essaim swarm unlock`")
        else:
            await asyncio.to_thread(require_log, identity, self.raft_dir)
            await self.take_up(identity)

    async def unlock(self, unlock_key: str) -> None:
        """Take up the roles of a locked manager. Raises ClusterError for a wrong key."""
        assert self.identity is not None
        await asyncio.to_thread(self.keyring.unlock, unlock_key)
        try:
            await asyncio.to_thread(require_log, self.identity, self.raft_dir)
            await self.take_up(self.identity)
        except BaseException as error:
            await self.lay_down(keep_tasks=True)
            self.keyring.forget()
            if isinstance(error, BrokenIdentity | Unusable):
                raise Unavailable(str(error)) from error
            raise

    async def save(self, identity: Identity | None = None) -> None:
        """Without an identity: what the node is by now, if it has not left."""
        self.identity = identity or self.identity
        if self.identity is not None:
            await asyncio.to_thread(self.file.save, self.identity)

    async def empty_log(self) -> None:
        """Only while this node is no member, and before it becomes one."""
        await asyncio.to_thread(shutil.rmtree, self.raft_dir, ignore_errors=True)

    async def new_log(self) -> None:
        """Begin an empty one, before the identity says that there is one."""
        await self.empty_log()
        await asyncio.to_thread(prepare_member, self.raft_dir)

    async def take_up(self, identity: Identity) -> None:
        self.identity = identity
        if identity.role == "manager":
            await self.start_manager(identity)
        await self.start_worker(identity)
        self.start_renewal()

    async def start_manager(self, identity: Identity) -> ManagerRole:
        role = ManagerRole(
            identity, self.raft_dir, self.keyring, now=self._now, monotonic=self._monotonic, log=self._log
        )
        server = PeerServer(role, self.keyring, self._log)
        host, port = split_host_port(identity.listen, DEFAULT_CLUSTER_PORT)
        try:
            await server.start(host, port)
        except OSError as error:
            raise Unavailable(
                f"cannot listen on {identity.listen} for managers and agents: {error.strerror or error}"
            ) from error
        self._server = server
        await role.start()
        self.manager = role
        return role

    async def start_worker(self, identity: Identity) -> None:
        gateway = Gateway(
            mesh_addr=self._settings.mesh_addr,
            state_dir=self._settings.state_dir,
            node_id=identity.node_id,
            workers=self._settings.gateway_workers,
            linger=LINGER_SECONDS,
            entry_points=self._settings.entry_points,
            log=self._log,
        )
        self._runtime = self._runtimes.make(identity.data_ip)
        worker = WorkerRole(
            identity,
            state_dir=self._settings.state_dir,
            runtime=self._runtime,
            gateway=gateway,
            peers=self._peers,
            now=self._now,
            monotonic=self._monotonic,
            log=self._log,
            on_node=self._on_node,
            on_managers=self._on_managers,
            on_refused=self._on_refused,
            tls_info=self.keyring.tls_info,
            on_trust=self._on_trust,
            engine_url=self._runtimes.engine_url,
        )
        self.worker = worker
        await worker.start()

    async def lay_down(self, *, keep_tasks: bool) -> list[str]:
        """Takes bounded time, whatever a runtime or another daemon does; the names of tasks that may still run."""
        await within(PART_SECONDS, "a change of role", self.transitions.stop(), self._log)
        renewer, self._renewer = self._renewer, None
        if renewer is not None:
            await within(PART_SECONDS, "the renewal of certificates", renewer.stop(), self._log)
        worker, self.worker = self.worker, None
        left = await worker.stop(keep_tasks=keep_tasks) if worker is not None else []
        runtime, self._runtime = self._runtime, None
        if runtime is not None:
            await within(PART_SECONDS, "the runtime", runtime.close(), self._log)
        await self.lay_down_manager()
        return left

    async def lay_down_manager(self) -> None:
        """The log's own connections end before the server that carries them: it would wait for them."""
        server, self._server = self._server, None
        manager, self.manager = self.manager, None
        if server is not None:
            await within(PART_SECONDS, "the sessions of other nodes", server.close_sessions(), self._log)
        if manager is not None:
            await within(MANAGER_SECONDS, "the manager", manager.stop(), self._log)
        if server is not None:
            await within(PART_SECONDS, "the port for other nodes", server.stop(), self._log)

    async def _left(self, node_id: str) -> None:
        """Unless the node is in a swarm again by now."""
        async with self.changing:
            if self.identity is None:
                await self.abandon(node_id)

    async def abandon(self, node_id: str = "") -> list[str]:
        """Back to outside any swarm, with nothing left on disk of what this node was (`node_id`: in an earlier run).
        The names of tasks that may still run."""
        left = await self.lay_down(keep_tasks=False)
        node_id = self.identity.node_id if self.identity is not None else node_id
        self.identity, self.error, self._wanted = None, "", None
        await asyncio.to_thread(self.file.erase, node_id)
        await asyncio.to_thread(self.keyring.erase)
        for name in ("raft", "agent", "gateway"):
            await asyncio.to_thread(shutil.rmtree, self._settings.state_dir / name, ignore_errors=True)
        return left

    # -- what the cluster tells this node ---------------------------------------------------------------------------

    def _on_node(self, node: Node) -> None:
        """The node's own object changed: its role may have."""
        self.transitions.told(node)

    async def _take_step(self, step: Step) -> None:
        identity = self.identity
        assert identity is not None
        if step == "enlist":
            await self._become_manager(identity)
        else:
            await self._become_worker(identity)
        self._log.info("this node has a new role", role=self.identity.role if self.identity else "")

    async def _become_manager(self, identity: Identity) -> None:
        key = await asyncio.to_thread(new_key)
        message = BecomeManager(identity.advertise, request_for(key))
        async with answering(identity.listen, key, self.keyring.keys.roots) as door:
            if door.failure:
                raise Unavailable(door.failure)
            answer: JoinAnswer = await self._ask_manager("/cluster/manager", message, JoinAnswer)
        promoted = msgspec.structs.replace(identity, role="manager", raft_id=answer.raft_id, managers=answer.managers)
        self.transitions.seen(answer.version)
        await self.new_log()
        await self._keep(key, Issued(answer.certificate, answer.roots))
        await self.save(promoted)
        try:
            await self.start_manager(promoted)
        except BaseException:
            await self.lay_down_manager()
            await self.save(identity)
            raise

    async def _become_worker(self, identity: Identity) -> None:
        others = [a for a in identity.managers if a != identity.advertise]
        if self.manager is not None:
            others = [a for a in self.manager.manager_addresses() if a != identity.advertise] or others
        demoted = msgspec.structs.replace(identity, role="worker", raft_id=0, managers=others)
        self.identity = demoted
        await self.lay_down_manager()
        if self.worker is not None:
            self.worker.book.learn(others)
        await self.save(demoted)
        await self.empty_log()
        await asyncio.to_thread(self.keyring.lock_with, "", 0)
        if self._renewer is not None:
            self._renewer.ask()  # the certificate says manager still

    # -- certificates -----------------------------------------------------------------------------------------------

    def start_renewal(self) -> None:
        self._renewer = Renewer(
            lambda: self.keyring.validity,
            self._renew,
            now=lambda: self._now().timestamp(),
            chance=SystemRandom().random,
            log=self._log,
        )
        self._renewer.start()

    async def _renew(self) -> None:
        """A certificate of a new key. A manager signs its own, so that it needs nobody for it. Raises ClusterError."""
        identity = self.identity
        if identity is None:
            return
        key = await asyncio.to_thread(new_key)
        message = RenewMessage(request_for(key))
        if self.manager is not None and self.manager.store.nodes.get(identity.node_id) is not None:
            issued = self.manager.issuer.renew(identity.node_id, message.request)
        else:
            issued = await self._ask_manager("/cluster/renew", message, Issued)
        async with self.changing:
            if self.identity is None or _part(self.identity) != _part(identity):
                raise Unavailable("the node's role changed while its certificate was made")
            await self._keep(key, issued)
            if self._wanted is not None and self.keyring.tls_info() != self._wanted:
                raise Unavailable("the manager that was asked has not heard of the cluster's new root yet")

    async def _keep(self, key: bytes, issued: Issued) -> None:
        data_key = self.keyring.keys.data_key
        await asyncio.to_thread(self.keyring.put, Keys(key, issued.certificate, issued.roots, data_key))
        if self.worker is not None:
            self.worker.agent.trust_changed()

    def _on_trust(self, wanted: TLSInfo) -> None:
        self._wanted = wanted
        if self._renewer is not None and self.keyring.tls_info() != wanted:
            self._renewer.ask()

    async def _ask_manager(self, path: str, message: Any, kind: type[Any]) -> Any:
        """The first manager that answers. Raises ClusterError."""
        failure: ClusterError = Unavailable("no manager's address is known")
        for address in self.worker.book.addresses if self.worker else []:
            try:
                return await self._peers.call(address, path, message, kind=kind)
            except ClusterError as error:
                failure = error
        raise failure

    def _on_managers(self, addresses: list[str]) -> None:
        if self.identity is not None:
            self.identity = msgspec.structs.replace(self.identity, managers=addresses)
            self._spawn(self.save())

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Do it in the background, one after another."""

        async def in_turn() -> None:
            async with self.changing:
                await work

        task = asyncio.create_task(in_turn())
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    def _on_refused(self, reason: str) -> None:
        self.error = f"{reason}. Use `essaim swarm leave --force` on this node, then join again"
        self._log.error("the cluster does not know this node any more", reason=reason)


def require_log(identity: Identity, folder: Path) -> None:
    """A manager that has begun has a log; with an empty one it would vote twice. Raises BrokenIdentity."""
    try:
        lost = identity.role == "manager" and not has_log(folder)
    except OSError as error:
        raise BrokenIdentity(f"{folder}: cannot look for this manager's log ({error.strerror})") from error
    if lost:
        raise BrokenIdentity(
            f"{folder}: this manager's log (*.wal) is missing. Restore the folder from a backup; or, if the cluster "
            "has other managers, demote and remove this node there, empty its state directory and let it join again"
        )


def _part(identity: Identity) -> tuple[str, str, int]:
    """What a certificate depends on."""
    return identity.node_id, identity.role, identity.raft_id
