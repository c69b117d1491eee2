"""Membership changes on a node: asked of the leader, wherever that is, and followed until they are in force.

A change that the leader cannot take just now (another one is under way, a learner lags) is asked again until the
time-out; one that makes no sense is refused.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

from essaim.raft.core.core import Core, Dropped
from essaim.raft.core.guard import Premature, Situation, Standing, judge
from essaim.raft.core.members import Change, ChangeKind, RefusedChange
from essaim.raft.interface import MemberView, NoQuorum, Refused, Stopped, Uncertain
from essaim.raft.transport.wire import Control, ControlReply

from .driver import Driver
from .waiting import NO_LEADER

PATIENCE = 30.0  # seconds, where the caller gives no time-out
PAUSE = 0.1  # seconds before asking again


class Controls:
    def __init__(self, node: Driver) -> None:
        self._node = node
        self._asked: dict[int, asyncio.Future[ControlReply]] = {}
        self._until: list[tuple[Callable[[Core], bool], asyncio.Future[None]]] = []

    def views(self) -> Sequence[MemberView]:
        core = self._node.core
        members, found = core.members, []
        for member in members.everyone:
            progress = core.progress(member) if core.is_leader else None
            found.append(
                MemberView(
                    id=member,
                    address=members.addresses.get(member, ""),
                    is_voter=member in members.voters,
                    is_leader=member == core.leader,
                    match=progress.match if progress else 0,
                    reachable=self._is_up(core, member) if core.is_leader else None,
                )
            )
        return found

    async def add_learner(self, member: int, address: str, timeout: float | None) -> None:
        await self._change([Change(ChangeKind.ADD_LEARNER, member, address)], timeout)

    async def promote(self, member: int, timeout: float | None) -> None:
        await self._change([Change(ChangeKind.PROMOTE, member)], timeout)

    async def demote(self, member: int, force: bool, timeout: float | None) -> None:
        await self._change([Change(ChangeKind.DEMOTE, member)], timeout, force)

    async def remove(self, member: int, force: bool, timeout: float | None) -> None:
        await self._change([Change(ChangeKind.REMOVE, member)], timeout, force)

    async def transfer(self, member: int, timeout: float | None) -> None:
        async with _limit(timeout):
            while self._node.core.leader != member:
                await self._ask([], transfer=member)
                try:
                    async with asyncio.timeout(1.0):
                        await self._when(lambda core: core.leader == member)
                except TimeoutError:
                    continue

    # On the leader.

    def decide(self, request: Control) -> ControlReply:
        core = self._node.core
        try:
            if request.transfer:
                core.transfer(request.transfer)
                index = 0
            else:
                self._judge(core, request)
                index = core.change_members(request.changes, request.key)
        except (Dropped, Premature) as error:
            return self._reply(request, error=str(error), again=True)
        except RefusedChange as error:
            return self._reply(request, error=str(error), again="under way" in str(error))
        self._node.wake()
        return self._reply(request, index=index)

    def _reply(self, request: Control, *, index: int = 0, error: str = "", again: bool = False) -> ControlReply:
        return ControlReply(request.sender, self._node.id, self._node.core.term, request.key, index, error, again)

    def _judge(self, core: Core, request: Control) -> None:
        if not core.is_leader:
            raise Dropped("this member does not lead")
        standings = {
            member: Standing(progress.match, self._is_up(core, member))
            for member in core.members.everyone
            if (progress := core.progress(member)) is not None
        }
        index, now = core.state.configurations[-1]
        judge(Situation(now, index, core.state.log.last, standings), request.changes, force=request.force)

    def _is_up(self, core: Core, member: int) -> bool:
        """Whether the leader can reach a member: a stopped process keeps its connections and does not answer."""
        progress = core.progress(member)
        if member == self._node.id or progress is None:
            return member == self._node.id
        return self._node.transport.connected(member) and progress.silent < 2

    # On whichever member was asked.

    def answered(self, reply: ControlReply) -> None:
        future = self._asked.pop(reply.key, None)
        if future is not None and not future.done():
            future.set_result(reply)

    def check(self) -> None:
        """Something happened: see who waited for it."""
        if not self._until:
            return
        waiting, self._until = self._until, []
        for condition, future in waiting:
            if future.done():
                continue
            if condition(self._node.core):
                future.set_result(None)
            else:
                self._until.append((condition, future))

    def fail(self, reason: str) -> None:
        futures: list[asyncio.Future[Any]] = [*self._asked.values(), *(future for _, future in self._until)]
        self._asked, self._until = {}, []
        for future in futures:
            if not future.done():
                future.set_exception(Stopped(reason))

    async def _change(self, changes: list[Change], timeout: float | None, force: bool = False) -> None:
        async with _limit(timeout):
            index = await self._ask(changes, force=force)
            try:
                await self._when(lambda core: self._node.applied.index >= index and not core.members.joint)
            except TimeoutError:
                raise Uncertain("no quorum has confirmed the membership change yet; it may still happen") from None

    async def _ask(self, changes: list[Change], *, transfer: int = 0, force: bool = False) -> int:
        """The index of the change's entry, once the leader has taken it."""
        while True:
            leader = self._node.core.leader
            reply = await self._ask_leader(leader, changes, transfer, force) if leader else None
            if reply is not None and not reply.error:
                return reply.index
            if reply is not None and not reply.again:
                raise Refused(reply.error)
            await asyncio.sleep(PAUSE)

    async def _ask_leader(self, leader: int, changes: list[Change], transfer: int, force: bool) -> ControlReply:
        node = self._node
        request = Control(leader, node.id, node.core.term, node.proposals.next_key(), changes, transfer, force)
        if leader == node.id:
            return self.decide(request)
        future: asyncio.Future[ControlReply] = asyncio.get_running_loop().create_future()
        self._asked[request.key] = future
        node.transport.send([request])
        try:
            async with asyncio.timeout(5.0):
                return await future
        except TimeoutError:
            raise Uncertain("the leader did not answer; the membership change may still happen") from None
        finally:
            self._asked.pop(request.key, None)

    async def _when(self, condition: Callable[[Core], bool]) -> None:
        if condition(self._node.core):
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._until.append((condition, future))
        await future


@asynccontextmanager
async def _limit(seconds: float | None) -> AsyncIterator[None]:
    """A time-out that is reported as a lack of quorum."""
    try:
        async with asyncio.timeout(PATIENCE if seconds is None else seconds):
            yield
    except TimeoutError:
        raise NoQuorum(NO_LEADER) from None
