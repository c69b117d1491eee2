"""Secrets and configs as files: on a memory-backed file system, with their owner and mode, gone with the task.

A secret is never written where it could reach a disk: without a memory-backed directory the task is rejected.
Functions here block; they are called in a thread.
"""

import contextlib
import os
import re
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from .runtime import Rejected

MEMORY_BACKED = {"tmpfs", "ramfs"}


@dataclass(frozen=True, slots=True)
class MemoryFile:
    """`path` is relative to the task's directory."""

    path: str
    data: bytes
    uid: int
    gid: int
    mode: int


def file_system(path: Path) -> str:
    """The type of the file system that a directory is on, as Linux names it; empty when unknown."""
    real = os.path.realpath(path)
    best, kind = "", ""
    with open("/proc/self/mountinfo") as mounts:
        for line in mounts:
            fields, _, rest = line.partition(" - ")
            point = re.sub(r"\\(\d{3})", lambda octal: chr(int(octal.group(1), 8)), fields.split()[4])
            inside = real == point or real.startswith(point.rstrip("/") + "/")
            # Of several mounts on one point the last one is seen.
            if inside and len(point) >= len(best):
                best, kind = point, rest.split()[0]
    return kind


def memory_root(candidates: Iterable[Path]) -> Path | None:
    """The first directory that is memory-backed and writable."""
    for candidate in candidates:
        if candidate.is_dir() and os.access(candidate, os.W_OK | os.X_OK) and file_system(candidate) in MEMORY_BACKED:
            return candidate
    return None


def usual_roots(environment: Mapping[str, str]) -> list[Path]:
    """Where a memory-backed directory is usually found: for root /run, for users their own, then /dev/shm."""
    roots = [Path("/run")] if os.geteuid() == 0 else []
    if environment.get("XDG_RUNTIME_DIR"):
        roots.append(Path(environment["XDG_RUNTIME_DIR"]))
    return [*roots, Path("/dev/shm")]  # noqa: S108 (a directory of our own is made in it, closed to others)


def write_files(directory: Path, files: Iterable[MemoryFile], owner: tuple[int, int], mode: int) -> None:
    """Make `directory` (its owner and mode as given) with exactly these files. Raises OSError, Rejected."""
    shutil.rmtree(directory, ignore_errors=True)
    _make(directory)
    if file_system(directory) not in MEMORY_BACKED:
        directory.rmdir()
        raise Rejected(f"{directory} is not memory-backed: secrets are not written to disks")
    for file in files:
        path = directory / file.path
        if not path.resolve().is_relative_to(directory.resolve()):
            raise Rejected(f"the target {file.path} leaves the task's directory")
        for parent in reversed([p for p in path.parents if p.is_relative_to(directory) and not p.exists()]):
            parent.mkdir()
            parent.chmod(0o755)
        _write(path, file)
    if owner != (os.geteuid(), os.getegid()):
        for path in [directory, *(p for p in directory.rglob("*") if p.is_dir())]:
            os.chown(path, *owner)
    directory.chmod(mode)


def _make(directory: Path) -> None:
    """With its parents, which another node of this machine may be tidying up just now."""
    for attempt in range(3):
        try:
            for parent in reversed([p for p in directory.parents if not p.exists()]):
                parent.mkdir(mode=0o700, exist_ok=True)
                parent.chmod(0o711)  # whatever the umask is
            directory.mkdir(mode=0o700)
            return
        except FileNotFoundError:
            if attempt == 2:
                raise


def tidy(root: Path) -> None:
    """Remove what is empty: the nodes' directories below `root`, and `root` itself."""
    for directory in [*root.glob("*"), root]:
        with contextlib.suppress(OSError):
            directory.rmdir()


def _write(path: Path, file: MemoryFile) -> None:
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        os.write(handle, file.data)
        if (file.uid, file.gid) != (os.geteuid(), os.getegid()):
            os.fchown(handle, file.uid, file.gid)
        os.fchmod(handle, file.mode)
    finally:
        os.close(handle)
