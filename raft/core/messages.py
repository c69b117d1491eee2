"""What members say to each other. Field names are the paper's where it has one.

Pure: plain structs, encoded as MessagePack arrays with the tag first. `term` is the sender's term, except in the
messages of a pre-vote, which speak of the term that the sender would begin (dissertation 9.6).
"""

import msgspec

from .entries import Entry, SnapshotMeta


class Message(msgspec.Struct, frozen=True, array_like=True, tag_field="t"):
    to: int
    sender: int
    term: int


class VoteRequest(Message, frozen=True, tag=1):
    last_index: int
    last_term: int
    pre: bool = False
    transfer: bool = False  # the leader asked for it: a lease does not refuse it (dissertation 3.10)


class VoteReply(Message, frozen=True, tag=2):
    granted: bool
    pre: bool = False


class Append(Message, frozen=True, tag=3):
    """AppendEntries."""

    prev_index: int
    prev_term: int
    commit: int
    entries: list[Entry]


class AppendReply(Message, frozen=True, tag=4):
    """`index`: everything up to it matches; or, if `rejected`, the `prev_index` that did not."""

    index: int
    rejected: bool = False
    hint_index: int = 0  # where the logs may agree, see LogView.conflict_hint
    hint_term: int = 0


class Heartbeat(Message, frozen=True, tag=5):
    """Keeps followers, confirms reads and tells how far a peer may apply. `commit` is never beyond the peer's log."""

    commit: int
    round: int
    answer: bool = True  # False: only the commit index is news


class HeartbeatReply(Message, frozen=True, tag=6):
    round: int


class InstallSnapshot(Message, frozen=True, tag=7):
    """The sender's node sends the data first; the receiver's core sees this once it is on the receiver's disk."""

    meta: SnapshotMeta


class TimeoutNow(Message, frozen=True, tag=8):
    """Begin an election at once (dissertation 3.10)."""


class ReadRequest(Message, frozen=True, tag=9):
    """A follower asks for a read index (dissertation 6.4)."""

    context: int


class ReadReply(Message, frozen=True, tag=10):
    """`index` 0: this member does not lead, ask again."""

    context: int
    index: int


AnyMessage = (
    VoteRequest
    | VoteReply
    | Append
    | AppendReply
    | Heartbeat
    | HeartbeatReply
    | InstallSnapshot
    | TimeoutNow
    | ReadRequest
    | ReadReply
)
