"""A node's keys: on its disk in one file, in memory with the TLS contexts and the log's codecs made of them.

- The file holds the private key with its certificate, the trusted roots, and the data key of the log. Written whole,
  fsynced and renamed, so that key and certificate always belong together; readable by its owner only.
- A locked manager's file is wrapped as a whole with the cluster's unlock key, which this node then does not have on
  its disk: after a restart nothing can be done with it until somebody brings the key.
- The private key leaves the process in this file only.

Methods that touch the disk block, and may be called from several threads.

Rejected: PEM files side by side (a crash between two renames leaves a key without its certificate, or a node that is
locked by half).
"""

import ssl
import threading
from pathlib import Path

import msgspec
from msgspec.structs import replace

from essaim.cluster.ids import Chance
from essaim.cluster.node import TLSInfo
from essaim.raft.disk.codec import Codecs
from essaim.secrets.ca import tls_info
from essaim.secrets.nodekey import validity
from essaim.secrets.rotation import issuer_among
from essaim.secrets.sealing import Sealer
from essaim.secrets.unlock import unwrap, wrap

from . import tls
from .identity import BrokenIdentity, checksum, require_intact, write_private


class Keys(msgspec.Struct, frozen=True):
    """PEM, but for the data key. `roots` are what this node trusts, the one that signs first."""

    private_key: bytes
    certificate: bytes
    roots: bytes
    data_key: bytes

    def __repr__(self) -> str:
        return "Keys(...)"


class Stored(msgspec.Struct, frozen=True):
    """The file: `keys` in plain or `wrapped`. `lock_version` is that of the cluster when it was last (un)locked."""

    keys: Keys | None = None
    wrapped: bytes | None = None
    lock_version: int = 0
    checksum: str = ""  # of all the rest

    def sealed(self) -> "Stored":
        return replace(self, checksum=checksum(msgspec.json.encode(replace(self, checksum=""))))

    def require_intact(self) -> None:
        """Raises ValueError."""
        require_intact(self.checksum, msgspec.json.encode(replace(self, checksum="")))


class Keyring:
    """`load` first. `locked` means that there are keys which nobody can read until `unlock`."""

    def __init__(self, state_dir: Path, chance: Chance) -> None:
        self.path = state_dir / "keys.json"
        self._chance = chance
        self._keys: Keys | None = None
        self._unlock_key = ""
        self._wrapped: bytes | None = None
        self._changing = threading.Lock()
        self._serving: ssl.SSLContext | None = None
        self._calling: ssl.SSLContext | None = None
        self.lock_version = 0
        self.listening = tls.listening_context(lambda: self._serving)

    @property
    def locked(self) -> bool:
        return self._keys is None and self._wrapped is not None

    @property
    def open(self) -> bool:
        """Whether there are keys, and they can be used."""
        return self._keys is not None

    @property
    def unlock_key(self) -> str:
        """What the file is wrapped with; empty while it is in plain."""
        return self._unlock_key

    @property
    def keys(self) -> Keys:
        assert self._keys is not None, "this node has no keys, or they are locked"
        return self._keys

    @property
    def calling(self) -> ssl.SSLContext:
        """For connections to other nodes."""
        assert self._calling is not None, "this node has no keys, or they are locked"
        return self._calling

    @property
    def validity(self) -> tuple[float, float]:
        """From when until when the certificate is good, in seconds since 1970."""
        start, end = validity(self.keys.certificate)
        return start.timestamp(), end.timestamp()

    def tls_info(self) -> TLSInfo | None:
        """What this node trusts, and who has signed its certificate."""
        keys = self._keys
        return tls_info(keys.roots, issuer_among(keys.roots, keys.certificate)) if keys else None

    def codecs(self) -> Codecs:
        """For the log of this node. Each call makes writers of their own."""
        return Codecs(Sealer(self.keys.data_key, "log"), Sealer(self.keys.data_key, "snapshot"))

    def load(self) -> bool:
        """Whether there is a file. Raises BrokenIdentity."""
        try:
            stored = msgspec.json.decode(self.path.read_bytes(), type=Stored)
            stored.require_intact()
            if stored.keys is not None:
                self._hold(stored.keys, _contexts(stored.keys))
            elif stored.wrapped is None:
                raise ValueError("it is empty")
        except FileNotFoundError:
            return False
        except (ValueError, OSError) as error:
            raise BrokenIdentity(
                f"{self.path}: cannot read this node's keys ({error}); restore the file, or let the node leave "
                "(remove the state directory) and join again"
            ) from error
        self._wrapped, self.lock_version = stored.wrapped, stored.lock_version
        return True

    def unlock(self, unlock_key: str) -> None:
        """Raises InvalidArgument, Unauthorized."""
        assert self._wrapped is not None, "nothing is locked"
        keys = msgspec.json.decode(unwrap(self._wrapped, unlock_key), type=Keys)
        self._hold(keys, _contexts(keys))
        self._unlock_key = unlock_key.strip()

    def put(self, keys: Keys) -> None:
        """Keep new keys, locked as the former ones were; connections use them from now on. Raises OSError."""
        with self._changing:
            contexts = _contexts(keys)  # what OpenSSL does not take never reaches the disk
            self._save(keys, self._unlock_key, self.lock_version)
            self._hold(keys, contexts)

    def lock_with(self, unlock_key: str, version: int) -> None:
        """Wrap the file with this key from now on, or not at all if it is empty. Raises OSError."""
        with self._changing:
            self._save(self.keys, unlock_key, version)

    def forget(self) -> None:
        """Back to being locked."""
        self._keys = self._serving = self._calling = None
        self._unlock_key = ""

    def erase(self) -> None:
        self.path.unlink(missing_ok=True)
        self.forget()
        self._wrapped, self.lock_version = None, 0

    def _save(self, keys: Keys, unlock_key: str, version: int) -> None:
        if unlock_key:
            wrapped = wrap(msgspec.json.encode(keys), unlock_key, self._chance)
            stored = Stored(wrapped=wrapped, lock_version=version)
        else:
            stored = Stored(keys=keys, lock_version=version)
        write_private(self.path, msgspec.json.encode(stored.sealed()))
        self._unlock_key, self._wrapped, self.lock_version = unlock_key, stored.wrapped, version

    def _hold(self, keys: Keys, contexts: tuple[ssl.SSLContext, ssl.SSLContext]) -> None:
        self._serving, self._calling = contexts
        self._keys = keys


def _contexts(keys: Keys) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """To serve with, and to call with. Raises OSError (ssl.SSLError) for keys that do not fit together."""
    shown = (keys.certificate, keys.private_key, keys.roots)
    return tls.serving_context(*shown), tls.calling_context(*shown)
