"""`--serve-docker-socket`: the API at a socket for containers, whose file stays the same across restarts of the daemon.

The listening socket is held by a small process beside the daemon (`socket_keeper.py`), which hands it to the next one.
All of it blocks.

Rejected: a new socket at each start (containers keep the old file); mounting its directory (what a stack names is a
file); systemd's sockets alone (essaimd is also started without it).
"""

import contextlib
import fcntl
import os
import socket
import stat
import sys
from pathlib import Path
from urllib.parse import urlsplit

from essaim.api.listen.doors import unix_socket
from essaim.cluster.errors import InvalidArgument

from . import socket_keeper

DEFAULT = Path("/run/essaim/docker.sock")
SECONDS = 5.0
KEEPER_UP_SECONDS = 30.0
MODE = 0o660
_FREE = 16
"""Descriptors from here on are used in between, so that none is in the way of 3 and 4."""


class DockerSocket:
    """`open`, and `close` when the daemon ends: the socket goes on without it."""

    def __init__(self, path: Path, engine: str | None) -> None:
        """`engine`: URL of the Engine, whose socket's group and mode are taken over."""
        self.path = path
        self._engine = engine
        self._lock = -1

    def open(self) -> socket.socket:
        """Listening, the one of the last run if there is. Raises InvalidArgument, OSError."""
        if not self.path.parent.exists():
            self.path.parent.mkdir(parents=True)
            self.path.parent.chmod(0o755)
        self._take_lock()
        kept = ask(self.path)
        if kept is None:
            kept = self._make()
        self._give_to(kept)
        kept.setblocking(False)
        return kept

    def close(self) -> None:
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def _take_lock(self) -> None:
        self._lock = os.open(beside(self.path, "lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self.close()
            raise InvalidArgument(
                f"another daemon serves {self.path}: stop it, or name another path for --serve-docker-socket"
            ) from None

    def _make(self) -> socket.socket:
        for path in (self.path, beside(self.path, "keeper")):
            _require_free(path)
            path.unlink(missing_ok=True)
        kept = unix_socket(self.path)
        with unix_socket(beside(self.path, "keeper")) as control:
            beside(self.path, "keeper").chmod(0o600)
            _spawn(control, kept, self.path)
        # Its answer also says that it has let go of everything that it inherited before it began, the lock among it.
        again = ask(self.path, seconds=KEEPER_UP_SECONDS)
        if again is None:
            raise OSError(f"the process that is to keep {self.path} does not answer")
        again.close()
        return kept

    def _give_to(self, kept: socket.socket) -> None:
        """Whoever may use the Engine's socket may use this one."""
        parts = urlsplit(self._engine or "")
        with contextlib.suppress(OSError):
            if parts.scheme == "unix":
                theirs = os.stat(parts.path)
                os.chown(self.path, -1, theirs.st_gid)
                self.path.chmod(stat.S_IMODE(theirs.st_mode) & 0o770)
                return
        self.path.chmod(MODE)


def _require_free(path: Path) -> None:
    """Nothing there, or what a keeper that was killed has left behind. Raises InvalidArgument."""
    if not os.path.lexists(path):
        return
    another = "name another path for --serve-docker-socket"
    if path.is_symlink() or not path.is_socket():
        raise InvalidArgument(f"{path} is not a socket: remove it, or {another}")
    with socket.socket(socket.AF_UNIX) as probe, contextlib.suppress(ConnectionRefusedError):
        probe.settimeout(SECONDS)
        probe.connect(str(path))
        raise InvalidArgument(f"another program answers at {path}: {another}")


def beside(path: Path, what: str) -> Path:
    return path.with_name(f"{path.name}.{what}")


def ask(path: Path, word: bytes = b"g", *, seconds: float = SECONDS) -> socket.socket | None:
    """The socket that the keeper holds; None when there is no keeper. With `e` it ends."""
    with socket.socket(socket.AF_UNIX) as asking:
        asking.settimeout(seconds)
        try:
            asking.connect(str(beside(path, "keeper")))
            asking.sendall(word)
            _, found, _, _ = socket.recv_fds(asking, 1, 1)
        except OSError:
            return None
    return socket.socket(fileno=found[0]) if found else None


def give_up(path: Path = DEFAULT) -> None:
    """The socket is not served any more: nobody shall wait at it."""
    if path.exists():
        ask(path, b"e")


def _spawn(control: socket.socket, kept: socket.socket, path: Path) -> None:
    high = [fcntl.fcntl(one, fcntl.F_DUPFD_CLOEXEC, _FREE) for one in (control, kept)]
    actions = [(os.POSIX_SPAWN_OPEN, number, os.devnull, os.O_RDWR, 0) for number in (0, 1, 2)]
    try:
        os.posix_spawn(
            sys.executable,
            [sys.executable, "-I", "-S", socket_keeper.__file__, str(path)],
            {"LC_ALL": "C.UTF-8"},
            file_actions=[*actions, (os.POSIX_SPAWN_DUP2, high[0], 3), (os.POSIX_SPAWN_DUP2, high[1], 4)],
            setsid=True,
        )
    finally:
        for number in high:
            os.close(number)
