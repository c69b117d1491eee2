"""A Raft member as a `Log` and `Membership`: the driver around the core.

Everything that happens (a tick, messages, proposals, a finished write) feeds the core and asks for one `_pump`, which
runs once at the end of the event loop's turn: what came together shares one message a peer and one write. The order
of the pump is the core's: send, write, restore, apply. While a write is under way the next one gathers.
"""

import asyncio
import errno
import random
import shutil
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog
from aiohttp import web

from .core import Core, Dropped
from .disk import DiskThread
from .entries import Entry, Kind, SnapshotMeta, entries_size
from .found import force_new_cluster
from .interface import Leadership, MemberView, NoQuorum, StateMachine, Stopped
from .members import Configuration
from .membership import Controls
from .messages import InstallSnapshot
from .policy import SnapshotPolicy
from .state import Settings, Write
from .storage import Recovered, Storage
from .streams import Access
from .transport import HttpTransport, Reach
from .waiting import KEY_BITS, NO_LEADER, Proposals, Reads
from .wal import RECORD_MAX, SEGMENT_BYTES
from .watchers import LeadershipWatchers
from .wire import Control, ControlReply, Forward, ForwardRefused, WireMessage

COMMAND_MAX = RECORD_MAX // 4
BATCH_BYTES = 1 << 20  # of proposals handed to the core, or forwarded, at once
_log = structlog.get_logger("raft")


@dataclass(frozen=True)
class Timing:
    """Seconds; see docs/raft.md for the measurements behind the defaults."""

    tick: float = 0.05
    election_ticks: int = 10  # 0.5 s, plus up to as much again by chance
    heartbeat_ticks: int = 2
    leaderless: float = 3.0  # without a leader for so long, reads and writes fail at once
    read_retry: float = 0.5
    disk_retry: float = 2.0  # between looks at a disk that was full


@dataclass(frozen=True)
class Options:
    """What a member may be given beside its identity."""

    timing: Timing = Timing()
    policy: Callable[[], SnapshotPolicy] = SnapshotPolicy
    access: Access = Access()  # noqa: RUF009 - frozen
    keep_entries: int = 5_000  # behind a snapshot, for followers that are a little late
    segment_bytes: int = SEGMENT_BYTES


class RaftLog:
    """One member in `directory`. A new cluster is made with `found.found_cluster`; a member of none waits for a
    leader that has added it. Use `start()` and `stop()`, or `async with`; `routes()` belong on the server at `address`.
    """

    def __init__(
        self, directory: Path, machine: StateMachine, *, member_id: int, address: str, options: Options | None = None
    ) -> None:
        self._directory, self._machine, self._options = directory, machine, options or Options()
        self._id, self._address = member_id, address
        self._storage = Storage(directory, segment_bytes=self._options.segment_bytes)
        self._transport = HttpTransport(member_id, address, self._storage.snapshots, self._options.access)
        self._watchers = LeadershipWatchers()
        self._proposals = Proposals(random.getrandbits(KEY_BITS))
        self._reads = Reads()
        self._controls = Controls(self)
        self._core: Core | None = None
        self._disk = DiskThread("raft-disk")
        self._applied = SnapshotMeta()  # index and term of the newest applied entry
        self._machine_index = 0  # what the state machine has; ahead of `_applied` after opening once more
        self._reason = "the log has not been started"
        self._received: dict[int, bytes] = {}  # snapshots that the core has been told of, by index
        self._pumping = self._begun = False
        self._leader_since = 0.0  # loop time at which a leader was last known
        self._members: tuple[Configuration, bool] | None = None  # as the transport knows them
        self._timer: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._snapshotting = False

    async def __aenter__(self) -> "RaftLog":
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    # Life.

    async def start(self) -> None:
        self._disk.start()
        self._transport.start(self)
        self._begun = True
        try:
            await self._open()
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        if not self._begun:
            return
        self._begun = False
        self._halt("the log was stopped")
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._transport.stop()
        await self._watchers.stop()
        await self._disk.run(self._storage.close)
        await self._disk.stop()

    def routes(self) -> list[web.RouteDef]:
        """For the server that other members reach at `address`."""
        return self._transport.routes()

    # Log.

    async def propose(self, command: bytes, *, timeout: float | None = None) -> Any:
        if len(command) > COMMAND_MAX:
            raise ValueError(f"a command of {len(command)} bytes; {COMMAND_MAX} is the limit")
        loop = self._require_leader()
        answer: asyncio.Future[Any] = loop.create_future()
        self._proposals.add(command, answer, loop.time() + timeout if timeout is not None else float("inf"))
        self._wake()
        return await answer

    async def read_barrier(self, *, timeout: float | None = None) -> None:
        loop = self._require_leader()
        answer: asyncio.Future[None] = loop.create_future()
        self._reads.add(answer, loop.time() + timeout if timeout is not None else float("inf"))
        self._wake()
        await answer

    @property
    def leadership(self) -> Leadership:
        return self._watchers.current

    def on_leadership(self, callback: Callable[[Leadership], Awaitable[None] | None]) -> Callable[[], None]:
        return self._watchers.add(callback)

    # Membership: decided by `Controls`.

    @property
    def member_id(self) -> int:
        return self._id

    def members(self) -> Sequence[MemberView]:
        return self._controls.views()

    async def add_learner(self, member_id: int, address: str, *, timeout: float | None = None) -> None:
        await self._controls.add_learner(member_id, address, timeout)

    async def promote(self, member_id: int, *, timeout: float | None = None) -> None:
        await self._controls.promote(member_id, timeout)

    async def demote(self, member_id: int, *, force: bool = False, timeout: float | None = None) -> None:
        await self._controls.demote(member_id, force, timeout)

    async def remove(self, member_id: int, *, force: bool = False, timeout: float | None = None) -> None:
        await self._controls.remove(member_id, force, timeout)

    async def transfer(self, member_id: int, *, timeout: float | None = None) -> None:
        await self._controls.transfer(member_id, timeout)

    async def force_new_cluster(self) -> None:
        self._halt("the cluster is being made anew")
        await self._disk.run(self._storage.close)
        await self._disk.run(lambda: force_new_cluster(self._directory, self._id, self._address))
        await self._open()

    # What the transport reports.

    def on_messages(self, messages: Sequence[WireMessage]) -> None:
        if self._core is None:
            return
        for message in messages:
            if isinstance(message, (Forward, ForwardRefused, Control, ControlReply)):
                self._on_node_message(message)
            elif isinstance(message, InstallSnapshot) or message.to != self._id:
                continue  # a snapshot comes with its data, by `on_snapshot`
            else:
                self._step(message)
        self._wake()

    def on_reach(self, member: int, reach: Reach) -> None:
        if self._core is None:
            return
        if reach is Reach.REMOVED:
            self._halt("this member was removed from the cluster")
        elif reach is Reach.LOST:
            self._core.unreachable(member)
        elif reach is Reach.REFUSED and member == self._core.leader:
            self._core.leader_lost()
        self._wake()

    def is_removed(self, member: int) -> bool:
        """Only when it is certain: an uncommitted removal may still be undone."""
        if self._members is None:
            return False
        members, settled = self._members
        return settled and member in members.removed

    async def on_snapshot(self, message: InstallSnapshot, path: Path) -> None:
        """A snapshot has arrived and is durable at `path`."""
        _, data = await asyncio.to_thread(self._storage.snapshots.read, path)
        if self._core is not None:
            self._received[message.meta.index] = data
            self._step(message)
            self._wake()

    # For `Controls`.

    @property
    def core(self) -> Core:
        if self._core is None:
            raise Stopped(self._reason)
        return self._core

    @property
    def applied_index(self) -> int:
        return self._applied.index

    def connected(self, member: int) -> bool:
        return self._transport.connected(member)

    def send(self, message: Control | ControlReply) -> None:
        self._transport.send([message])

    def wake(self) -> None:
        self._wake()

    def new_key(self) -> int:
        return self._proposals.next_key()

    # The driver.

    async def _open(self) -> None:
        """Recover from disk, apply what is known to be committed, and begin to take part."""
        found: Recovered = await self._disk.run(self._storage.open)
        timing = self._options.timing
        settings = Settings(
            self._id, random.randrange, election_ticks=timing.election_ticks, heartbeat_ticks=timing.heartbeat_ticks
        )
        self._policy = self._options.policy()
        self._policy.written(len(found.data))
        self._applied = SnapshotMeta(found.snapshot.index, found.snapshot.term)
        if found.snapshot.index > self._machine_index:
            self._machine.restore(found.snapshot.index, found.data)
            self._machine_index = found.snapshot.index
        core = self._core = Core(settings, found.state, found.snapshot, found.entries)
        self._reason, self._members = "", None
        self._leader_since = asyncio.get_running_loop().time()
        while core.state.log.applied < core.state.log.committed:
            self._apply(core.ready().committed)
            await asyncio.sleep(0)
        if core.members.voters == (self._id,):
            core.campaign()
        self._schedule_tick()
        self._wake()

    def _schedule_tick(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(self._options.timing.tick, self._tick)

    def _tick(self) -> None:
        """One tick, however late: the time that this process did not run was not spent listening to a leader."""
        if self._core is None:
            return
        self._schedule_tick()
        self._core.tick()
        now = asyncio.get_running_loop().time()
        if self._core.leader:
            self._leader_since = now
        leaderless = self._leaderless
        self._proposals.expire(now, leaderless=leaderless)
        self._reads.expire(now, leaderless=leaderless, retry=self._options.timing.read_retry)
        self._wake()

    @property
    def _leaderless(self) -> bool:
        now = asyncio.get_running_loop().time()
        return now - self._leader_since > self._options.timing.leaderless

    def _require_leader(self) -> asyncio.AbstractEventLoop:
        if self._core is None:
            raise Stopped(self._reason)
        if not self._core.leader and self._leaderless:
            raise NoQuorum(NO_LEADER)
        return asyncio.get_running_loop()

    def _wake(self) -> None:
        if not self._pumping and self._core is not None:
            self._pumping = True
            asyncio.get_running_loop().call_soon(self._pump)

    def _pump(self) -> None:
        self._pumping = False
        core = self._core
        if core is None:
            return
        try:
            self._feed(core)
            self._carry_out(core)
        except Exception as error:  # noqa: BLE001 - whatever it was, this member must not go on
            _log.exception("this member stops: its state machine or a rule of Raft failed")
            self._halt(f"this member stopped after an internal error: {error}")
            return
        self._follow_members(core)
        self._show_leadership(core)
        self._controls.check()

    def _feed(self, core: Core) -> None:
        """Give the core, or the leader, what has come in since."""
        if self._proposals.unsent:
            self._propose(core)
        if self._reads.new and core.leader and (context := self._reads.ask(asyncio.get_running_loop().time())):
            core.read(context)

    def _propose(self, core: Core) -> None:
        if core.is_leader:
            batch = self._proposals.send(core.term, BATCH_BYTES)
            try:
                core.propose([(p.key, p.command) for p in batch])
            except Dropped:  # tried again with the next event
                self._proposals.refused([p.key for p in batch])
                return
        elif core.leader:
            batch = self._proposals.send(core.term, BATCH_BYTES)
            forward = Forward(core.leader, self._id, core.term, [(p.key, p.command) for p in batch])
            if self._transport.send([forward]):
                self._proposals.refused([p.key for p in batch])
                return
        else:
            return
        if self._proposals.unsent:
            self._wake()

    def _carry_out(self, core: Core) -> None:
        ready = core.ready()
        if ready.messages:
            self._send(core, ready.messages)
        if ready.write is not None:
            self._write(ready.write)
        if ready.restore is not None:
            self._restore(ready.restore)
        if ready.committed:
            self._apply(ready.committed)
            self._consider_snapshot(core)
            if core.state.log.applied < core.state.log.committed:
                self._wake()
        for context, index in ready.reads:
            self._reads.answered(context, index)
        self._reads.applied(self._applied.index)

    def _send(self, core: Core, messages: list[Any]) -> None:
        for message in messages:
            if isinstance(message, InstallSnapshot):
                self._begin(self._send_snapshot(message))
        for member in self._transport.send([m for m in messages if not isinstance(m, InstallSnapshot)]):
            core.unreachable(member)

    def _write(self, write: Write) -> None:
        mark = (write.snapshot.index, write.snapshot.term) if write.snapshot else None
        core = self._core

        def done(_: object, error: BaseException | None) -> None:
            if self._core is not core or core is None:
                return
            if error is not None:
                self._on_disk_error(error)
                return
            core.advance()
            self._wake()

        self._disk.submit(lambda: self._storage.save(write.state, write.entries, mark), done)

    def _restore(self, meta: SnapshotMeta) -> None:
        data = self._received.pop(meta.index)
        self._received.clear()
        if meta.index > self._machine_index:
            self._machine.restore(meta.index, data)
            self._machine_index = meta.index
        self._proposals.skipped(meta.term)
        self._applied = SnapshotMeta(meta.index, meta.term)
        self._policy.begun()
        self._policy.written(len(data))

    def _apply(self, entries: list[Entry]) -> None:
        machine, sent, done = self._machine, self._proposals.sent, self._machine_index
        term = self._applied.term
        for entry in entries:
            if entry.term != term:
                term = entry.term
                self._proposals.passed(term)
            if entry.kind == Kind.COMMAND and entry.index > done:
                result = machine.apply(entry.index, entry.data)
                if sent and (proposal := sent.pop(entry.key, None)) is not None and not proposal.answer.done():
                    proposal.answer.set_result(result)
        self._applied = SnapshotMeta(entries[-1].index, term)
        self._machine_index = max(done, entries[-1].index)
        self._policy.applied(len(entries), entries_size(entries))

    # Snapshots.

    def _consider_snapshot(self, core: Core) -> None:
        exact = self._applied.index == self._machine_index
        if exact and self._policy.due and not self._snapshotting and self._applied.index <= core.state.log.durable:
            self._snapshotting = True
            self._policy.begun()
            self._begin(self._take_snapshot(core, core.meta_at(self._applied.index), self._machine.snapshot()))

    async def _take_snapshot(self, core: Core, meta: SnapshotMeta, serialise: Callable[[], bytes]) -> None:
        try:
            data = await asyncio.to_thread(serialise)
            await asyncio.to_thread(self._storage.snapshots.write, meta, data)
            await self._disk.run(self._storage.compact)
        except OSError as error:
            _log.error("cannot write a snapshot", directory=str(self._directory), error=str(error))
            return
        finally:
            self._snapshotting = False
        self._policy.written(len(data))
        if self._core is core:
            core.snapshot_saved(meta, keep=self._options.keep_entries)

    async def _send_snapshot(self, message: InstallSnapshot) -> None:
        core = self._core
        arrived = await self._transport.send_snapshot(message)
        if core is not None and self._core is core:
            core.snapshot_sent(message.to, arrived=arrived)
            self._wake()

    # The rest.

    def _step(self, message: Any) -> None:
        assert self._core is not None
        try:
            self._core.step(message)
        except AssertionError as error:
            _log.exception("this member stops: a rule of Raft was broken")
            self._halt(f"this member stopped after an internal error: {error}")

    def _on_node_message(self, message: Forward | ForwardRefused | Control | ControlReply) -> None:
        core = self.core
        if isinstance(message, Forward):
            try:
                if message.term != core.term:
                    raise Dropped("of another term")
                core.propose(message.proposals)
            except Dropped:
                keys = [key for key, _ in message.proposals]
                self._transport.send([ForwardRefused(message.sender, self._id, core.term, keys)])
        elif isinstance(message, ForwardRefused):
            self._proposals.refused(message.keys)
        elif isinstance(message, Control):
            self._transport.send([self._controls.decide(message)])
        else:
            self._controls.answered(message)

    def _follow_members(self, core: Core) -> None:
        """Talk to whom the configuration names; while it is not committed, also to those of the one before."""
        index, members = core.state.configurations[-1]
        settled = index <= self._applied.index
        if (members, settled) == self._members:
            return
        self._members = (members, settled)
        if settled and self._id in members.removed:
            self._halt("this member was removed from the cluster")
            return
        before = (
            core.state.configurations[-2][1].addresses if not settled and len(core.state.configurations) > 1 else {}
        )
        self._transport.set_members({**before, **members.addresses})

    def _show_leadership(self, core: Core) -> None:
        leader = core.leader
        local = core.is_leader and self._applied.term == core.term
        view = Leadership(core.term, leader, core.members.addresses.get(leader, "") if leader else "", is_local=local)
        if view != self._watchers.current and self._core is not None:
            self._watchers.set(view)

    def _on_disk_error(self, error: BaseException) -> None:
        self._halt(f"cannot write to {self._directory}: {error}")
        _log.error("this member stops", reason=self._reason)
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            self._begin(self._reopen_when_there_is_space())

    async def _reopen_when_there_is_space(self) -> None:
        """A full disk is the one failure that passes by itself; after others, only a restart reads the disk anew."""
        await self._disk.run(self._storage.close)
        while True:
            await asyncio.sleep(self._options.timing.disk_retry)
            free = (await asyncio.to_thread(shutil.disk_usage, self._directory)).free
            if free < 2 * self._options.segment_bytes:
                continue
            try:
                await self._open()
            except OSError as error:
                await self._disk.run(self._storage.close)
                _log.warning("cannot start again yet", directory=str(self._directory), error=str(error))
                continue
            _log.info("this member takes part again", directory=str(self._directory))
            return

    def _halt(self, reason: str) -> None:
        """Take no part any more: no vote, no acknowledgement, no answer."""
        if self._core is None and self._reason:
            self._reason = reason
            return
        self._core, self._reason = None, reason
        if self._timer is not None:
            self._timer.cancel()
        self._proposals.fail(reason)
        self._reads.fail(reason)
        self._controls.fail(reason)
        self._received.clear()
        self._watchers.set(Leadership(self._watchers.current.term, 0, "", is_local=False))

    def _begin(self, work: Any) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
