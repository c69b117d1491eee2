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
from essaim.cluster.errors import ClusterError, FailedPrecondition, InvalidArgument, NotYet, Unavailable
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
from .manager import MORE_MANAGERS, ManagerRole
from .membership import JoinAnswer, JoinMessage, LeaveMessage, credential_hash
from .merge import merge
from .peers import PeerClient
from .peerserver import PeerServer
from .runtimes import Runtimes
from .settings import DEFAULT_CLUSTER_PORT, Settings
from .worker import WorkerRole

IN_SWARM = 'This node is already part of a swarm. Use "docker swarm leave" to leave this swarm and join another one.'
NOT_IN_SWARM = "This node is not part of a swarm"
LAST_MANAGER = (
    "You are attempting to leave the swarm on a node that is participating as a manager. "
    "Removing the last manager erases all current state of the swarm. Use `--force` to ignore this message. "
)


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
        role = self._manager
        if role is None or self._identity is None:
            raise Unavailable("This node is not a swarm manager.")
        if role.leadership.is_local:
            local: AsyncIterator[LogChunk] = role.dispatcher.logs(request)
            return local
        leader = role.leader_address()
        if leader is None:
            raise Unavailable("no manager leads at the moment; try again when there is a leader")
        return self._peers.logs(leader, self._identity.peer_key, request)

    # -- init -------------------------------------------------------------------------------------------------------

    async def init(self, request: InitRequest) -> str:
        async with self._changing:
            if request.force_new_cluster:
                raise NotYet("swarm init --force-new-cluster is not yet possible with a single manager's log")
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
        await asyncio.to_thread(shutil.rmtree, self._raft_dir, ignore_errors=True)
        try:
            await self._start_manager(identity)
            assert self._manager is not None
            # Until the cluster has a certificate authority, tokens are bound to a digest of chance.
            digest = chance_source.token_bytes(32)
            await self._manager.writer.commit(
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
            await asyncio.to_thread(self._file.save, identity)
            try:
                await self._take_up(identity)
            except BaseException:
                await self._abandon()
                raise

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
            if self._manager is not None and not force:
                raise Unavailable(LAST_MANAGER)
            managers = [a for a in self.remote_managers.values() if a != identity.advertise]
            await self._lay_down(keep_tasks=False)
            for address in managers:
                with contextlib.suppress(ClusterError):
                    await self._peers.call(
                        address, "/cluster/leave", LeaveMessage(identity.node_id, identity.credential)
                    )
                    break
            await self._abandon()

    # -- roles ------------------------------------------------------------------------------------------------------

    async def promote(self, node_id: str) -> None:
        raise NotYet(MORE_MANAGERS)

    async def demote(self, node_id: str) -> None:
        raise FailedPrecondition(
            "rpc error: code = FailedPrecondition desc = attempting to demote the last manager of the swarm"
        )

    async def remove(self, node_id: str, *, force: bool) -> None:
        raise NotYet("removing managers is not yet possible")

    @property
    def _raft_dir(self) -> Any:
        return self._settings.state_dir / "raft"

    async def _take_up(self, identity: Identity) -> None:
        self._identity = identity
        if identity.role == "manager":
            await self._start_manager(identity)
        await self._start_worker(identity)

    async def _start_manager(self, identity: Identity) -> None:
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

    async def _start_worker(self, identity: Identity) -> None:
        gateway = Gateway(
            mesh_addr=self._settings.mesh_addr,
            state_dir=self._settings.state_dir / "gateway",
            node_id=identity.node_id,
            workers=self._settings.gateway_workers,
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
        server, self._server = self._server, None
        if server is not None:
            await server.stop()
        manager, self._manager = self._manager, None
        if manager is not None:
            await manager.stop()

    async def _abandon(self) -> None:
        """Back to outside any swarm, with nothing left on disk."""
        await self._lay_down(keep_tasks=False)
        self._identity, self._error = None, ""
        await asyncio.to_thread(self._file.erase)
        for name in ("raft", "agent", "gateway"):
            await asyncio.to_thread(shutil.rmtree, self._settings.state_dir / name, ignore_errors=True)

    # -- what the cluster tells this node ---------------------------------------------------------------------------

    def _on_node(self, node: Node) -> None:
        """The node's own object changed; nothing follows from it yet beyond what the agent does."""
        self._log.debug("node changed", role=node.spec.role, availability=node.spec.availability)

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
        listen = listen or self._settings.listen_addr
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
