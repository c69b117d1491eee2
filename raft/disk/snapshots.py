"""Snapshots on disk: one file each, complete under its name or not there at all.

A file is written under a temporary name, synced, renamed, and the directory synced. The newest two are kept, so that
one that turns out damaged can be replaced by its predecessor and the log behind it. Format: magic, length of the
encoded `SnapshotMeta`, the meta, its CRC32C and that of the data, the data as the codec gives it.

A snapshot on its way to another member has the same format, with its data in plain: each member has its own codec.

All functions block; the node calls them from a thread.
"""

import io
import os
import struct
from pathlib import Path

import msgspec
from crc32c import crc32c

from essaim.raft.core.entries import SnapshotMeta
from essaim.raft.interface import Unusable

from .codec import AS_IT_IS, Codec
from .wal import Corrupt, Newer, later_format, sync_directory

MAGIC = b"ESSAIMS1"
KEEP = 2
SYNC_BYTES = 1 << 20  # written at once: the log's own syncs wait behind no more than this
_HEAD = struct.Struct("<8sI")
_CRCS = struct.Struct("<II")
_decode_meta = msgspec.msgpack.Decoder(SnapshotMeta).decode


def snapshot_head(meta: SnapshotMeta, data_crc: int) -> bytes:
    """What precedes the data, in the file and when a snapshot is sent."""
    encoded = msgspec.msgpack.encode(meta)
    return _HEAD.pack(MAGIC, len(encoded)) + encoded + _CRCS.pack(crc32c(encoded), data_crc)


def plain_snapshot(meta: SnapshotMeta, data: bytes) -> bytes:
    """As it is sent to another member."""
    return snapshot_head(meta, crc32c(data)) + data


def parse_snapshot_name(name: str) -> tuple[int, int]:
    """Index and term of the snapshot in a file of that name; raises `ValueError`."""
    index, _, term = name.removesuffix(".snap").partition("-")
    return int(index, 16), int(term, 16)


class Snapshots:
    """The snapshots in `directory`, which must exist."""

    def __init__(self, directory: Path, codec: Codec = AS_IT_IS) -> None:
        self.directory = directory
        self._codec = codec

    def path(self, meta: SnapshotMeta) -> Path:
        return self.directory / f"{meta.index:016x}-{meta.term:016x}.snap"

    def paths(self) -> list[Path]:
        """Newest first."""
        return sorted(self.directory.glob("*.snap"), reverse=True)

    def index_of(self, path: Path) -> int:
        return parse_snapshot_name(path.name)[0]

    def write(self, meta: SnapshotMeta, data: bytes) -> None:
        """Make one durable. Raises `OSError`; then nothing under its name exists."""
        path = self.path(meta)
        # A name of its own for each writer: two may bring the same snapshot at a time.
        temporary = path.with_name(f"{path.stem}.{os.urandom(4).hex()}.snap.tmp")
        data = self._codec.seal(data)
        try:
            with temporary.open("wb", buffering=0) as file, memoryview(data) as view:
                _write_all(file, snapshot_head(meta, crc32c(data)))
                for start in range(0, len(data), SYNC_BYTES):
                    _write_all(file, view[start : start + SYNC_BYTES])
                    os.fdatasync(file.fileno())
                os.fsync(file.fileno())
        except OSError:
            temporary.unlink(missing_ok=True)
            raise
        temporary.rename(path)
        sync_directory(self.directory)

    def prune(self) -> None:
        """Delete what is older than the newest `KEEP`."""
        for path in self.paths()[KEEP:]:
            path.unlink(missing_ok=True)

    def clean(self) -> None:
        """Delete the unfinished writes of a former run."""
        for path in self.directory.glob("*.snap.tmp"):
            path.unlink()

    def read(self, path: Path) -> tuple[SnapshotMeta, bytes]:
        """Raises `Corrupt` or `OSError`."""
        meta, data = parse_snapshot(path.read_bytes(), path)
        try:
            return meta, self._codec.open(data)
        except ValueError as error:
            raise Corrupt(path, 0, f"the snapshot's data cannot be decoded ({error})") from None


def parse_snapshot(raw: bytes, path: Path) -> tuple[SnapshotMeta, bytes]:
    """Meta and data, checked. Raises `Corrupt`, which names the path."""
    if later_format(raw[:8], MAGIC):
        raise Newer(path, raw[:8])
    if len(raw) < _HEAD.size or raw[:8] != MAGIC:
        raise Corrupt(path, 0, "not a snapshot")
    start = _HEAD.size
    data_start = start + _HEAD.unpack_from(raw)[1] + _CRCS.size
    if data_start > len(raw):
        raise Corrupt(path, start, "the snapshot is cut short")
    encoded = raw[start : data_start - _CRCS.size]
    meta_crc, data_crc = _CRCS.unpack_from(raw, data_start - _CRCS.size)
    data = raw[data_start:]
    if crc32c(encoded) != meta_crc:
        raise Corrupt(path, start, "the snapshot's header does not match its checksum")
    if crc32c(data) != data_crc:
        raise Corrupt(path, data_start, "the snapshot's data does not match its checksum")
    return _decode_meta(encoded), data


def _write_all(file: io.RawIOBase, data: bytes | memoryview) -> None:
    while data:
        data = data[file.write(data) or 0 :]


class Incoming:
    """A snapshot that arrives in chunks: `write` them, then `finish`.

    Gathered in memory, where it is needed in any case, so that it reaches the disk only through the codec.
    """

    def __init__(self, snapshots: Snapshots, index: int) -> None:
        self._snapshots, self._index = snapshots, index
        self._chunks: list[bytes] = []

    def write(self, chunk: bytes) -> None:
        self._chunks.append(chunk)

    def finish(self) -> tuple[SnapshotMeta, Path]:
        """Check it, make it durable and give it its name. Raises `ValueError` if it is damaged, or `OSError`."""
        raw = b"".join(self._chunks)
        self._chunks.clear()
        try:
            meta, data = parse_snapshot(raw, self._snapshots.directory / f"{self._index:016x} as received")
        except Unusable as error:
            raise ValueError(str(error)) from None
        self._snapshots.write(meta, data)
        return meta, self._snapshots.path(meta)
