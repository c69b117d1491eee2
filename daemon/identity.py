"""Who this node is in which cluster: the file that survives a restart beside its keys and the log.

Written whole to a temporary name, fsynced and renamed. Without the file the daemon is idle, outside any swarm.
"""

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


class BrokenIdentity(Exception):
    """The file cannot be read; the message names it."""


class IdentityFile:
    def __init__(self, state_dir: Path) -> None:
        self.path = state_dir / "node.json"

    def load(self) -> Identity | None:
        """None outside a swarm. Raises BrokenIdentity."""
        try:
            return msgspec.json.decode(self.path.read_bytes(), type=Identity)
        except FileNotFoundError:
            return None
        except (msgspec.DecodeError, OSError) as error:
            raise BrokenIdentity(
                f"{self.path}: cannot read this node's identity ({error}); restore the file, or move it away to start "
                "outside any swarm"
            ) from error

    def save(self, identity: Identity) -> None:
        write_private(self.path, msgspec.json.format(msgspec.json.encode(identity)))

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
