"""Promoting and demoting a node: its role in the store, and its member in the log.

The role goes first, so that what is cut short is finished by the keeper of whoever leads then.
"""

from collections.abc import Awaitable, Callable, Sequence

from essaim.cluster.errors import ClusterError, FailedPrecondition, Unavailable
from essaim.cluster.writer import NO_QUORUM, Writer
from essaim.raft.interface import LogError, MemberView, NoQuorum, Refused
from essaim.raft.member.node import RaftLog

from . import joins

CHANGE_SECONDS = 20.0
LOSES_QUORUM = (
    "rpc error: code = FailedPrecondition desc = can't remove member from the raft: this would result in a loss of "
    "quorum"
)


class RoleDesk:
    """Of the manager that is the node `own`. `fresh` waits until its store is."""

    def __init__(self, own: str, writer: Writer, log: RaftLog, fresh: Callable[[], Awaitable[bool]]) -> None:
        self._own, self._writer, self._log, self._fresh = own, writer, log, fresh

    async def promote(self, node_id: str) -> None:
        """The node asks for its member number when it hears of it, and is kept a learner until it has caught up."""
        await self._writer.update(lambda store: joins.set_role(store, node_id, "manager"))

    async def demote(self, node_id: str, timeout: float = CHANGE_SECONDS) -> None:
        """Take the node out of the log; one whose loss would cost the quorum stays what it is. Raises ClusterError.

        When this very member goes, the keeper of the next leader finishes; and when it has gone, whatever answer was
        lost on the way said so.
        """
        try:
            await self._demote(node_id, timeout)
        except ClusterError:
            if node_id != self._own or not self._log.is_removed:
                raise

    async def _demote(self, node_id: str, timeout: float) -> None:
        node = self._writer.store.nodes.get(node_id)
        raft_id = node.manager_status.raft_id if node and node.manager_status else None
        await self._writer.update(lambda store: joins.set_role(store, node_id, "worker"))
        if not raft_id or all(view.id != raft_id for view in self._members()):
            return
        try:
            await self._take_out(raft_id, timeout)
        except Refused as error:
            await self._fresh()
            if all(view.id != raft_id for view in self._members()):
                return  # the keeper was faster
            await self._writer.update(lambda store: joins.keep_manager(store, node_id, raft_id))
            raise FailedPrecondition(f"{LOSES_QUORUM} ({error})") from error
        except NoQuorum as error:
            raise Unavailable(NO_QUORUM) from error
        except LogError as error:
            if raft_id != self._log.member_id:
                raise Unavailable(f"the demotion is under way, but not yet confirmed: {error}") from error
        else:
            if raft_id != self._log.member_id:
                await self._writer.update(lambda store: joins.discharge(store, node_id, raft_id))

    async def _take_out(self, raft_id: int, timeout: float) -> None:
        if self._log.leadership.leader_id == raft_id:
            others = [v for v in self._members() if v.is_voter and v.id != raft_id]
            others.sort(key=lambda view: (view.reachable is not True, -view.match))
            if not others:
                raise Refused("it is the only voter")
            await self._log.transfer(others[0].id, timeout=timeout)
        await self._log.remove(raft_id, timeout=timeout)

    def _members(self) -> Sequence[MemberView]:
        try:
            return self._log.members()
        except LogError:
            return []
