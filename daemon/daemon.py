"""One host's daemon: idle until `swarm init` or `swarm join`, then a manager, a worker, or both.

Every node is a worker (agent and gateway); a manager has its own role beside it. Changes of the node's place in a
cluster (init, join, leave) exclude each other; each leaves the identity file as the last word, so that a daemon
killed in the middle comes back as what the file says.
"""

import asyncio
import contextlib
import ipaddress
import secrets as chance_source
import shutil
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from datetime import datetime
from random import SystemRandom
from typing import Any, Literal

import msgspec

from essaim.agent.runtime import Runtime
from essaim.api.node import InitRequest, JoinRequest, Manager
from essaim.cluster.changes import Delete
from essaim.cluster.errors import ClusterError, InvalidArgument, Unavailable
from essaim.cluster.ids import new_id
from essaim.cluster.node import Node, NodeDescription
from essaim.cluster.routes import RouteTable
from essaim.cluster.swarm import JoinTokens
from essaim.cluster.wire import LogChunk, LogRequest
from essaim.gateway.supervisor import Gateway
from essaim.secrets.tokens import generate

from .addresses import default_advertise_ip, join_host_port, resolve_ip, source_ip, split_host_port
from .bootstrap import first_objects
from .identity import Identity, IdentityFile
from .manager import ManagerRole
from .membership import BecomeManager, JoinAnswer, JoinMessage, LeaveMessage, credential_hash, forced_alone
from .merge import merge
from .peers import PeerClient
from .peerserver import PeerServer
from .runtimes import Runtimes
from .settings import DEFAULT_CLUSTER_PORT, Settings
from .worker import WorkerRole

IN_SWARM = 'This node is already part of a swarm. Use "docker swarm leave" to leave this swarm and join another one.'
NOT_IN_SWARM = "This node is not part of a swarm"
STOCK_LISTEN = "0.0.0.0:2377"
"""What clients send when their user said nothing; the daemon's own --listen-addr goes before it."""
LINGER_SECONDS = 60.0
"""How long the gateway's workers go on serving when the daemon is gone, for the next one to take over."""
FORCED_SECONDS = 3.0
"""Patience with the others when this node leaves whatever they say."""
JOIN_ATTEMPTS = 30
JOIN_PAUSE = 0.5


class Daemon:
    """Implements `api.node.LocalNode`. Use `start()` and `stop()`."""

    def __init__(
        self,
        settings: Settings,
        runtimes: Runtimes,
        description: NodeDescription,
        *,
        now: Callable[[], datetime],
        monotonic: Callable[[], float],
        log: Any,
    ) -> None:
        self._settings = settings
        self._runtimes = runtimes
        self._runtime: Runtime | None = None
        self._description = description
        self._now = now
        self._monotonic = monotonic
        self._log = log
        self._chance = SystemRandom()
        self._file = IdentityFile(settings.state_dir)
        self._identity: Identity | None = None
        self._peers = PeerClient()
        self._manager: ManagerRole | None = None
        self._server: PeerServer | None = None
        self._worker: WorkerRole | None = None
        self._changing = asyncio.Lock()
        self._error = ""
        self._background: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Resume what this node was. Raises BrokenIdentity, OSError, or what the log finds wrong on its disk."""
        await self._peers.start()
        identity = await asyncio.to_thread(self._file.load)
        if identity is not None:
            await self._take_up(identity)

    async def stop(self) -> None:
        """Stop serving; tasks go on running for the next start."""
        async with self._changing:
            await self._lay_down(keep_tasks=True)
        await self._peers.close()

    # -- what the API sees ------------------------------------------------------------------------------------------

    @property
    def node_id(self) -> str:
        return self._identity.node_id if self._identity else ""

    @property
    def address(self) -> str:
        return split_host_port(self._identity.advertise, DEFAULT_CLUSTER_PORT)[0] if self._identity else ""

    @property
    def swarm_state(self) -> Literal["inactive", "pending", "active", "error", "locked"]:
        if self._identity is None:
            return "inactive"
        return "error" if self._error else "active"

    @property
    def error(self) -> str:
        return self._error

    @property
    def manager(self) -> Manager | None:
        role = self._manager
        if role is None:
            return None
        return Manager(role.store, role.writer, role.leadership, role.reachable())

    @property
    def remote_managers(self) -> dict[str, str]:
        if self._manager is not None:
            nodes = self._manager.store.nodes
            return {n.id: n.manager_status.addr for n in nodes if n.manager_status and n.manager_status.addr}
        return {address: address for address in (self._worker.book.addresses if self._worker else [])}

    @property
    def description(self) -> NodeDescription:
        return self._description

    @property
    def engine_url(self) -> str | None:
        return self._runtimes.engine_url

    def routes(self) -> RouteTable:
        return self._worker.table if self._worker else RouteTable()

    async def gateway_status(self) -> dict[str, Any]:
        return await self._worker.gateway.status() if self._worker else {}

    async def task_logs(self, requests: list[LogRequest]) -> AsyncIterator[LogChunk]:
        """Chunks of all requests as they come."""
        streams = [self._one_log(request) for request in requests]
        async with contextlib.aclosing(merge(streams)) as merged:
            async for chunk in merged:
                yield chunk

    def _one_log(self, request: LogRequest) -> AsyncIterator[LogChunk]:
        role = self._as_manager()
        if role.leadership.is_local:
            local: AsyncIterator[LogChunk] = role.dispatcher.logs(request)
            return local
        leader = role.leader_address()
        if leader is None:
            raise Unavailable("no manager leads at the moment; try again when there is a leader")
        return self._peers.logs(leader, role.identity.peer_key, request)

    # -- init -------------------------------------------------------------------------------------------------------

    async def init(self, request: InitRequest) -> str:
        async with self._changing:
            if request.force_new_cluster and self._manager is not None:
                return await self._force_new_cluster(self._manager)
            if self._identity is not None:
                raise Unavailable(IN_SWARM)
            advertise, listen, data_ip = self._addresses(
                request.advertise_addr, request.listen_addr, request.data_path_addr
            )
            identity = Identity(
                node_id=new_id(self._chance),
                credential=chance_source.token_hex(32),
                role="manager",
                cluster_id=new_id(self._chance),
                advertise=advertise,
                listen=listen,
                data_ip=data_ip,
                managers=[advertise],
                raft_id=self._chance.getrandbits(63) | 1,
                peer_key=chance_source.token_hex(32),
            )
            await self._begin(identity, request)
            return identity.node_id

    async def _begin(self, identity: Identity, request: InitRequest) -> None:
        """Start a new log and write the first objects; the identity is saved once they are durable."""
        try:
            await ManagerRole.found(identity, self._raft_dir)
            manager = await self._start_manager(identity)
            # Until the cluster has a certificate authority, tokens are bound to a digest of chance.
            digest = chance_source.token_bytes(32)
            await manager.writer.commit(
                first_objects(
                    cluster_id=identity.cluster_id,
                    spec=request.spec,
                    tokens=JoinTokens(
                        worker=str(generate(digest, self._chance)), manager=str(generate(digest, self._chance))
                    ),
                    node_id=identity.node_id,
                    credential_hash=credential_hash(identity.credential),
                    description=self._described(identity),
                    availability=request.availability or "active",
                    advertise=identity.advertise,
                    ip=split_host_port(identity.advertise, DEFAULT_CLUSTER_PORT)[0],
                    raft_id=identity.raft_id,
                    chance=self._chance,
                    address_pool=request.default_addr_pool,
                    subnet_size=request.subnet_size or 24,
                    data_path_port=request.data_path_port or 4789,
                )
            )
            await asyncio.to_thread(self._file.save, identity)
            self._identity = identity
            await self._start_worker(identity)
        except BaseException:
            await self._abandon()
            raise

    async def _force_new_cluster(self, manager: ManagerRole) -> str:
        """Go on alone with what this manager knows; the other managers' nodes are workers from now on."""
        await manager.log.force_new_cluster()
        await manager.writer.update(lambda store: forced_alone(store, self.node_id))
        return self.node_id

    # -- join -------------------------------------------------------------------------------------------------------

    async def join(self, request: JoinRequest) -> None:
        async with self._changing:
            if self._identity is not None:
                raise Unavailable(IN_SWARM)
            if not request.join_token:
                raise InvalidArgument("a join token is needed: see `essaim swarm join-token worker` on a manager")
            advertise, listen, data_ip = self._addresses(
                request.advertise_addr, request.listen_addr, request.data_path_addr, towards=request.remote_addrs
            )
            message = JoinMessage(
                token=request.join_token,
                address=advertise,
                ip=data_ip,
                availability=request.availability or "active",
                description=msgspec.structs.replace(self._description, data_addr=data_ip),
            )
            answer = await self._knock(request.remote_addrs, message)
            identity = Identity(
                node_id=answer.node_id,
                credential=answer.credential,
                role=answer.role,
                cluster_id=answer.cluster_id,
                advertise=advertise,
                listen=listen,
                data_ip=data_ip,
                managers=answer.managers,
                raft_id=answer.raft_id,
                peer_key=answer.peer_key,
            )
            try:
                await asyncio.to_thread(self._file.save, identity)
                await asyncio.to_thread(shutil.rmtree, self._raft_dir, ignore_errors=True)
                await self._take_up(identity)
                await self._until_member()
            except BaseException:
                await self._abandon()
                raise

    async def _until_member(self) -> None:
        """A joining manager answers once it has the cluster's state. Raises Unavailable."""
        role = self._manager
        if role is None:
            return
        for _ in range(JOIN_ATTEMPTS):
            if await role.fresh() and role.store.nodes.get(self.node_id):
                return
            await asyncio.sleep(JOIN_PAUSE)
        raise Unavailable(
            f"the managers do not reach this node at {self._identity.advertise if self._identity else ''}: "
            "is the port open, and is --advertise-addr right?"
        )

    async def _knock(self, remotes: list[str], message: JoinMessage) -> JoinAnswer:
        """Ask each manager in turn; what one of them refuses is final, what cannot be reached is not."""
        failure: ClusterError = InvalidArgument("the address of a manager to join is needed (HOST:PORT)")
        for remote in remotes:
            host, port = split_host_port(remote, DEFAULT_CLUSTER_PORT)
            try:
                answer: JoinAnswer = await self._peers.call(
                    join_host_port(host, port), "/cluster/join", message, kind=JoinAnswer
                )
                return answer
            except Unavailable as error:
                failure = error
        raise failure

    # -- leave ------------------------------------------------------------------------------------------------------

    async def leave(self, *, force: bool) -> None:
        async with self._changing:
            identity = self._identity
            if identity is None:
                raise Unavailable(NOT_IN_SWARM)
            managers = [a for a in self.remote_managers.values() if a != identity.advertise]
            if self._manager is not None and managers:
                await self._resign(self._manager, identity.node_id, force=force)
            await self._lay_down(keep_tasks=False)
            for address in managers:
                try:
                    message = LeaveMessage(identity.node_id, identity.credential)
                    await self._peers.call(address, "/cluster/leave", message, timeout=FORCED_SECONDS)
                    break
                except ClusterError as error:
                    self._log.warning("a manager was not told of the leave", manager=address, reason=str(error))
            await self._abandon()

    async def _resign(self, manager: ManagerRole, node_id: str, *, force: bool) -> None:
        """Leave the others a quorum where that is possible. Raises ClusterError unless forced."""
        try:
            async with asyncio.timeout(FORCED_SECONDS if force else None):
                await manager.demote(node_id)
        except (ClusterError, TimeoutError) as error:
            if not force:
                raise
            self._log.warning("this manager leaves without the others' consent", reason=str(error) or "no answer")

    # -- roles ------------------------------------------------------------------------------------------------------

    async def promote(self, node_id: str) -> None:
        await self._as_manager().promote(node_id)

    async def demote(self, node_id: str) -> None:
        await self._as_manager().demote(node_id)

    async def remove(self, node_id: str, *, force: bool) -> None:
        """The API has checked that it may go."""
        await self._as_manager().writer.commit([Delete("nodes", node_id)])

    async def fresh(self) -> bool:
        return await self._manager.fresh() if self._manager else True

    def _as_manager(self) -> ManagerRole:
        if self._manager is None:
            raise Unavailable("This node is not a swarm manager.")
        return self._manager

    @property
    def _raft_dir(self) -> Any:
        return self._settings.state_dir / "raft"

    async def _take_up(self, identity: Identity) -> None:
        self._identity = identity
        if identity.role == "manager":
            await self._start_manager(identity)
        await self._start_worker(identity)

    async def _start_manager(self, identity: Identity) -> ManagerRole:
        role = ManagerRole(identity, self._raft_dir, now=self._now, monotonic=self._monotonic, log=self._log)
        server = PeerServer(role, identity.peer_key, self._log)
        host, port = split_host_port(identity.listen, DEFAULT_CLUSTER_PORT)
        try:
            await server.start(host, port)
        except OSError as error:
            raise Unavailable(
                f"cannot listen on {identity.listen} for managers and agents: {error.strerror or error}"
            ) from error
        self._server = server
        await role.start()
        self._manager = role
        return role

    async def _start_worker(self, identity: Identity) -> None:
        gateway = Gateway(
            mesh_addr=self._settings.mesh_addr,
            state_dir=self._settings.state_dir,
            node_id=identity.node_id,
            workers=self._settings.gateway_workers,
            linger=LINGER_SECONDS,
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
        )
        self._worker = worker
        await worker.start()

    async def _lay_down(self, *, keep_tasks: bool) -> None:
        worker, self._worker = self._worker, None
        if worker is not None:
            await worker.stop(keep_tasks=keep_tasks)
        runtime, self._runtime = self._runtime, None
        if runtime is not None:
            await runtime.close()
        await self._lay_down_manager()

    async def _lay_down_manager(self) -> None:
        """The log's own connections end before the server that carries them: it would wait for them."""
        server, self._server = self._server, None
        manager, self._manager = self._manager, None
        if server is not None:
            await server.close_sessions()
        if manager is not None:
            await manager.stop()
        if server is not None:
            await server.stop()

    async def _abandon(self) -> None:
        """Back to outside any swarm, with nothing left on disk."""
        await self._lay_down(keep_tasks=False)
        self._identity, self._error = None, ""
        await asyncio.to_thread(self._file.erase)
        for name in ("raft", "agent", "gateway"):
            await asyncio.to_thread(shutil.rmtree, self._settings.state_dir / name, ignore_errors=True)

    # -- what the cluster tells this node ---------------------------------------------------------------------------

    def _on_node(self, node: Node) -> None:
        """The node's own object changed: its role may have. A demoted manager stays one until it is out of the log."""
        under_way = node.spec.role == "worker" and node.manager_status is not None
        if self._identity is not None and node.spec.role != self._identity.role and not under_way:
            self._spawn(self._change_role(node.spec.role))

    async def _change_role(self, role: str) -> None:
        """Runs alone. What fails is tried again when the agent's next session tells the role anew."""
        identity = self._identity
        if identity is None or identity.role == role:
            return
        try:
            if role == "manager":
                await self._become_manager(identity)
            else:
                await self._become_worker(identity)
        except (ClusterError, OSError) as error:
            self._log.error("this node could not change its role", role=role, reason=str(error))
        else:
            self._log.info("this node has a new role", role=role)

    async def _become_manager(self, identity: Identity) -> None:
        message = BecomeManager(identity.node_id, identity.credential, identity.advertise)
        answer = await self._ask_manager("/cluster/manager", message)
        promoted = msgspec.structs.replace(
            identity, role="manager", raft_id=answer.raft_id, peer_key=answer.peer_key, managers=answer.managers
        )
        await asyncio.to_thread(shutil.rmtree, self._raft_dir, ignore_errors=True)
        await self._start_manager(promoted)
        self._identity = promoted
        await asyncio.to_thread(self._file.save, promoted)

    async def _become_worker(self, identity: Identity) -> None:
        others = [a for a in identity.managers if a != identity.advertise]
        if self._manager is not None:
            others = [a for a in self._manager.manager_addresses() if a != identity.advertise] or others
        demoted = msgspec.structs.replace(identity, role="worker", raft_id=0, peer_key="", managers=others)
        self._identity = demoted
        await self._lay_down_manager()
        if self._worker is not None:
            self._worker.book.learn(others)
        await asyncio.to_thread(self._file.save, demoted)
        await asyncio.to_thread(shutil.rmtree, self._raft_dir, ignore_errors=True)

    async def _ask_manager(self, path: str, message: Any) -> JoinAnswer:
        """The first manager that answers. Raises ClusterError."""
        failure: ClusterError = Unavailable("no manager's address is known")
        for address in self._worker.book.addresses if self._worker else []:
            try:
                answer: JoinAnswer = await self._peers.call(address, path, message, kind=JoinAnswer)
                return answer
            except ClusterError as error:
                failure = error
        raise failure

    def _on_managers(self, addresses: list[str]) -> None:
        if self._identity is not None:
            self._identity = msgspec.structs.replace(self._identity, managers=addresses)
            self._spawn(asyncio.to_thread(self._file.save, self._identity))

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Do it in the background, one after another."""

        async def in_turn() -> None:
            async with self._changing:
                await work

        task = asyncio.create_task(in_turn())
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    def _on_refused(self, reason: str) -> None:
        self._error = f"{reason}. Use `essaim swarm leave --force` on this node, then join again"
        self._log.error("the cluster does not know this node any more", reason=reason)

    def _described(self, identity: Identity) -> NodeDescription:
        return msgspec.structs.replace(self._description, data_addr=identity.data_ip)

    def _addresses(
        self, advertise: str, listen: str, data_path: str, towards: Sequence[str] = ()
    ) -> tuple[str, str, str]:
        """(advertised host:port, host:port to listen on, IP of tasks' ports). Raises InvalidArgument.

        What is not given is the address by which this host reaches the managers to join (`towards`), or others.
        """
        advertise = advertise or self._settings.advertise_addr
        if listen in ("", STOCK_LISTEN):
            listen = self._settings.listen_addr or listen
        listen_host, listen_port = (
            split_host_port(listen, DEFAULT_CLUSTER_PORT) if listen else ("", DEFAULT_CLUSTER_PORT)
        )
        if advertise:
            host, port = split_host_port(advertise, listen_port)
            ip = resolve_ip(host)
        elif listen_host and resolve_ip(listen_host) not in ("0.0.0.0", "::"):
            ip, port = resolve_ip(listen_host), listen_port
        else:
            ip, port = _towards(towards) or default_advertise_ip(), listen_port
        data_ip = resolve_ip(data_path) if data_path else ip
        # Until connections between nodes are encrypted, the cluster port is not opened beyond the advertised address.
        return join_host_port(ip, port), join_host_port(ip, listen_port), data_ip


def _towards(remotes: Sequence[str]) -> str | None:
    for remote in remotes:
        host, port = split_host_port(remote, DEFAULT_CLUSTER_PORT)
        with contextlib.suppress(ValueError):
            return source_ip(str(ipaddress.ip_address(host)), port)
    return None
