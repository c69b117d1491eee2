"""Secrets and configs as files: on a memory-backed file system, with their owner and mode, gone with the task.

- A secret is never written where it could reach a disk: without a memory-backed directory a task that uses one is
  rejected. It is written as a whole, or the task is rejected.
- In folders that everybody may write to (/dev/shm) somebody else may have made ours, or a link in its place: folders
  are opened one by one without following links, and each must belong to us or to root and be closed to others' writing.

Functions here block; they are called in a thread.
"""

import contextlib
import errno
import os
import re
import shutil
import stat
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from .interface import Rejected

MEMORY_BACKED = {"tmpfs", "ramfs"}
FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


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
            return candidate.resolve()
    return None


def own_folder(candidates: Iterable[Path]) -> Path:
    """Where this daemon's user keeps such files; nobody else has a hand in it. Raises Rejected, saying why not."""
    looked_at = list(candidates)
    root = memory_root(looked_at)
    if root is None:
        raise Rejected(
            "this node has no memory-backed directory for secrets and configs; looked at "
            + ", ".join(map(str, looked_at))
        )
    folder = root / f"essaim-{os.geteuid()}"
    with contextlib.suppress(FileNotFoundError):
        os.close(_open_folder(folder, make=False))
    return folder


def usual_roots(environment: Mapping[str, str]) -> list[Path]:
    """Where a memory-backed directory is usually found: for root /run, for users their own, then /dev/shm."""
    roots = [Path("/run")] if os.geteuid() == 0 else []
    if environment.get("XDG_RUNTIME_DIR"):
        roots.append(Path(environment["XDG_RUNTIME_DIR"]))
    return [*roots, Path("/dev/shm")]  # noqa: S108 (a directory of our own is made in it, closed to others)


def write_files(directory: Path, files: Iterable[MemoryFile], owner: tuple[int, int], mode: int) -> None:
    """Make `directory` (its owner and mode as given) with exactly these files. Raises OSError, Rejected."""
    inside = _open_parents(directory)
    try:
        shutil.rmtree(directory.name, ignore_errors=True, dir_fd=inside)
        os.mkdir(directory.name, 0o700, dir_fd=inside)
        handle = os.open(directory.name, FOLDER, dir_fd=inside)
    finally:
        os.close(inside)
    try:
        if file_system(directory) not in MEMORY_BACKED:
            directory.rmdir()
            raise Rejected(f"{directory} is not memory-backed: secrets are not written to disks")
        for file in files:
            _write(handle, file, owner)
        os.fchown(handle, *owner)
        os.fchmod(handle, mode)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise Rejected(f"there is no room left for the task's secrets and configs in {directory.parent}") from error
    finally:
        os.close(handle)


def _open_parents(directory: Path) -> int:
    """A descriptor of the folder that a task's directory is made in, itself made where it is missing. Another node of
    this machine may be tidying up just now. Raises OSError, Rejected."""
    for _ in range(2):
        with contextlib.suppress(FileNotFoundError):
            return _open_folder(directory.parent, make=True)
    return _open_folder(directory.parent, make=True)


def _open_folder(folder: Path, *, make: bool) -> int:
    """A descriptor of a folder, each part of whose path is checked. Raises OSError, Rejected."""
    handle = os.open("/", FOLDER)
    try:
        for number, part in enumerate(folder.parts[1:], 2):
            made = make and _is_made(part, handle)
            inner = _open_checked(part, handle, Path(*folder.parts[:number]))
            os.close(handle)
            handle = inner
            if made:
                os.fchmod(handle, 0o711)  # whatever the umask is: tasks of other users find their own folder below
    except BaseException:
        os.close(handle)
        raise
    return handle


def _is_made(name: str, inside: int) -> bool:
    """Make a folder, unless it is there. Raises OSError."""
    try:
        os.mkdir(name, 0o700, dir_fd=inside)
    except FileExistsError:
        return False
    return True


def _open_checked(name: str, inside: int, shown: Path) -> int:
    """Raises FileNotFoundError; Rejected for a link, and for what somebody else could have put there."""
    try:
        handle = os.open(name, FOLDER, dir_fd=inside)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENOTDIR):
            raise Rejected(f"{shown} is a link or no folder: secrets are not written below it; remove it") from error
        raise
    found = os.fstat(handle)
    if found.st_uid not in (0, os.geteuid()):
        os.close(handle)
        raise Rejected(f"{shown} belongs to user {found.st_uid}: secrets are not written below it; remove it")
    if found.st_mode & 0o022 and not found.st_mode & stat.S_ISVTX:
        os.close(handle)
        raise Rejected(f"others may write to {shown}: secrets are not written below it; change its mode")
    return handle


def tidy(root: Path) -> None:
    """Remove what is empty: the nodes' directories below `root`, and `root` itself."""
    for directory in [*root.glob("*"), root]:
        with contextlib.suppress(OSError):
            directory.rmdir()


def _write(directory: int, file: MemoryFile, owner: tuple[int, int]) -> None:
    """Below the task's directory, which is empty at first and open to nobody else yet. Raises OSError, Rejected."""
    *folders, name = Path(file.path).parts
    if ".." in folders or name == ".." or Path(file.path).is_absolute():
        raise Rejected(f"the target {file.path} leaves the task's directory")
    inside = os.dup(directory)
    try:
        for folder in folders:
            with contextlib.suppress(FileExistsError):
                os.mkdir(folder, 0o755, dir_fd=inside)
            inner = os.open(folder, FOLDER, dir_fd=inside)
            os.close(inside)
            inside = inner
            os.fchown(inside, *owner)
            os.fchmod(inside, 0o755)
        handle = os.open(
            name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=inside
        )
    finally:
        os.close(inside)
    try:
        _write_whole(handle, file.data)
        if (file.uid, file.gid) != (os.geteuid(), os.getegid()):
            os.fchown(handle, file.uid, file.gid)
        os.fchmod(handle, file.mode)
    finally:
        os.close(handle)


def _write_whole(handle: int, data: bytes) -> None:
    """A file system that fills up takes a part first, and says so only at the next attempt."""
    view = memoryview(data)
    while view:
        view = view[os.write(handle, view) :]
