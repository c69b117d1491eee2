"""The state directory: for its owner only, since it holds tasks' environments, keys and the log.

New files are closed by the daemon's umask. What an earlier version left open is closed at the start. Tasks of the
process runtime that run as other users have a `work` directory of their own; the way to it may be passed, but not read,
and only on hosts that have such tasks.

All of it blocks.
"""

import os
import pwd
import stat
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

from essaim.cluster.errors import InvalidArgument

UMASK = 0o077
OTHERS = 0o077
PASSABLE = 0o711
TASKS = ("process", "tasks")


def prepare(path: Path) -> int:
    """Make the directory, or close what is open in it; how many files and directories were. Raises InvalidArgument
    for what is not a directory of ours, and for what is in it and this user cannot use; OSError."""
    _make(path)
    _require_ours(path)
    if os.geteuid() != 0:
        for each in chain([path], _of_the_daemon(path)):
            _require_usable(each, path)
    way = {path, *_way_to_work(path)}
    return sum(_close(each, passable=each in way and len(way) > 1) for each in [path, *_below(path)])


def _make(path: Path) -> None:
    """Parents are made as usual: they are not ours alone."""
    for parent in reversed(path.parents):
        if not parent.exists():
            parent.mkdir(exist_ok=True)
            parent.chmod(0o755)
    if not os.path.lexists(path):
        path.mkdir(mode=0o700, exist_ok=True)


def _require_ours(path: Path) -> None:
    found = path.lstat()
    if stat.S_ISLNK(found.st_mode):
        raise InvalidArgument(
            f"the state directory {path} is a symbolic link (to {path.readlink()}): whoever may change it could put "
            f"another directory in its place. Name the directory itself: --state-dir {path.resolve()}"
        )
    if not stat.S_ISDIR(found.st_mode):
        raise InvalidArgument(f"the state directory {path} is not a directory: choose another --state-dir")
    if found.st_uid != os.geteuid():
        raise InvalidArgument(
            f"the state directory {path} belongs to {user(found.st_uid)}, and essaimd runs as {user(os.geteuid())}: "
            f"give it to that user (chown -R {os.geteuid()} {path}), or choose another --state-dir"
        )


def _of_the_daemon(path: Path) -> Iterator[Path]:
    """Files and directories below, each directory before what is in it, without those of tasks."""
    for folder, folders, files in os.walk(path):
        here = Path(folder)
        if here == path.joinpath(*TASKS[:-1]) and TASKS[-1] in folders:
            folders.remove(TASKS[-1])
        yield from (here / name for name in [*folders, *files] if not (here / name).is_symlink())


def _require_usable(path: Path, top: Path) -> None:
    """Raises InvalidArgument. Found here, once and in one way, what any part of the daemon would find later."""
    try:
        found = path.lstat()
    except FileNotFoundError:
        return
    if found.st_uid != os.geteuid():
        raise InvalidArgument(
            f"{path} belongs to {user(found.st_uid)}, and essaimd runs as {user(os.geteuid())}: give the state "
            f"directory to that user with all that is in it (chown -R {os.geteuid()} {top})"
        )
    wanted = 0o700 if stat.S_ISDIR(found.st_mode) else 0o600 if stat.S_ISREG(found.st_mode) else 0
    if found.st_mode & wanted != wanted:
        raise InvalidArgument(
            f"{path} has mode {stat.S_IMODE(found.st_mode):04o}, so that its owner {user(found.st_uid)}, as whom "
            f"essaimd runs, cannot read and write it: chmod {'u+rwx' if wanted == 0o700 else 'u+rw'} {path}"
        )


def user(number: int) -> str:
    """`user nobody (65534)`."""
    try:
        return f"user {pwd.getpwuid(number).pw_name} ({number})"
    except KeyError:
        return f"user {number}"


def _way_to_work(path: Path) -> Iterator[Path]:
    """Directories on the way to those of other users."""
    tasks = path.joinpath(*TASKS)
    found = [
        work.parent for work in tasks.glob("*/work") if not work.is_symlink() and work.stat().st_uid != os.geteuid()
    ]
    if found:
        yield from (tasks.parent, tasks, *found)


def _below(path: Path) -> Iterator[Path]:
    """Everything but links, and but what tasks have in their own directories."""
    tasks = path.joinpath(*TASKS)
    for folder, folders, files in os.walk(path):
        here = Path(folder)
        if here.parent == tasks and "work" in folders:
            folders.remove("work")
        yield from (here / name for name in [*folders, *files] if not (here / name).is_symlink())


def _close(path: Path, *, passable: bool) -> bool:
    """Whether there was something to do."""
    try:
        found = path.lstat()
    except FileNotFoundError:
        return False  # a task's supervisor, which outlives the daemon, has replaced it
    mode = stat.S_IMODE(found.st_mode)
    wanted = mode & ~OTHERS | (PASSABLE & OTHERS if passable else 0)
    if mode == wanted:
        return False
    path.chmod(wanted)
    return mode & OTHERS & ~(wanted & OTHERS) != 0
