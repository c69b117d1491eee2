"""The control groups of a lab: who belongs to it, how it is frozen, how it is killed.

Every process of a host, containers included, lives below `<hierarchy>/essaim-lab-N/hK`. The kernel keeps that
membership exact whatever the processes do, so clean-up needs no recorded pids and cannot hit a stranger that
got a recycled one. (Rejected: pid files, process groups, sessions: each is escaped by a daemon.)

On a version 1 machine the freezer hierarchy is the one that counts; container runtimes make directories of the
same name in the others, which are removed with it. On version 2 there is one hierarchy. There, a group with
controllers may hold processes only in its leaves, which is why a host's own processes are in leaves too.
"""

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path

from .wait import eventually

MOUNTS = Path("/sys/fs/cgroup")
# Seconds. Killing some hundred processes takes well under one; a machine under load may need more.
KILL_DEADLINE = 30.0


class CgroupError(Exception):
    """The machine's control groups cannot carry a lab; the message says why."""


def _is_unified() -> bool:
    return (MOUNTS / "cgroup.controllers").exists()


def hierarchies() -> list[Path]:
    """The mount points of all hierarchies of this machine."""
    if _is_unified():
        return [MOUNTS]
    return sorted(
        path for path in MOUNTS.iterdir() if path.is_dir() and not path.is_symlink() and os.path.ismount(path)
    )


def _members_hierarchy() -> Path:
    """The hierarchy in which every process of a lab is a member."""
    if _is_unified():
        return MOUNTS
    if not os.path.ismount(MOUNTS / "freezer"):
        raise CgroupError(f"a lab needs cgroup v2, or cgroup v1 with a freezer: {MOUNTS}/freezer is not mounted")
    return MOUNTS / "freezer"


class Cgroup:
    """One group by its path from the hierarchies' root, as `/essaim-lab-7/h1`, with everything below it."""

    def __init__(self, path: str) -> None:
        self.path = path

    @property
    def procs(self) -> Path:
        """A process that writes 0 into this file becomes a member."""
        return self._directory / "cgroup.procs"

    @property
    def _directory(self) -> Path:
        return _members_hierarchy() / self.path.lstrip("/")

    def below(self, name: str) -> "Cgroup":
        return Cgroup(f"{self.path}/{name}")

    def create(self) -> None:
        self._directory.mkdir(parents=True, exist_ok=True)

    def pids(self) -> set[int]:
        """All processes of the group and below, in this machine's numbering."""
        found: set[int] = set()
        for directory in _subtree(self._directory):
            with contextlib.suppress(OSError):
                found.update(int(line) for line in (directory / "cgroup.procs").read_text().split())
        return found

    def freeze(self, deadline: float = KILL_DEADLINE) -> None:
        """Stop every process at once, as SIGSTOP to all of them would. The kernel still answers for them in TCP."""
        if _is_unified():
            (self._directory / "cgroup.freeze").write_text("1")
            events = self._directory / "cgroup.events"
            eventually(lambda: "frozen 1" in events.read_text(), deadline, f"freezing {self.path}")
            return
        state = self._directory / "freezer.state"
        state.write_text("FROZEN")
        eventually(lambda: state.read_text().strip() == "FROZEN", deadline, f"freezing {self.path}")

    def thaw(self) -> None:
        """Let the processes run on. Containers that were paused by their Engine stay paused."""
        self._thaw(self._directory)

    def kill(self, deadline: float = KILL_DEADLINE) -> None:
        """SIGKILL to every process, frozen ones too, until none is left."""

        def all_dead() -> bool:
            for directory in _subtree(self._directory):
                self._thaw(directory)
            alive = self.pids()
            for pid in alive:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            return not alive

        eventually(all_dead, deadline, f"killing the processes of {self.path}", every=0.01)

    def remove(self, deadline: float = KILL_DEADLINE) -> None:
        """Remove the directories from every hierarchy. The group must be empty (`kill`)."""

        def removed() -> bool:
            left = [root / self.path.lstrip("/") for root in hierarchies()]
            for directory in (d for root in left for d in reversed(list(_subtree(root)))):
                # Busy for a moment after its last process died.
                with contextlib.suppress(OSError):
                    directory.rmdir()
            return not any(root.exists() for root in left)

        eventually(removed, deadline, f"removing the control groups {self.path}", every=0.01)

    @staticmethod
    def _thaw(directory: Path) -> None:
        name, value = ("cgroup.freeze", "0") if _is_unified() else ("freezer.state", "THAWED")
        with contextlib.suppress(OSError):
            (directory / name).write_text(value)


def _subtree(root: Path) -> Iterator[Path]:
    """The directory and all below it, parents first; nothing when it is gone."""
    for directory, _, _ in os.walk(root):
        yield Path(directory)
