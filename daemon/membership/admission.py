"""Whom a manager lets in on port 2377: hosts that join, nodes that become managers, and those that go again."""

import asyncio
from collections.abc import Awaitable, Callable
from random import SystemRandom

from essaim.cluster.changes import Delete
from essaim.cluster.errors import Unavailable
from essaim.cluster.ids import new_id
from essaim.cluster.store import Store
from essaim.cluster.writer import NO_QUORUM, Writer
from essaim.daemon.keys.keyring import Keyring
from essaim.daemon.keys.tls import calling_back_context
from essaim.daemon.peers.callback import call_back

from . import joins
from .issuing import Issuer
from .joins import BecomeManager, Issued, JoinAnswer, JoinMessage


class Admission:
    """Of one manager. `fresh` waits until its store is, `managers` gives the addresses of all."""

    def __init__(
        self,
        cluster_id: str,
        store: Store,
        writer: Writer,
        issuer: Issuer,
        keyring: Keyring,
        *,
        fresh: Callable[[], Awaitable[bool]],
        managers: Callable[[], list[str]],
    ) -> None:
        self._cluster_id, self._store, self._writer = cluster_id, store, writer
        self._issuer, self._keyring = issuer, keyring
        self._fresh, self._managers = fresh, managers
        self._chance = SystemRandom()

    async def join(self, message: JoinMessage) -> JoinAnswer:
        """Admit a host. Raises ClusterError."""
        await self._log_is_known()
        role = joins.role_of_token(self._store, message.token)
        if role == "manager":
            joins.require_format(self._store, message.description)
            await self._call_back(message.address, message.request)
        node_id = new_id(self._chance)
        raft_id = self._chance.getrandbits(63) | 1 if role == "manager" else 0
        issued = self._issuer.issue(message.request, node_id, role, raft_id)
        after = self._store.version
        admitted = joins.admit(message, role=role, node_id=node_id, raft_id=raft_id, after=after)
        return self._answer(node_id, role, raft_id, issued, await self._writer.commit(admitted))

    async def become_manager(self, node_id: str, message: BecomeManager) -> JoinAnswer:
        """A promoted node asks for its member number. Raises ClusterError."""
        joins.require_promoted(self._store, node_id)
        await self._call_back(message.address, message.request)
        raft_id = self._chance.getrandbits(63) | 1
        issued = self._issuer.issue(message.request, node_id, "manager", raft_id)
        version = await self._writer.update(lambda store: joins.enlist(store, node_id, message.address, raft_id))
        return self._answer(node_id, "manager", raft_id, issued, version)

    async def _call_back(self, address: str, request: bytes) -> None:
        """Raises Unavailable for a candidate that this manager does not reach."""
        keys = self._keyring.keys
        context = await asyncio.to_thread(calling_back_context, keys.certificate, keys.private_key)
        await call_back(address, request, context)

    async def withdrawn(self, node_id: str) -> None:
        """A node whose joining failed is forgotten; the keeper takes its member out of the log."""
        await self._writer.commit([Delete("nodes", node_id)])

    async def left(self, node_id: str) -> None:
        """A node has left: it is down from now on, without waiting for its heartbeat, and no manager any more."""
        await self._writer.update(lambda store: joins.departed(store, node_id))

    def _answer(self, node_id: str, role: str, raft_id: int, issued: Issued, version: int) -> JoinAnswer:
        return JoinAnswer(
            node_id=node_id,
            cluster_id=self._cluster_id,
            role=role,
            managers=self._managers(),
            certificate=issued.certificate,
            roots=issued.roots,
            raft_id=raft_id,
            version=version,
        )

    async def _log_is_known(self) -> None:
        """A manager that has just started or joined may not have the cluster yet."""
        if self._store.cluster is None and not await self._fresh():
            raise Unavailable(NO_QUORUM)
