"""The newest route table on disk: the whole, and beside it the changes since, appended as they come.

- The changes are folded in when they have grown larger than the whole: a change costs what it is, not what the table
  is.
- A file that ends in the middle (power was lost) counts up to there; changes older than the whole are skipped. The
  gateway serves by an older table rather than by none, and the next session brings the newest.
"""

import struct
import threading
from pathlib import Path

import msgspec

from essaim.cluster.route_delta import RouteDelta, WrongBase, apply_delta
from essaim.cluster.routes import RouteTable

LENGTH = struct.Struct(">I")
SMALL = 64 << 10


class RouteFile:
    """Blocks: to be called from a thread. `save` raises OSError."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._changes = path.with_suffix(".changes")
        self._size = 0
        self._room = 0
        # What the files hold; unknown after a failure to write.
        self._version: int | None = None
        # A save whose caller was cancelled goes on beside the next one.
        self._lock = threading.Lock()

    def load(self) -> RouteTable | None:
        """None where there is none, or it cannot be read."""
        try:
            table = msgspec.msgpack.decode(self._path.read_bytes(), type=RouteTable)
        except (OSError, msgspec.DecodeError):
            return None
        try:
            data = self._changes.read_bytes()
        except OSError:
            return table
        for change in _records(data):
            if change.version > table.version:
                try:
                    table = apply_delta(table, change)
                except WrongBase:
                    break
        return table

    def save(self, table: RouteTable, changes: list[RouteDelta]) -> None:
        """Keep the table, which the changes made out of some earlier one, if there are any."""
        with self._lock:
            self._save(table, changes)

    def _save(self, table: RouteTable, changes: list[RouteDelta]) -> None:
        encoded = b"".join(_framed(change) for change in changes)
        follows = bool(changes) and changes[0].base == self._version and self._size + len(encoded) <= self._room
        self._version = None
        if follows:
            with self._changes.open("ab") as file:
                file.write(encoded)
            self._size += len(encoded)
        else:
            self._replace(table)
        self._version = table.version

    def _replace(self, table: RouteTable) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        data = msgspec.msgpack.encode(table)
        fresh = self._path.with_suffix(".new")
        fresh.write_bytes(data)
        fresh.replace(self._path)
        self._changes.unlink(missing_ok=True)
        self._size, self._room = 0, max(len(data), SMALL)


def _framed(change: RouteDelta) -> bytes:
    data = msgspec.msgpack.encode(change)
    return LENGTH.pack(len(data)) + data


def _records(data: bytes) -> list[RouteDelta]:
    found: list[RouteDelta] = []
    start = 0
    while start + LENGTH.size <= len(data):
        (length,) = LENGTH.unpack_from(data, start)
        start += LENGTH.size
        try:
            found.append(msgspec.msgpack.decode(data[start : start + length], type=RouteDelta))
        except msgspec.DecodeError:
            break
        start += length
    return found
