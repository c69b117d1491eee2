"""A member's durable state as one thing: the write-ahead log and the snapshots, recovered together.

Every record of the log holds the whole hard state and the entries written with it, so that a segment can be deleted
without looking for the newest term and vote. Entries with an index that is in the log already replace it and all
behind it (paper, figure 2: AppendEntries rule 3). A record with a `mark` says that a snapshot received from the
leader replaced the whole log; the snapshot itself is durable before the mark.

The file `end` says how far the log has come: written after each record, and never synced, so it may be behind after a
power cut and is never ahead. A log that ends before it has lost what was acknowledged: without it, a file that was
cut short looks like one whose last write was torn.

All methods block; the node calls them from one thread.
"""

import fcntl
import os
import struct
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
from crc32c import crc32c

from essaim.raft.core.entries import Entry, HardState, SnapshotMeta
from essaim.raft.interface import Unusable

from .codec import AS_IT_IS, PLAIN, Codec, Codecs
from .snapshots import Snapshots
from .wal import SEGMENT_BYTES, Corrupt, Record, Wal, preallocate


class LogRecord(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The payload of one record of the write-ahead log."""

    state: HardState
    entries: list[Entry]
    mark: tuple[int, int] | None = None  # index and term of the snapshot that replaced the log


_END = struct.Struct("<QQ")  # segment number, offset behind its last record; followed by their CRC
_CRC = struct.Struct("<I")
END_BYTES = 16 << 10  # reserved for it: a full disk refuses the log's own write, not this one
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(LogRecord).decode


@dataclass
class Recovered:
    """What was on disk. `entries` follow `snapshot.index` without a gap."""

    state: HardState = field(default_factory=HardState)
    snapshot: SnapshotMeta = field(default_factory=SnapshotMeta)
    data: bytes = b""
    entries: list[Entry] = field(default_factory=list)

    @property
    def empty(self) -> bool:
        return self.state == HardState() and not self.snapshot.index and not self.entries


class InUse(Unusable):
    """Another process has the directory; the message names it."""


class Storage:
    """The durable state in `directory`, made if it is not there. `open` first; one process at a time."""

    def __init__(self, directory: Path, *, segment_bytes: int = SEGMENT_BYTES, codecs: Codecs = PLAIN) -> None:
        self.directory = directory
        self.wal = Wal(directory, segment_bytes=segment_bytes)
        self.snapshots = Snapshots(directory, codecs.snapshots)
        self._codec = codecs.log
        self._last_index: dict[int, int] = {}  # segment number -> highest index of an entry in it
        self._mark: tuple[int, int] | None = None  # to be written with the next record
        self._lock = self._end = -1

    def open(self) -> Recovered:
        """Recover. Raises `Corrupt`, `InUse` or `OSError`; a torn last record is cut off."""
        self.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._lock = os.open(self.directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self.close()
            raise InUse(f"{self.directory} is in use by another process. Stop it, or use another directory.") from None
        self._last_index, self._mark = {}, None
        self.wal.open()
        if not self.wal.segments and self.snapshots.paths():
            raise Corrupt(self.directory, 0, "there are snapshots and no log: its files (*.wal) are missing")
        replay = Replay(self._codec)
        for record in self.wal.records():
            self._note(record.path, replay.take(record))
        recovered = self._with_snapshot(replay)
        if replay.state.commit > (top := recovered.snapshot.index + len(recovered.entries)):
            raise Corrupt(self.directory, 0, f"the log ends at {top}, before its commit index {replay.state.commit}")
        self._require_end()
        self.snapshots.clean()
        self.snapshots.prune()
        return recovered

    def save(self, state: HardState, entries: list[Entry], mark: tuple[int, int] | None = None) -> None:
        """Make them durable, in one record. Raises `OSError`, and from then on always."""
        if self.wal.full:
            self.wal.cut()  # nothing is released before the record that now follows, which has the hard state
        segment = self.wal.append(self._codec.seal(_encode(LogRecord(state, entries, mark or self._mark))))
        self._mark = None
        where = _END.pack(segment.number, segment.end)
        os.pwrite(self._end, where + _CRC.pack(crc32c(where)), 0)
        if entries:
            self._last_index[segment.number] = max(self._last_index.get(segment.number, 0), entries[-1].index)

    def save_snapshot(self, meta: SnapshotMeta, data: bytes) -> None:
        """Make a snapshot durable, then delete the log that the oldest kept one makes superfluous."""
        self.snapshots.write(meta, data)
        self.compact()

    def compact(self) -> None:
        """Delete old snapshots, and log segments that end before the oldest of the kept ones."""
        self.snapshots.prune()
        paths = self.snapshots.paths()
        if not paths:
            return
        upto = self.snapshots.index_of(paths[-1])
        for segment in self.wal.segments[:-1]:
            if self._last_index.get(segment.number, 0) > upto:
                break
            self.wal.release(segment.number + 1)
            self._last_index.pop(segment.number, None)

    def close(self) -> None:
        self.wal.close()
        for fd in (self._lock, self._end):
            if fd >= 0:
                os.close(fd)
        self._lock = self._end = -1

    def _require_end(self) -> None:
        """Raises `Corrupt` when the log ends earlier than it once did. What cannot be read there proves nothing."""
        path = self.directory / "end"
        self._end = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        preallocate(self._end, END_BYTES)
        raw = os.pread(self._end, _END.size + _CRC.size, 0)
        if len(raw) < _END.size + _CRC.size or _CRC.unpack_from(raw, _END.size)[0] != crc32c(raw[: _END.size]):
            return
        last = self.wal.segments[-1] if self.wal.segments else None
        once = _END.unpack_from(raw)
        if (last.number, last.end) < once if last else True:
            name = f"{once[0]:016x}.wal"
            raise Corrupt(
                self.directory / name,
                last.end if last else 0,
                f"the log ends before offset {once[1]} of {name}, which it had reached (if this is a backup of a "
                f"running manager, remove {path} and start again)",
            )

    def _note(self, path: Path, last_index: int) -> None:
        number = int(path.stem, 16)
        self._last_index[number] = max(self._last_index.get(number, 0), last_index)

    def _with_snapshot(self, replay: "Replay") -> Recovered:
        """The newest intact snapshot that the log continues from."""
        damage: Corrupt | None = None
        for path in self.snapshots.paths():
            try:
                meta, data = self.snapshots.read(path)
            except Corrupt as error:
                damage = damage or error
                continue
            if replay.base is not None and meta.index < replay.base:
                break
            entries = replay.after(meta)
            if entries is None:  # the crash came between the snapshot and its mark
                self._mark = (meta.index, meta.term)
            return Recovered(replay.state, meta, data, entries or [])
        if damage is not None:
            raise damage
        if replay.base:
            raise Corrupt(self.directory, 0, f"the log begins after index {replay.base} and no snapshot reaches it")
        return Recovered(replay.state, entries=replay.entries)


class Replay:
    """Puts the log together from its records. `base` is the index before the first entry, None with no entry."""

    def __init__(self, codec: Codec = AS_IT_IS) -> None:
        self._codec = codec
        self.state = HardState()
        self.base: int | None = None
        self.entries: list[Entry] = []

    def take(self, found: Record) -> int:
        """Add one record; the highest index of an entry in it."""
        try:
            record = _decode(self._codec.open(found.payload))
        except ValueError as error:  # msgspec's errors are ValueErrors
            raise Corrupt(found.path, found.offset, f"a record cannot be decoded ({error})") from None
        self.state = record.state
        if record.mark is not None:
            self.base, self.entries = record.mark[0], []
        if not record.entries:
            return 0
        first = record.entries[0].index
        if self.base is None:
            self.base = first - 1
        keep = first - 1 - self.base
        if not 0 <= keep <= len(self.entries):
            top = self.base + len(self.entries)
            raise Corrupt(found.path, found.offset, f"entry {first} does not follow {top}")
        del self.entries[keep:]
        self.entries.extend(record.entries)
        return record.entries[-1].index

    def after(self, meta: SnapshotMeta) -> list[Entry] | None:
        """The entries behind a snapshot; None if the log does not contain its last one: then the mark is missing."""
        if self.base is None or meta.index == self.base:
            return self.entries
        place = meta.index - self.base
        if place > len(self.entries) or self.entries[place - 1].term != meta.term:
            return None
        return self.entries[place:]
