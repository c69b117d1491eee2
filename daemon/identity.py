"""Who this node is in which cluster: the file that survives a restart beside its keys and the log.

Written whole to a temporary name, fsynced and renamed. Without the file the daemon is idle, outside any swarm. A
checksum tells damage from what was written: a digit that has changed would make this another node. Whoever edits
the file by hand takes the checksum out of it.
"""

import hashlib
import os
from pathlib import Path

import msgspec


class Identity(msgspec.Struct, frozen=True):
    """`managers` are the last known addresses (host:port) of the managers. `raft_id` is set while a manager.

    `advertise` and `listen` are host:port of the cluster port; `data_ip` is where tasks' ports are reached.
    """

    node_id: str
    role: str
    cluster_id: str
    advertise: str
    listen: str
    data_ip: str
    managers: list[str] = []
    raft_id: int = 0


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
        write_private(self.path, msgspec.json.format(msgspec.json.encode(stored)))

    def erase(self) -> None:
        self.path.unlink(missing_ok=True)


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
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
