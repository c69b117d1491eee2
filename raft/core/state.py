"""The state of a Raft member that all handlers share, and the few transitions that several of them make.

Pure: chance is a function in `Settings`, time is counted in ticks. A configuration is in force from the moment it is
appended (dissertation 4.1); `configurations` remembers the earlier ones as long as a truncation may need them back.

Every message leaves through `send`. One that depends on something not yet durable (a term, a vote, entries) waits
until the write that contains it is done: `send` decides that by itself, from what has been handed out for writing.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum

from .entries import Entry, HardState, Kind, SnapshotMeta
from .log_view import LogView
from .members import Configuration, decode_configuration
from .messages import Append, Heartbeat, InstallSnapshot, Message
from .progress import Progress


class Role(Enum):
    FOLLOWER = "follower"
    PRE_CANDIDATE = "pre-candidate"
    CANDIDATE = "candidate"
    LEADER = "leader"


@dataclass(frozen=True)
class Settings:
    """`random(n)` gives one of 0..n-1. Durations are in ticks."""

    id: int
    random: Callable[[int], int]
    election_ticks: int = 10  # a follower waits this long, and up to as much again by chance
    heartbeat_ticks: int = 2
    max_append_bytes: int = 512 << 10  # of entries in one message
    max_write_bytes: int = 2 << 20  # of entries in one write: a record stays far below its limit
    max_apply_bytes: int = 1 << 20  # handed out for applying at once: the node stays responsive
    max_inflight: int = 64  # unanswered messages to one peer
    max_uncommitted_bytes: int = 64 << 20  # beyond, a leader refuses proposals
    pre_vote: bool = True
    check_quorum: bool = True


@dataclass
class PendingRead:
    """A read that waits for a quorum to confirm the leader in `round`, then for `index` to be applied."""

    member: int
    context: int
    index: int
    round: int


@dataclass
class Write:
    """What has to become durable together: first the snapshot's mark, then the state and the entries."""

    state: HardState
    entries: list[Entry]
    snapshot: SnapshotMeta | None


@dataclass
class State:
    settings: Settings
    log: LogView
    configurations: list[tuple[int, Configuration]]  # by index of the log, ascending, never empty
    snapshot: SnapshotMeta  # the newest durable one, which a leader sends
    term: int = 0
    vote: int = 0
    role: Role = Role.FOLLOWER
    leader: int = 0
    votes: dict[int, bool] = field(default_factory=dict)
    progress: dict[int, Progress] = field(default_factory=dict)  # a leader's view of all members, itself included
    elapsed: int = 0  # ticks since the last sign of a leader; for a leader since the last check of the quorum
    heartbeat_elapsed: int = 0
    timeout: int = 0  # ticks; drawn anew in each term
    transferee: int = 0
    uncommitted: int = 0  # bytes of proposals
    round: int = 0  # the newest read round begun
    reads: list[PendingRead] = field(default_factory=list)  # waiting for a quorum, in order of their rounds
    early_reads: list[tuple[int, int]] = field(default_factory=list)  # (member, context): nothing committed yet
    read_done: list[tuple[int, int]] = field(default_factory=list)  # (context, index) for the node; index 0: again
    # What is on its way to the disk, and what waits for it.
    saved: HardState = field(default_factory=HardState)  # as of the newest write handed out
    restore: SnapshotMeta | None = None  # received, not yet handed out
    write: Write | None = None  # handed out, not yet durable
    ready: list[Message] = field(default_factory=list)  # may leave now
    after_write: list[Message] = field(default_factory=list)  # once `write` is durable
    after_next: list[Message] = field(default_factory=list)  # once the write after it is durable

    @property
    def id(self) -> int:
        return self.settings.id

    @property
    def members(self) -> Configuration:
        return self.configurations[-1][1]

    @property
    def unsaved(self) -> bool:
        """Whether anything that messages may depend on has not even been handed out for writing."""
        return (
            self.log.last > self.log.taken
            or self.restore is not None
            or (self.term, self.vote) != (self.saved.term, self.saved.vote)
        )

    @property
    def promotable(self) -> bool:
        return self.id in self.members.deciders and self.restore is None

    def send(self, message: Message) -> None:
        if self.unsaved and not _independent(message):
            self.after_next.append(message)
        elif self.write is not None and not _independent(message):
            self.after_write.append(message)
        else:
            self.ready.append(message)

    def reset(self, term: int) -> None:
        """What every change of role or term begins with."""
        if term != self.term:
            self.term, self.vote = term, 0
        self.leader = 0
        self.votes = {}
        self.elapsed = self.heartbeat_elapsed = 0
        self.timeout = self.settings.election_ticks + self.settings.random(self.settings.election_ticks)
        self.transferee = 0
        self.uncommitted = 0
        self.read_done += [(r.context, 0) for r in self.reads if r.member == self.id]
        self.read_done += [(context, 0) for member, context in self.early_reads if member == self.id]
        self.reads, self.early_reads = [], []
        self.progress = {}

    def become_follower(self, term: int, leader: int) -> None:
        self.reset(term)
        self.role, self.leader = Role.FOLLOWER, leader

    def append(self, entries: list[Entry]) -> None:
        """Add a leader's own entries; a configuration among them is in force at once."""
        self.log.append(entries)
        self.note_configurations(entries)

    def note_configurations(self, entries: list[Entry]) -> None:
        self.configurations += [(e.index, decode_configuration(e.data)) for e in entries if e.kind == Kind.MEMBERS]

    def forget_configurations(self, dropped_from: int) -> None:
        """The log was cut before `dropped_from`: the configuration before is in force again (dissertation 4.1)."""
        while len(self.configurations) > 1 and self.configurations[-1][0] >= dropped_from:
            self.configurations.pop()

    def configuration_at(self, index: int) -> Configuration:
        """The one in force at an index that is not compacted away."""
        return next(c for i, c in reversed(self.configurations) if i <= index)


def _independent(message: Message) -> bool:
    """A leader's messages need nothing of its own disk (dissertation 10.2.1): its term was durable before it led."""
    return isinstance(message, (Append, Heartbeat, InstallSnapshot))
