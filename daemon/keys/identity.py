"""Who this node is in which cluster: the file that survives a restart beside its keys and the log.

Written whole to a temporary name, fsynced and renamed, one writer after another. Without the file the daemon is idle,
outside any swarm. A node's identity that was erased is never written again: a save that was on its way when the node
left comes to nothing. A checksum tells damage from what was written: a digit that has changed would make this another
node. Whoever edits the file by hand takes the checksum out of it.
"""

import hashlib
import os
import threading
from pathlib import Path

import msgspec


class Identity(msgspec.Struct, frozen=True, omit_defaults=True):
    """`managers` are the last known addresses (host:port) of the managers. `raft_id` is set while a manager.

    `advertise` and `listen` are host:port of the cluster port; `data_ip` is where tasks' ports are reached. `runtime`:
    what runs this node's tasks, since it is in its cluster (docker, process, gateway; empty: written by a version that
    did not say). `leaving`: the node has begun to leave, and a daemon that finds this ends that.
    """

    node_id: str
    role: str
    cluster_id: str
    advertise: str
    listen: str
    data_ip: str
    managers: list[str] = []
    raft_id: int = 0
    runtime: str = ""
    leaving: bool = False


class StoredIdentity(Identity, frozen=True):
    """As in the file; files of older versions have no checksum."""

    checksum: str = ""


class BrokenIdentity(Exception):
    """What this node keeps on its disk cannot be used; the message says what is wrong where, and what to do."""


def checksum(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]


def require_intact(found: str, data: bytes) -> None:
    """Raises ValueError when `data` is not what `found` was the checksum of."""
    if found and found != checksum(data):
        raise ValueError("its checksum does not match: it was damaged, or edited without taking the checksum out")


class IdentityFile:
    def __init__(self, state_dir: Path) -> None:
        self.path = state_dir / "node.json"
        self._writing = threading.Lock()
        self._erased: set[str] = set()

    def load(self) -> Identity | None:
        """None outside a swarm. Raises BrokenIdentity."""
        try:
            stored = msgspec.json.decode(self.path.read_bytes(), type=StoredIdentity)
            identity = Identity(*(getattr(stored, name) for name in Identity.__struct_fields__))
            require_intact(stored.checksum, msgspec.json.encode(identity))
            return identity
        except FileNotFoundError:
            return None
        except (ValueError, OSError) as error:
            raise BrokenIdentity(
                f"{self.path}: cannot read this node's identity ({error}); restore the file, or move it away to start "
                "outside any swarm"
            ) from error

    def save(self, identity: Identity) -> None:
        stored = {**msgspec.structs.asdict(identity), "checksum": checksum(msgspec.json.encode(identity))}
        with self._writing:
            if identity.node_id not in self._erased:
                write_private(self.path, msgspec.json.format(msgspec.json.encode(stored)))

    def erase(self, node_id: str) -> None:
        """Unless the file is another node's by now; nothing of this node's is written again."""
        with self._writing:
            self._erased.add(node_id)
            found = self.load()
            if found is not None and found.node_id == node_id:
                self.path.unlink(missing_ok=True)
                sync_folder(self.path.parent)


def write_private(path: Path, data: bytes) -> None:
    """Replace a file as a whole, durably, readable by its owner only. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    sync_folder(path.parent)


def sync_folder(path: Path) -> None:
    """Make what was renamed or removed in a folder durable."""
    folder = os.open(path, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
