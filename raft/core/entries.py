"""What the log is made of: entries, the durable state of a member, and what a snapshot stands for.

Pure: plain structs. They are encoded as MessagePack arrays, on disk (`wal`) and between members (`transport`).
"""

from enum import IntEnum

import msgspec


class Kind(IntEnum):
    """What an entry holds. Values are on disk: never renumber."""

    COMMAND = 0  # opaque bytes for the state machine
    BARRIER = 1  # empty; the first entry of a leader's term (dissertation 3.6.2 and 6.4)
    MEMBERS = 2  # an encoded `Configuration`; in force as soon as it is appended (dissertation 4.1)


class Entry(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One slot of the log. `index` counts from 1."""

    index: int
    term: int
    kind: int = 0
    key: int = 0  # names the proposal to the member that made it; 0 for entries of the protocol
    data: bytes = b""


class HardState(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What must be durable before any message that depends on it leaves (paper, figure 2: persistent state)."""

    term: int = 0
    vote: int = 0  # whom this member voted for in `term`; 0 for nobody
    commit: int = 0  # a hint, allowed to lag: entries up to here may be applied at once after a restart


class SnapshotMeta(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A snapshot replaces the log up to `index`, whose entry had `term`; `members` is the configuration there."""

    index: int = 0
    term: int = 0
    members: bytes = b""


def entries_size(entries: list[Entry]) -> int:
    """Approximate bytes of memory and disk that `entries` hold: their data and a fixed overhead each."""
    return sum(len(e.data) for e in entries) + 32 * len(entries)
