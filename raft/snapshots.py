"""Snapshots on disk: one file each, complete under its name or not there at all.

A file is written under a temporary name, synced, renamed, and the directory synced. The newest two are kept, so that
one that turns out damaged can be replaced by its predecessor and the log behind it. Format: magic, length of the
encoded `SnapshotMeta`, the meta, its CRC32C and that of the data, the data.

All functions block; the node calls them from a thread.
"""

import io
import os
import struct
from pathlib import Path

import msgspec
from crc32c import crc32c

from .entries import SnapshotMeta
from .wal import Corrupt, sync_directory

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


def parse_snapshot_name(name: str) -> tuple[int, int]:
    """Index and term of the snapshot in a file of that name; raises `ValueError`."""
    index, _, term = name.removesuffix(".snap").partition("-")
    return int(index, 16), int(term, 16)


class Snapshots:
    """The snapshots in `directory`, which must exist."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

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
        temporary = path.with_name(path.name + ".tmp")
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
        for path in [*self.directory.glob("*.snap.tmp"), *self.directory.glob("*.part")]:
            path.unlink()

    def read(self, path: Path) -> tuple[SnapshotMeta, bytes]:
        """Raises `Corrupt` or `OSError`."""
        raw = path.read_bytes()
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
    """A snapshot that arrives in chunks: `write` them, `finish`, and `close` in any case. One thread at a time."""

    def __init__(self, snapshots: Snapshots, index: int) -> None:
        self._snapshots = snapshots
        self._part = snapshots.directory / f"{index:016x}-{os.urandom(4).hex()}.part"
        self._file = self._part.open("wb")

    def write(self, chunk: bytes) -> None:
        self._file.write(chunk)

    def finish(self) -> tuple[SnapshotMeta, Path]:
        """Check it, make it durable and give it its name. Raises `ValueError` if it is damaged, or `OSError`."""
        self._file.flush()
        os.fsync(self._file.fileno())
        try:
            meta, _ = self._snapshots.read(self._part)
        except Corrupt as error:
            raise ValueError(str(error)) from None
        path = self._snapshots.path(meta)
        self._part.rename(path)
        sync_directory(self._snapshots.directory)
        return meta, path

    def close(self) -> None:
        self._file.close()
        self._part.unlink(missing_ok=True)
