"""The driver around a member's core: feeds it, and carries out what it says.

Everything that happens (a tick, messages, proposals, a finished write) feeds the core and asks for one `_pump`, which
runs once at the end of the event loop's turn: what came together shares one message a peer and one write. The order
of the pump is the core's: send, write, restore, apply. While a write is under way the next one gathers.
"""

import asyncio
import contextlib
import errno
import random
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import structlog

from essaim.raft.core.core import Core, Dropped
from essaim.raft.core.entries import Entry, Kind, SnapshotMeta, entries_size
from essaim.raft.core.messages import InstallSnapshot, Message
from essaim.raft.core.state import Settings, Write
from essaim.raft.disk.disk import DiskThread
from essaim.raft.disk.storage import Recovered, Storage
from essaim.raft.interface import CannotApply, Leadership, NoQuorum, StateMachine, Stopped
from essaim.raft.transport.transport import HttpTransport
from essaim.raft.transport.wire import Forward

from .options import Options
from .snapshotter import Snapshotter
from .waiting import KEY_BITS, NO_LEADER, Proposals, Reads
from .watchers import LeadershipWatchers

BATCH_BYTES = 1 << 20  # of proposals handed to the core, or forwarded, at once
REMOVED = "this member was removed from the cluster"
_log = structlog.get_logger("raft")


class Driver:
    """`open` recovers and begins; `halt` ends it all, and `open` may follow again."""

    def __init__(self, directory: Path, machine: StateMachine, member_id: int, address: str, options: Options) -> None:
        self.id, self.directory, self.options, self._address = member_id, directory, options, address
        self.storage = Storage(directory, segment_bytes=options.segment_bytes, codecs=options.codecs)
        self.transport = HttpTransport(member_id, address, self.storage.snapshots, options.access)
        self.disk = DiskThread("raft-disk")
        self.watchers = LeadershipWatchers()
        self.proposals = Proposals(random.getrandbits(KEY_BITS))
        self.reads = Reads(random.getrandbits(KEY_BITS))
        self.running: Core | None = None
        self.reason = "the log has not been started"  # why nothing is running
        self.lasting = False  # whether it stays so until a restart, or longer
        self.applied = SnapshotMeta()  # index and term of the newest applied entry
        self.received: dict[int, bytes] = {}  # snapshots that the core has been told of, by index
        self.on_pump: Callable[[], None] = lambda: None
        self.on_halt: Callable[[str], None] = lambda reason: None
        self.on_passing_error: Callable[[], Coroutine[Any, Any, None]] | None = None
        self._machine, self._machine_index = machine, 0  # ahead of `applied` after opening once more
        self._snapshots = Snapshotter(self.storage, self.disk, options)
        self._pumping = self._preparing = False
        self._leader_since = self._saved_since = 0.0  # loop times: a leader was known, the commit index was written
        self._timer: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def core(self) -> Core:
        """Raises `Stopped` when nothing is running."""
        if self.running is None:
            raise Stopped(self.reason)
        return self.running

    def require_leader(self) -> None:
        """Fail fast: raises `Stopped`, or `NoQuorum` when there has been no leader for some time."""
        if not self.core.leader and self._leaderless():
            raise NoQuorum(NO_LEADER)

    def wake(self) -> None:
        """Something happened: pump at the end of this turn of the event loop."""
        if not self._pumping and self.running is not None:
            self._pumping = True
            asyncio.get_running_loop().call_soon(self._pump)

    def begin(self, work: Coroutine[Any, Any, None]) -> None:
        """Run something in the background, until `stop`."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def stop(self) -> None:
        self.halt("the log was stopped")
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.transport.stop()
        await self.watchers.stop()
        await self.disk.run(self.storage.close)
        await self.disk.stop()

    async def open(self) -> None:
        """Recover from disk, apply what is known to be committed, and begin to take part."""
        found: Recovered = await self.disk.run(self.storage.open)
        self._snapshots.opened(len(found.data))
        self.applied = SnapshotMeta(found.snapshot.index, found.snapshot.term)
        self.lasting = False
        try:
            await self._open(found)
        except CannotApply as error:
            self._cannot_apply(error)

    async def _open(self, found: Recovered) -> None:
        timing = self.options.timing
        if found.snapshot.index > self._machine_index:
            self._machine.restore(found.snapshot.index, found.data)
            self._machine_index = found.snapshot.index
        core = Core(
            Settings(self.id, random.randrange, timing.election_ticks, timing.heartbeat_ticks),
            found.state,
            found.snapshot,
            found.entries,
        )
        while core.state.log.applied < core.state.log.committed:
            self._apply(core.ready().committed)
            await asyncio.sleep(0)
        self.running, self.reason = core, ""
        self.transport.contacts.restart()
        self._leader_since = self._saved_since = asyncio.get_running_loop().time()
        if core.members.voters == (self.id,):
            core.campaign()
        self._schedule_tick()
        self.wake()

    def halt(self, reason: str, *, lasting: bool = False) -> None:
        """Take no part any more: no vote, no acknowledgement, no answer. `lasting`: until somebody acts."""
        stopped, self.reason, self.lasting = self.running is None, reason, lasting
        self.running = None
        if stopped:
            return
        if self._timer is not None:
            self._timer.cancel()
        self.proposals.fail(reason)
        self.reads.fail(reason)
        self.on_halt(reason)
        self.received.clear()
        self.watchers.set(Leadership(self.watchers.current.term, 0, "", is_local=False))

    def _schedule_tick(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(self.options.timing.tick, self._tick)

    def _tick(self) -> None:
        """One tick, however late: the time that this process did not run was not spent listening to a leader."""
        core, timing = self.running, self.options.timing
        if core is None:
            return
        self._schedule_tick()
        core.tick()
        now = asyncio.get_running_loop().time()
        if core.leader:
            self._leader_since = now
        if now - self._saved_since > timing.commit_saved:
            core.want_commit_saved()
            self._saved_since = now
        leaderless = self._leaderless()
        self.proposals.expire(now, leaderless=leaderless)
        self.reads.expire(now, leaderless=leaderless, retry=timing.read_retry)
        self.wake()

    def _leaderless(self) -> bool:
        return asyncio.get_running_loop().time() - self._leader_since > self.options.timing.leaderless

    def _pump(self) -> None:
        self._pumping = False
        core = self.running
        if core is None:
            return
        try:
            self._feed(core)
            self._carry_out(core)
        except CannotApply as error:
            self._cannot_apply(error)
            return
        except Exception as error:
            _log.exception("this member stops: its state machine or a rule of Raft failed")
            self.halt(f"this member stopped after an internal error: {error}", lasting=True)
            return
        self._follow_members(core)
        self._show_leadership(core)
        if self.running is not None:
            self.on_pump()

    def _feed(self, core: Core) -> None:
        """Give the core, or the leader, what has come in since."""
        if self.proposals.unsent and core.leader:
            self._propose(core)
        if self.reads.new and core.leader and (context := self.reads.ask(asyncio.get_running_loop().time())):
            core.read(context)

    def _propose(self, core: Core) -> None:
        batch = self.proposals.send(core.term, BATCH_BYTES)
        commands = [(p.key, p.command) for p in batch]
        if core.is_leader:
            try:
                core.propose(commands)
                taken = True
            except Dropped:
                taken = False
        else:
            taken = not self.transport.send([Forward(core.leader, self.id, core.term, commands)])
        if not taken:  # tried again with the next event
            self.proposals.refused([p.key for p in batch], core.term)
        elif self.proposals.unsent:
            self.wake()

    def _carry_out(self, core: Core) -> None:
        ready = core.ready()
        if ready.messages:
            self._send(core, ready.messages)
        if ready.write is not None:
            self._write(core, ready.write)
        if ready.restore is not None:
            self._restore(ready.restore)
        if ready.committed:
            self._apply(ready.committed)
            if core.state.log.applied < core.state.log.committed:
                self.wake()
        # Also when nothing was applied: one may have become due while another was written.
        if self._snapshots.due and self.applied.index == self._machine_index <= core.state.log.durable:
            self._snapshots.begin()
            meta, frozen = core.meta_at(self.applied.index), self._machine.snapshot()
            self.begin(self._snapshots.take(core, meta, frozen, lambda: self.running is core))
        for context, index in ready.reads:
            self.reads.answered(context, index)
        self.reads.applied(self.applied.index)

    def _send(self, core: Core, messages: list[Message]) -> None:
        for message in messages:
            if isinstance(message, InstallSnapshot):
                self.begin(self._send_snapshot(core, message))
        for member in self.transport.send([m for m in messages if not isinstance(m, InstallSnapshot)]):
            core.unreachable(member)

    def _write(self, core: Core, write: Write) -> None:
        mark = (write.snapshot.index, write.snapshot.term) if write.snapshot else None

        def done(_: object, error: BaseException | None) -> None:
            if self.running is not core:
                return
            if error is not None:
                self._on_disk_error(error)
                return
            self._saved_since = asyncio.get_running_loop().time()
            core.advance()
            self.wake()
            if self.storage.wal.wants_another and not self._preparing:
                self._preparing = True
                self.begin(self._prepare_segment())

        self.disk.submit(lambda: self.storage.save(write.state, write.entries, mark), done)

    async def _prepare_segment(self) -> None:
        with contextlib.suppress(OSError):  # the write that needs it will tell
            await asyncio.to_thread(self.storage.wal.prepare)
        self._preparing = False

    def _restore(self, meta: SnapshotMeta) -> None:
        data = self.received.pop(meta.index)
        self.received.clear()
        if meta.index > self._machine_index:
            self._machine.restore(meta.index, data)
            self._machine_index = meta.index
        self.proposals.skipped(meta.term)
        self.applied = SnapshotMeta(meta.index, meta.term)
        self._snapshots.policy.begun()
        self._snapshots.policy.written(len(data))

    def _apply(self, entries: list[Entry]) -> None:
        apply, sent, done = self._machine.apply, self.proposals.sent, self._machine_index
        term = self.applied.term
        for entry in entries:
            if entry.term != term:
                term = entry.term
                self.proposals.passed(term)
            if entry.kind == Kind.COMMAND and entry.index > done:
                try:
                    result = apply(entry.index, entry.data)
                except CannotApply:
                    self._machine_index = entry.index - 1
                    raise
                if sent and (proposal := sent.pop(entry.key, None)) is not None and not proposal.answer.done():
                    proposal.answer.set_result(result)
            elif entry.kind > Kind.MEMBERS:
                raise CannotApply(f"entry {entry.index} of the log is of a kind ({entry.kind}) that is not known here")
        self.applied = SnapshotMeta(entries[-1].index, term)
        self._machine_index = max(done, entries[-1].index)
        self._snapshots.policy.applied(len(entries), entries_size(entries))

    async def _send_snapshot(self, core: Core, message: InstallSnapshot) -> None:
        arrived = await self.transport.send_snapshot(message)
        if self.running is core:
            core.snapshot_sent(message.to, arrived=arrived)
            self.wake()

    def _follow_members(self, core: Core) -> None:
        contacts = self.transport.contacts
        if not contacts.follow(core.state.configurations, self.applied.index, core.leader):
            return
        if contacts.is_removed(self.id):
            self.halt(REMOVED)
            return
        self.transport.follow_contacts()

    def _show_leadership(self, core: Core) -> None:
        if self.running is None:
            return
        leader = core.leader
        local = core.is_leader and self.applied.term == core.term
        known = self._address if leader == self.id else self.transport.contacts.address(leader)
        self.watchers.set(Leadership(core.term, leader, (leader and known) or "", is_local=local))

    def _cannot_apply(self, error: CannotApply) -> None:
        """Going on would give this member another state than the others have at the same index."""
        self.halt(f"this manager takes no part any more: {error}", lasting=True)
        _log.error("this member stops", reason=self.reason)

    def _on_disk_error(self, error: BaseException) -> None:
        if passes(error) and self.on_passing_error is not None:
            self.halt(f"cannot write to {self.directory}: {why(error)}; this member waits until that has passed")
            _log.error("this member stops", reason=self.reason)
            self.begin(self.on_passing_error())
            return
        self.halt(
            f"cannot write to {self.directory}: {why(error)}. Look at the disk and the kernel's messages, then start "
            "essaimd again: this manager takes no part until then",
            lasting=True,
        )
        _log.error("this member stops", reason=self.reason)


def why(error: BaseException) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__


def passes(error: BaseException) -> bool:
    """A disk, a quota or a table of descriptors that is full gets room again by itself; after other failures what a
    write has left on the disk is only known once a restart has read it."""
    return isinstance(error, OSError) and error.errno in (
        errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE, errno.ENOMEM,
    )  # fmt: skip
