"""The leader's keeper of the log's members: it brings the configuration to what the nodes' roles say.

A manager's node that is no member yet becomes a learner, a learner that has caught up becomes a voter, and a member
that is no manager's node any more is taken out, after another leads if it did. A demoted node keeps its member number
until it is out: only then does it stop its part. A manager's node whose member was removed nevertheless gets another
number, and a node that was admitted and never came is forgotten. What cannot be done now is tried again later.
"""

import asyncio
import contextlib
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

from essaim.cluster.changes import Delete
from essaim.cluster.errors import ClusterError
from essaim.cluster.node import Node
from essaim.cluster.store import Store
from essaim.cluster.watch import Lagged
from essaim.cluster.writer import Writer
from essaim.daemon.background import Background
from essaim.raft.interface import LogError, Membership, MemberView

from .joins import discharge, never_came, raise_format, renumber

PAUSE = 1.0
"""Seconds between looks when nothing has changed."""
STEP_SECONDS = 3.0


@dataclass(frozen=True, slots=True)
class Step:
    kind: Literal["add", "promote", "remove", "transfer"]
    member: int
    address: str = ""


def next_steps(nodes: Iterable[Node], members: Sequence[MemberView]) -> list[Step]:
    """What is to be done. Nothing while no managers are known: the store is not filled yet."""
    wanted = {
        node.manager_status.raft_id: node.manager_status.addr or ""
        for node in nodes
        if node.spec.role == "manager" and node.manager_status and node.manager_status.raft_id
    }
    leader = next((view.id for view in members if view.is_leader), 0)
    if leader not in wanted:
        heirs = [view for view in members if view.is_voter and view.id in wanted]
        heirs.sort(key=lambda view: (view.reachable is not True, -view.match))
        return [Step("transfer", view.id) for view in heirs[:1]]
    known = {view.id for view in members}
    adds = [Step("add", member, address) for member, address in wanted.items() if member not in known]
    promotions = [Step("promote", view.id) for view in members if view.id in wanted and not view.is_voter]
    removals = [Step("remove", view.id) for view in members if view.id not in wanted]
    return removals + adds + promotions


def discharged(nodes: Iterable[Node], members: Sequence[MemberView]) -> list[str]:
    """Ids of the demoted nodes that are out of the log and may be told so."""
    known = {view.id for view in members}
    return [
        node.id
        for node in nodes
        if node.spec.role == "worker" and node.manager_status and node.manager_status.raft_id not in known
    ]


def outlived(nodes: Iterable[Node], removed: Collection[int]) -> list[str]:
    """Ids of the managers' nodes whose members were removed: they need new numbers."""
    return [
        node.id
        for node in nodes
        if node.spec.role == "manager" and node.manager_status and node.manager_status.raft_id in removed
    ]


class MemberKeeper(Background):
    """Use `start()` and `stop()` with the leadership."""

    name = "member keeper"

    def __init__(self, store: Store, writer: Writer, log: Membership, logger: Any) -> None:
        super().__init__()
        self._store = store
        self._writer = writer
        self._log = log
        self._logger = logger

    async def _run(self) -> None:
        with self._store.watch("nodes") as watch:
            while True:
                await self._look()
                with contextlib.suppress(TimeoutError, Lagged):
                    async with asyncio.timeout(PAUSE):
                        await watch.next()

    async def _look(self) -> None:
        try:
            members = self._log.members()
            for node_id in discharged(self._store.nodes, members):
                await self._writer.update(partial(discharge, node_id=node_id, raft_id=self._member_of(node_id)))
            for node_id in outlived(self._store.nodes, self._log.removed()):
                await self._writer.update(partial(renumber, node_id=node_id, raft_id=self._member_of(node_id)))
            if changes := raise_format(self._store):
                await self._writer.commit(changes)
            for node_id in never_came(self._store.nodes, self._writer.now()):
                self._logger.warning("a node that was admitted never came, and is forgotten", node=node_id)
                await self._writer.commit([Delete("nodes", node_id)])
        except (LogError, ClusterError):
            return
        for step in next_steps(self._store.nodes, members):
            try:
                await self._take(step)
            except LogError as error:
                self._logger.debug("a membership step must wait", step=step.kind, member=step.member, reason=str(error))

    def _member_of(self, node_id: str) -> int:
        node = self._store.nodes.get(node_id)
        return (node.manager_status.raft_id or 0) if node and node.manager_status else 0

    async def _take(self, step: Step) -> None:
        if step.kind == "add":
            await self._log.add_learner(step.member, step.address, timeout=STEP_SECONDS)
        elif step.kind == "promote":
            await self._log.promote(step.member, timeout=STEP_SECONDS)
        elif step.kind == "transfer":
            await self._log.transfer(step.member, timeout=STEP_SECONDS)
        else:
            await self._log.remove(step.member, timeout=STEP_SECONDS)
        self._logger.info("the managers' configuration changed", step=step.kind, member=step.member)
