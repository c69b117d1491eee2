"""One host's daemon: idle until `swarm init` or `swarm join`, then a manager, a worker, or both.

Every node is a worker (agent and gateway); a manager has its own role beside it. Changes of the node's place in a
cluster (init, join, leave) exclude each other; each leaves the identity file as the last word, so that a daemon
killed in the middle comes back as what the file says.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from datetime import datetime
from random import SystemRandom
from typing import Any, Literal

import msgspec

from essaim.api.node import InitRequest, JoinRequest, Manager
from essaim.api.streams.exchange import Streams
from essaim.api.streams.tunnel import Tunnels
from essaim.cluster.changes import Delete
from essaim.cluster.errors import AlreadyExists, ClusterError, InvalidArgument, Unavailable
from essaim.cluster.ids import new_id
from essaim.cluster.node import NodeDescription
from essaim.cluster.routes import RouteTable
from essaim.cluster.swarm import JoinTokens, RootCA
from essaim.cluster.wire import Channel, LogChunk, LogRequest
from essaim.daemon.keys.identity import Identity
from essaim.daemon.keys.keyring import Keyring, Keys
from essaim.daemon.membership.joining import knock, withdraw
from essaim.daemon.membership.joins import JoinMessage, LeaveMessage, forced_alone
from essaim.daemon.node.bootstrap import first_objects, pool_of
from essaim.daemon.node.manager import ManagerRole
from essaim.daemon.node.roles import Roles
from essaim.daemon.node.runtimes import Runtimes
from essaim.daemon.peers.client import PeerClient
from essaim.gateway.protocol.entry_points import ServedPoint
from essaim.secrets.ca import Authority, issue, new_authority
from essaim.secrets.holder import Holder
from essaim.secrets.nodekey import new_key, request_for
from essaim.secrets.sealing import new_data_key
from essaim.secrets.tokens import generate, parse, root_digest
from essaim.secrets.unlock import new_unlock_key

from .addresses import check_addresses, choose_addresses, split_host_port
from .following import followed
from .merge import merge
from .settings import DEFAULT_CLUSTER_PORT, Settings

IN_SWARM = 'This node is already part of a swarm. Use "docker swarm leave" to leave this swarm and join another one.'
EXPIRED = "Swarm certificates have expired. To replace them, leave the swarm and join again."
NOT_IN_SWARM = "This node is not part of a swarm"
LEFT_BEHIND = (
    "{} task(s) of this node could not be stopped, since its runtime does not answer, and may still run: {}. Once the "
    "Engine answers again, remove them: docker rm -f $(docker ps -aq --filter label=com.docker.swarm.node.id={})"
)
MOST_NAMES = 20
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
        self._description = description
        self._log = log
        self._chance = SystemRandom()
        self._now = now
        self._monotonic = monotonic
        self._keyring = Keyring(settings.state_dir, self._chance)
        self._peers = PeerClient(self._keyring)
        self._tunnels = Tunnels(self._engine_channel)
        self._roles = Roles(settings, runtimes, self._peers, self._keyring, now=now, monotonic=monotonic, log=log)

    async def start(self) -> None:
        """Resume what this node was. Raises BrokenIdentity, OSError, or what the log finds wrong on its disk."""
        await self._peers.start()
        await self._roles.load()

    async def stop(self) -> None:
        """Stop serving; tasks go on running for the next start."""
        await self._tunnels.stop()
        async with self._roles.changing:
            await self._roles.lay_down(keep_tasks=True)
        await self._roles.leftovers.close()
        await self._peers.close()

    # -- what the API sees ------------------------------------------------------------------------------------------

    @property
    def node_id(self) -> str:
        return self._roles.identity.node_id if self._roles.identity else ""

    @property
    def address(self) -> str:
        return split_host_port(self._roles.identity.advertise, DEFAULT_CLUSTER_PORT)[0] if self._roles.identity else ""

    @property
    def swarm_state(self) -> Literal["inactive", "pending", "active", "error", "locked"]:
        if self._roles.identity is None:
            return "inactive"
        if self._keyring.locked:
            return "locked"
        return "error" if self.error else "active"

    @property
    def error(self) -> str:
        """A manager whose certificate has expired signs itself another; a worker has nobody who would listen."""
        if self._roles.identity is None or self._keyring.locked:
            return ""
        expired = self._roles.manager is None and self._now().timestamp() > self._keyring.validity[1]
        halted = self._roles.manager.log.halted if self._roles.manager is not None else ""
        return self._roles.error or halted or (EXPIRED if expired else "")

    @property
    def manager(self) -> Manager | None:
        role = self._roles.manager
        if role is None:
            return None
        return Manager(role.store, role.writer, role.leadership, role.reachable())

    @property
    def remote_managers(self) -> dict[str, str]:
        if self._roles.manager is not None:
            nodes = self._roles.manager.store.nodes
            return {n.id: n.manager_status.addr for n in nodes if n.manager_status and n.manager_status.addr}
        return {address: address for address in (self._roles.worker.book.addresses if self._roles.worker else [])}

    @property
    def description(self) -> NodeDescription:
        return self._description

    @property
    def engine_url(self) -> str | None:
        return self._runtimes.engine_url

    def routes(self) -> RouteTable:
        return self._roles.worker.table if self._roles.worker else RouteTable()

    def entry_points(self) -> list[ServedPoint]:
        """Those that routers use."""
        return self._roles.worker.gateway.points if self._roles.worker else []

    async def gateway_status(self) -> dict[str, Any]:
        return await self._roles.worker.gateway.status() if self._roles.worker else {}

    async def gateway_metrics(self) -> str:
        return await self._roles.worker.gateway.metrics() if self._roles.worker else ""

    async def task_logs(self, requests: list[LogRequest]) -> AsyncIterator[LogChunk]:
        """Chunks of all requests as they come."""
        streams = [self._one_log(request) for request in requests]
        async with contextlib.aclosing(merge(streams)) as merged:
            async for chunk in merged:
                yield chunk

    def _one_log(self, request: LogRequest) -> AsyncIterator[LogChunk]:
        store = self._as_manager().store

        def is_there() -> bool:
            task = store.tasks.get(request.task_id)
            node = store.nodes.get(task.node_id or "") if task is not None else None
            return node is not None and node.status.state != "down"

        return followed(self._open_log, request, is_there, monotonic=self._monotonic)

    def _open_log(self, request: LogRequest) -> AsyncIterator[LogChunk]:
        """From the leader of the moment. Raises Unavailable."""
        role = self._as_manager()
        if role.leadership.is_local:
            local: AsyncIterator[LogChunk] = role.dispatcher.logs.read(request)
            return local
        return self._peers.logs(self._leader_of(role), request)

    async def dial_engine(self, node_id: str) -> Streams:
        """A stream to another node's Engine, through any manager. Raises ClusterError."""
        return await self._tunnels.dial(node_id)

    async def _engine_channel(self, node_id: str) -> Channel:
        role = self._as_manager()
        if role.leadership.is_local:
            return await role.tunnels.open(node_id)
        return await self._peers.engine(self._leader_of(role), node_id)

    @staticmethod
    def _leader_of(role: ManagerRole) -> str:
        leader = role.leader_address()
        if leader is None:
            raise Unavailable("no manager leads at the moment; try again when there is a leader")
        return leader

    # -- init -------------------------------------------------------------------------------------------------------

    async def init(self, request: InitRequest) -> str:
        async with self._roles.changing:
            if request.force_new_cluster and self._roles.manager is not None:
                return await self._force_new_cluster(self._roles.manager)
            if self._roles.identity is not None:
                raise Unavailable(IN_SWARM)
            advertise, listen, data_ip = choose_addresses(
                self._settings, request.advertise_addr, request.listen_addr, request.data_path_addr
            )
            check_addresses(advertise, listen, data_ip)
            identity = Identity(
                node_id=new_id(self._chance),
                role="manager",
                cluster_id=new_id(self._chance),
                advertise=advertise,
                listen=listen,
                data_ip=data_ip,
                runtime=self._runtimes.kind,
                managers=[advertise],
                raft_id=self._chance.getrandbits(63) | 1,
            )
            await self._look_at_host()
            await self._begin(identity, request)
            return identity.node_id

    async def _begin(self, identity: Identity, request: InitRequest) -> None:
        """Start a new log and write the first objects; the identity is saved once they are durable."""
        try:
            await self._roles.empty_log()
            authority = await asyncio.to_thread(self._first_keys, identity)
            await ManagerRole.found(identity, self._roles.raft_dir, self._keyring)
            manager = await self._roles.start_manager(identity)
            digest = root_digest(authority.certificate)
            await manager.writer.commit(
                first_objects(
                    cluster_id=identity.cluster_id,
                    spec=request.spec,
                    tokens=JoinTokens(
                        worker=str(generate(digest, self._chance)), manager=str(generate(digest, self._chance))
                    ),
                    node_id=identity.node_id,
                    authority=RootCA(certificate=authority.certificate.decode(), key=authority.key.decode()),
                    description=self._described(identity),
                    availability=request.availability or "active",
                    advertise=identity.advertise,
                    ip=split_host_port(identity.advertise, DEFAULT_CLUSTER_PORT)[0],
                    raft_id=identity.raft_id,
                    chance=self._chance,
                    address_pool=pool_of(request.default_addr_pool, request.subnet_size),
                    subnet_size=request.subnet_size or 24,
                    data_path_port=request.data_path_port or 4789,
                    unlock_key=new_unlock_key(self._chance) if request.spec.locks_managers else None,
                )
            )
            await manager.locks.follow()
            await self._roles.save(identity)
            await self._roles.start_worker(identity)
            self._roles.start_renewal()
        except BaseException:
            await self._roles.abandon()
            raise

    def _first_keys(self, identity: Identity) -> Authority:
        """The authority of a new cluster, and the first certificate that it signs."""
        authority, key = new_authority(self._now()), new_key()
        holder = Holder(identity.node_id, "manager", identity.cluster_id, identity.raft_id)
        certificate = issue(authority, request_for(key), holder, self._now())
        self._keyring.put(Keys(key, certificate, authority.certificate, new_data_key()))
        return authority

    async def _force_new_cluster(self, manager: ManagerRole) -> str:
        """Go on alone with what this manager knows; the other managers' nodes are workers from now on."""
        await manager.log.force_new_cluster()
        await manager.writer.update(lambda store: forced_alone(store, self.node_id))
        return self.node_id

    # -- join -------------------------------------------------------------------------------------------------------

    async def join(self, request: JoinRequest) -> None:
        async with self._roles.changing:
            if self._roles.identity is not None:
                raise Unavailable(IN_SWARM)
            if not request.join_token:
                raise InvalidArgument("a join token is needed: see `essaim swarm join-token worker` on a manager")
            advertise, listen, data_ip = choose_addresses(
                self._settings,
                request.advertise_addr,
                request.listen_addr,
                request.data_path_addr,
                towards=request.remote_addrs,
            )
            check_addresses(advertise, listen, data_ip)
            token = parse(request.join_token)
            await self._look_at_host()
            key = await asyncio.to_thread(new_key)
            message = JoinMessage(
                token=request.join_token,
                address=advertise,
                ip=data_ip,
                availability=request.availability or "active",
                description=msgspec.structs.replace(self._description, data_addr=data_ip),
                request=request_for(key),
            )
            answer = await knock(self._peers, request.remote_addrs, token, message, listen, key)
            identity = Identity(
                node_id=answer.node_id,
                role=answer.role,
                cluster_id=answer.cluster_id,
                advertise=advertise,
                listen=listen,
                data_ip=data_ip,
                runtime=self._runtimes.kind,
                managers=answer.managers,
                raft_id=answer.raft_id,
            )
            try:
                await self._roles.new_log()
                keys = Keys(key, answer.certificate, answer.roots, new_data_key())
                await asyncio.to_thread(self._keyring.put, keys)
                await self._roles.save(identity)
                self._roles.transitions.seen(answer.version)
                await self._roles.take_up(identity)
                await self._until_member()
            except BaseException:
                await self._roles.lay_down(keep_tasks=False)
                if self._keyring.open:
                    others = [address for address in answer.managers if address != advertise]
                    await withdraw(self._peers, others, FORCED_SECONDS, self._log)
                await self._roles.abandon()
                raise

    async def _until_member(self) -> None:
        """A joining manager answers once it has the cluster's state. Raises Unavailable."""
        role = self._roles.manager
        if role is None:
            return
        for _ in range(JOIN_ATTEMPTS):
            if await role.fresh() and role.store.nodes.get(self.node_id):
                return
            await asyncio.sleep(JOIN_PAUSE)
        raise Unavailable(
            f"the managers do not reach this node at {self._roles.identity.advertise if self._roles.identity else ''}: "
            "is the port open, and is --advertise-addr right?"
        )

    # -- unlock -----------------------------------------------------------------------------------------------------

    async def unlock(self, unlock_key: str) -> None:
        async with self._roles.changing:
            if not self._keyring.locked:
                raise AlreadyExists("swarm is not locked")
            await self._roles.unlock(unlock_key)

    # -- leave ------------------------------------------------------------------------------------------------------

    async def leave(self, *, force: bool) -> str:
        """Takes bounded time. What was left behind, in words; empty for nothing."""
        async with self._roles.changing:
            identity = self._roles.identity
            if identity is None:
                raise Unavailable(NOT_IN_SWARM)
            managers = [a for a in self.remote_managers.values() if a != identity.advertise]
            if self._roles.manager is not None and managers:
                await self._resign(self._roles.manager, identity.node_id, force=force)
            await self._roles.save(msgspec.structs.replace(identity, leaving=True))
            left = await self._roles.lay_down(keep_tasks=False)
            for address in managers:
                try:
                    await self._peers.call(address, "/cluster/leave", LeaveMessage(), timeout=FORCED_SECONDS)
                    break
                except ClusterError as error:
                    self._log.warning("a manager was not told of the leave", manager=address, reason=str(error))
            await self._roles.abandon()
            return LEFT_BEHIND.format(len(left), ", ".join(sorted(left)[:MOST_NAMES]), identity.node_id) if left else ""

    async def _resign(self, manager: ManagerRole, node_id: str, *, force: bool) -> None:
        """Leave the others a quorum where that is possible. Raises ClusterError unless forced."""
        try:
            async with asyncio.timeout(FORCED_SECONDS if force else None):
                await manager.roles.demote(node_id)
        except (ClusterError, TimeoutError) as error:
            if not force:
                raise
            self._log.warning("this manager leaves without the others' consent", reason=str(error) or "no answer")

    # -- roles ------------------------------------------------------------------------------------------------------

    async def promote(self, node_id: str) -> None:
        await self._as_manager().roles.promote(node_id)

    async def demote(self, node_id: str) -> None:
        await self._as_manager().roles.demote(node_id)

    async def remove(self, node_id: str, *, force: bool) -> None:
        """The API has checked that it may go."""
        await self._as_manager().writer.commit([Delete("nodes", node_id)])

    async def fresh(self) -> bool:
        return await self._roles.manager.fresh() if self._roles.manager else True

    async def settled(self, service_id: str) -> None:
        if self._roles.manager is not None:
            await self._roles.manager.settled(service_id)

    def _as_manager(self) -> ManagerRole:
        if self._roles.manager is None:
            raise Unavailable("This node is not a swarm manager.")
        return self._roles.manager

    async def _look_at_host(self) -> None:
        """Once more, if its Engine did not answer when the daemon started."""
        if self._description.engine is None:
            self._description = await self._runtimes.describe()

    def _described(self, identity: Identity) -> NodeDescription:
        """As its agent will say it, too: the object does not change when that connects."""
        return msgspec.structs.replace(self._description, data_addr=identity.data_ip, tls_info=self._keyring.tls_info())
