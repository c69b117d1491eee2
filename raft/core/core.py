"""Raft without I/O: feed it ticks, messages and proposals, and carry out what `ready` says.

Pure: no clock, no chance but `Settings.random`, no I/O. Rules are cited from the paper ("In Search of an
Understandable Consensus Algorithm", extended version) and from Ongaro's dissertation ("Consensus: Bridging Theory and
Practice"). Not used of it: leader leases for reads (6.4.1), because they trust clocks; sessions (6.3), because
commands carry their own guards.

The loop of a node is: `tick`, `step`, `propose`, ...; then `ready`; then, in this order,
1. send `messages`, at any time;
2. make `write` durable, meanwhile going on with everything else; then call `advance`; `ready` gives no further
   write before that;
3. restore `restore`, then apply `committed` in order, at any time.
"""

import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from . import election, heartbeats, quorum, reads, replication
from .entries import Entry, HardState, Kind, SnapshotMeta
from .log_view import LogView
from .members import Change, Configuration, RefusedChange, change, decode_configuration, encode_configuration
from .messages import (
    Append,
    AppendReply,
    Heartbeat,
    HeartbeatReply,
    InstallSnapshot,
    Message,
    ReadReply,
    ReadRequest,
    TimeoutNow,
    VoteReply,
    VoteRequest,
)
from .progress import Progress
from .state import Role, Settings, State, Write


class Dropped(Exception):
    """A proposal was not taken, and never will take effect; the message says why."""


@dataclass
class Ready:
    """What the node has to do now; see the module's docstring for the order."""

    messages: list[Message] = field(default_factory=list)  # may leave at once
    write: Write | None = None  # to make durable, then `advance`
    restore: SnapshotMeta | None = None  # replace the state machine by this snapshot, before `committed`
    committed: list[Entry] = field(default_factory=list)  # apply, in order
    reads: list[tuple[int, int]] = field(default_factory=list)  # (context, index to wait for; 0: ask again)


_HANDLERS: dict[type[Message], Callable[[State, Any], None]] = {
    VoteRequest: election.on_vote_request,
    VoteReply: election.on_vote_reply,
    TimeoutNow: election.on_timeout_now,
    Append: replication.on_append,
    AppendReply: replication.on_append_reply,
    Heartbeat: replication.on_heartbeat,
    HeartbeatReply: replication.on_heartbeat_reply,
    InstallSnapshot: replication.on_install_snapshot,
    ReadRequest: reads.on_read_request,
    ReadReply: reads.on_read_reply,
}
_FROM_LEADER = (Append, Heartbeat, InstallSnapshot)


class Core:
    """One member. Begin with what was on disk; `entries` follow `snapshot.index`."""

    def __init__(
        self,
        settings: Settings,
        hard: HardState | None = None,
        snapshot: SnapshotMeta | None = None,
        entries: list[Entry] | None = None,
    ) -> None:
        hard, snapshot = hard or HardState(), snapshot or SnapshotMeta()
        log = LogView(snapshot.index, snapshot.term, entries)
        log.committed = max(log.base, min(hard.commit, log.last))
        first = (snapshot.index, decode_configuration(snapshot.members))
        self.state = State(settings, log, [first], snapshot, term=hard.term, vote=hard.vote, saved=hard)
        self.state.note_configurations(entries or [])
        self.state.reset(hard.term)

    # What happens to a member.

    def tick(self) -> None:
        """A unit of time went by."""
        state = self.state
        state.elapsed += 1
        if state.role is Role.LEADER:
            _tick_leader(state)
        elif state.promotable:
            if state.elapsed >= state.timeout:
                election.campaign(state, pre=state.settings.pre_vote)
        elif state.leader and state.elapsed >= 2 * state.settings.election_ticks:
            state.leader = 0

    def step(self, message: Message) -> None:
        """A message arrived."""
        state = self.state
        if message.term > state.term:
            if not _meet_newer_term(state, message):
                return
        elif message.term < state.term:
            _meet_older_term(state, message)
            return
        elif isinstance(message, _FROM_LEADER):
            _meet_leader(state, message)
        if isinstance(message, _FROM_LEADER):
            state.elapsed = 0
        _HANDLERS[type(message)](state, message)

    def propose(self, commands: Iterable[tuple[int, bytes]]) -> int:
        """Add (key, command)s to the log; the term they belong to. Raises `Dropped`: then none was taken."""
        state = self.state
        _require_open(state)
        if state.uncommitted >= state.settings.max_uncommitted_bytes:
            raise Dropped("too many writes are waiting for a quorum")
        first, term = state.log.last + 1, state.term
        replication.append(
            state, [Entry(i, term, Kind.COMMAND, key, data) for i, (key, data) in enumerate(commands, first)]
        )
        return term

    def change_members(self, changes: Iterable[Change], key: int = 0) -> int:
        """Propose a membership change; the index of its entry. Raises `Dropped` or `RefusedChange`."""
        state = self.state
        _require_open(state)
        if state.configurations[-1][0] > state.log.committed or state.members.joint:
            raise RefusedChange("another membership change is under way")
        if state.log.term_at(state.log.committed) != state.term:
            # Without this rule two leaders can each change by one voter and disagree (dissertation, erratum to 4.1).
            raise Dropped("the leader is new and has not committed anything yet")
        new = change(state.members, changes)
        index = state.log.last + 1
        replication.append(state, [Entry(index, state.term, Kind.MEMBERS, key, encode_configuration(new))])
        return index

    def transfer(self, target: int) -> None:
        """Let `target` lead (dissertation 3.10). No proposals are taken until it does or a time-out has passed."""
        state = self.state
        _require_open(state)
        if target not in state.members.voters:
            raise RefusedChange(f"{target:x} is not a voter")
        if target != state.id:
            state.transferee, state.elapsed = target, 0
            replication.hand_over(state, target)

    def read(self, context: int) -> None:
        """Ask for a read index; `Ready.reads` answers with the context."""
        reads.request(self.state, context)

    def campaign(self) -> None:
        """Begin an election without waiting (the first member of a new cluster)."""
        election.campaign(self.state, pre=self.state.settings.pre_vote)

    def leader_lost(self) -> None:
        """The node saw the connection to the leader break and nobody answer there."""
        election.leader_lost(self.state)

    def unreachable(self, member: int) -> None:
        """Messages to a peer were lost."""
        if self.state.role is Role.LEADER:
            replication.unreachable(self.state, member)

    def snapshot_sent(self, member: int, *, arrived: bool) -> None:
        """The node has sent a snapshot, or failed to."""
        if self.state.role is Role.LEADER:
            replication.snapshot_sent(self.state, member, arrived=arrived)

    def snapshot_saved(self, meta: SnapshotMeta, *, keep: int, keep_bytes: int = sys.maxsize) -> None:
        """A snapshot of the own state machine is durable: forget the log before it, except the last `keep` entries, or
        as many of them as have about `keep_bytes`."""
        state = self.state
        if meta.index <= state.snapshot.index:
            return
        state.snapshot = meta
        first = state.log.first_of(meta.index, count=keep, max_bytes=keep_bytes)
        state.log.compact(min(first - 1, state.log.durable))
        while len(state.configurations) > 1 and state.configurations[1][0] <= state.log.base:
            state.configurations.pop(0)

    def meta_at(self, index: int) -> SnapshotMeta:
        """What a snapshot of the state machine at `index`, which is applied, has to be saved with."""
        term = self.state.log.term_at(index)
        assert term is not None
        return SnapshotMeta(index, term, encode_configuration(self.state.configuration_at(index)))

    # What it wants done.

    def ready(self) -> Ready:
        """Everything to be done now; asking again gives only what is new."""
        state = self.state
        while True:  # messages to oneself are steps, which make more messages
            if state.role is Role.LEADER:
                replication.flush(state)
            own = [m for m in state.ready if m.to == state.id]
            if not own:
                break
            state.ready = [m for m in state.ready if m.to != state.id]
            for message in own:
                self.step(message)
        ready = Ready(write=_take_write(state), restore=None)
        if ready.write is not None:
            ready.restore = ready.write.snapshot
        ready.messages, state.ready = state.ready, []
        ready.reads, state.read_done = state.read_done, []
        log = state.log
        if log.applied < log.committed and state.restore is None:
            ready.committed = log.slice(log.applied + 1, log.committed, state.settings.max_apply_bytes)
            log.applied = ready.committed[-1].index
        return ready

    def advance(self) -> None:
        """The write of the last `ready` that had one is durable."""
        state = self.state
        assert state.write is not None, "nothing was being written"
        state.write = None
        state.log.durable = state.log.taken
        state.ready += state.after_write
        state.after_write = []
        if state.role is Role.LEADER and state.progress[state.id].acknowledged(state.log.durable):
            replication.advance_commit(state)

    def want_commit_saved(self) -> None:
        """Let the next write carry the commit index even if nothing else needs one."""
        state = self.state
        if state.write is None and state.saved.commit < state.log.committed:
            state.saved = HardState(0, 0, 0)

    # What others may look at.

    @property
    def term(self) -> int:
        return self.state.term

    @property
    def leader(self) -> int:
        return self.state.leader

    @property
    def is_leader(self) -> bool:
        return self.state.role is Role.LEADER

    @property
    def members(self) -> Configuration:
        return self.state.members

    def progress(self, member: int) -> Progress | None:
        """A leader's view of a member."""
        return self.state.progress.get(member)


def _take_write(state: State) -> Write | None:
    if state.write is not None or not state.unsaved:
        return None
    log = state.log
    entries = log.slice(log.taken + 1, log.last, state.settings.max_write_bytes) if log.last > log.taken else []
    log.taken += len(entries)
    hard = HardState(state.term, state.vote, min(log.committed, log.taken))
    state.write = Write(hard, entries, state.restore)
    state.saved, state.restore = hard, None
    if log.taken == log.last:  # else what waits may depend on the rest
        state.after_write, state.after_next = state.after_next, []
    return state.write


def _require_open(state: State) -> None:
    if state.role is not Role.LEADER:
        raise Dropped("this member does not lead")
    if state.transferee:
        raise Dropped("leadership is being handed over")


def _tick_leader(state: State) -> None:
    state.heartbeat_elapsed += 1
    if state.elapsed >= state.settings.election_ticks:
        state.elapsed = 0
        state.transferee = 0
        if state.settings.check_quorum and not _has_quorum(state):
            state.become_follower(state.term, 0)
            return
    if state.heartbeat_elapsed >= state.settings.heartbeat_ticks:
        heartbeats.send(state)


def _has_quorum(state: State) -> bool:
    """Whether a majority was heard from in the last time-out (dissertation 6.2)."""
    heard = {member: progress.active or member == state.id for member, progress in state.progress.items()}
    for progress in state.progress.values():
        progress.silent = 0 if progress.active else progress.silent + 1
        progress.active = False
    return quorum.joint_tally(state.members.voters, state.members.outgoing, heard) is quorum.Vote.WON


def _meet_newer_term(state: State, message: Message) -> bool:
    """Whether the message is to be handled."""
    if isinstance(message, VoteRequest):
        if not message.transfer and election.in_lease(state):
            return False
        if message.pre:
            return True
    if isinstance(message, VoteReply) and message.pre and message.granted:
        return True
    state.become_follower(message.term, message.sender if isinstance(message, _FROM_LEADER) else 0)
    return True


def _meet_older_term(state: State, message: Message) -> None:
    """Tell a leader or candidate of the past that time went on; ignore all else."""
    if isinstance(message, _FROM_LEADER):
        state.send(AppendReply(message.sender, state.id, state.term, 0, rejected=True))
    elif isinstance(message, VoteRequest) and message.pre:
        state.send(VoteReply(message.sender, state.id, state.term, granted=False, pre=True))


def _meet_leader(state: State, message: Message) -> None:
    """A message of this term's leader: candidates give way (paper 5.2)."""
    if state.role is Role.LEADER:
        raise AssertionError(f"members {state.id:x} and {message.sender:x} both lead term {state.term}")
    if state.role is not Role.FOLLOWER:
        state.become_follower(state.term, message.sender)
    state.leader = message.sender
