"""What a member may be told beside its identity."""

from collections.abc import Callable
from dataclasses import dataclass, field

from essaim.raft.disk.codec import PLAIN, Codecs
from essaim.raft.disk.wal import SEGMENT_BYTES
from essaim.raft.transport.streams import Access

from .policy import SnapshotPolicy


@dataclass(frozen=True)
class Timing:
    """Seconds; docs/raft.md has the measurements behind the defaults."""

    tick: float = 0.05
    election_ticks: int = 10  # 0.5 s, plus up to as much again by chance
    heartbeat_ticks: int = 2
    leaderless: float = 5.0  # without a leader for so long, reads and writes fail at once
    read_retry: float = 0.5
    commit_saved: float = 2.0  # at the latest so long after the last write the commit index is written, too
    disk_retry: float = 2.0  # between looks at a disk that was full


@dataclass(frozen=True)
class Options:
    timing: Timing = field(default_factory=Timing)
    policy: Callable[[], SnapshotPolicy] = SnapshotPolicy
    access: Access = field(default_factory=Access)
    codecs: Codecs = PLAIN
    keep_entries: int = 5_000  # before a snapshot, for followers that are a little late,
    keep_bytes: int = 4 << 20  # and no more of them than have so many bytes
    segment_bytes: int = SEGMENT_BYTES
