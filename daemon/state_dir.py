"""The state directory: for its owner only, since it holds tasks' environments, keys and the log.

New files are closed by the daemon's umask. What an earlier version left open is closed at the start. Tasks of the
process runtime that run as other users have a `work` directory of their own; the way to it may be passed, but not read,
and only on hosts that have such tasks.

All of it blocks.
"""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from essaim.cluster.errors import InvalidArgument

UMASK = 0o077
OTHERS = 0o077
PASSABLE = 0o711
TASKS = ("process", "tasks")


def prepare(path: Path) -> int:
    """Make the directory, or close what is open in it; how many files and directories were. Raises InvalidArgument
    for what is not a directory of ours, OSError."""
    _make(path)
    _require_ours(path)
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
            f"the state directory {path} belongs to user {found.st_uid}, and essaimd runs as user {os.geteuid()}: give "
            f"it to that user (chown -R), or choose another --state-dir"
        )


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
