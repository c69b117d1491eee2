"""Starts supervisors (shim.py), notices their end, kills what a dead one left. Functions block unless async."""

import asyncio
import contextlib
import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec

from . import shim

KILL_ROUNDS, KILL_PAUSE = 200, 0.01


class Ids(msgspec.Struct, frozen=True):
    """`state.json`: both processes, each with its start time in clock ticks, so that a reused id is not mistaken."""

    pid: int
    start: int
    shim_pid: int
    shim_start: int


class Exit(msgspec.Struct, frozen=True):
    """`exit.json`."""

    code: int
    error: str = ""


def read_ids(directory: Path) -> Ids | None:
    with contextlib.suppress(OSError, msgspec.DecodeError):
        return msgspec.json.decode((directory / "state.json").read_bytes(), type=Ids)
    return None


def read_exit(directory: Path) -> Exit | None:
    with contextlib.suppress(OSError, msgspec.DecodeError):
        return msgspec.json.decode((directory / "exit.json").read_bytes(), type=Exit)
    return None


def is_alive(pid: int, start: int) -> bool:
    """That very process exists and is not a zombie."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    except OSError:
        return False
    return int(fields[19]) == start and fields[0] != b"Z"


def spawn_shim(directory: Path) -> tuple[int, str]:
    """Start the supervisor of the task in `directory`: its process id, and why the task could not be started, or "ok".

    Rejected: subprocess.Popen, which warns about a child that outlives it; this one is meant to.
    """
    ready, theirs = os.pipe()
    argv = [sys.executable, "-I", "-S", shim.__file__, str(directory), "3"]
    log = str(directory / "shim.log")
    actions = [
        (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
        (os.POSIX_SPAWN_OPEN, 1, log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600),
        (os.POSIX_SPAWN_DUP2, 1, 2),
        (os.POSIX_SPAWN_DUP2, theirs, 3),
    ]
    try:
        pid = os.posix_spawn(sys.executable, argv, {"LC_ALL": "C.UTF-8"}, file_actions=actions, setsid=True)
        os.close(theirs)
        theirs = -1
        answer = _first_line(ready)
    finally:
        os.close(ready)
        if theirs >= 0:
            os.close(theirs)
    if not answer:
        error = Path(log).read_text(errors="replace").strip().rpartition("\n")[2]
        return pid, f"the task's supervisor ended before it could start the task: {error or 'no reason given'}"
    return pid, answer


def reap(pid: int) -> None:
    """Take the exit status of a supervisor that is a child of this process, waiting for its end."""
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, 0)


def _first_line(fd: int) -> str:
    data = b""
    while not data.endswith(b"\n"):
        piece = os.read(fd, 4096)
        if not piece:
            break
        data += piece
    return data.decode(errors="replace").strip()


def kill_all_of(task_id: str, ids: Ids | None) -> list[int]:
    """Kill what is left of a task whose supervisor is dead: its process group, and what carries its id.

    Returns once nothing is left, which needs more than one round when something forks meanwhile; or what cannot be
    killed for now (it waits for a disk).
    """
    if ids is not None and is_alive(ids.pid, ids.start):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(ids.pid, signal.SIGKILL)
    for _ in range(KILL_ROUNDS):
        left = list(carrying(task_id))
        if not left:
            return []
        for pid in left:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(KILL_PAUSE)
    return list(carrying(task_id))


def carrying(task_id: str) -> Iterator[int]:
    """Ids of processes started by the task: each has the task's id in its environment, unless it removed it."""
    mark = f"ESSAIM_TASK_ID={task_id}".encode()
    for name in os.listdir("/proc"):
        if name.isdecimal():
            with contextlib.suppress(OSError):
                if mark in Path(f"/proc/{name}/environ").read_bytes().split(b"\0"):
                    yield int(name)


async def exited(pid: int) -> None:
    """Return once a process of ours that was not reaped yet has ended."""
    fd = os.pidfd_open(pid)
    try:
        await _readable(fd)
    finally:
        os.close(fd)


async def ended(pid: int, start: int) -> None:
    """Return once that very process has ended; at once when it has already."""
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        # Opened first and checked then: the descriptor cannot come to mean another process.
        if await asyncio.to_thread(is_alive, pid, start):
            await _readable(fd)
    finally:
        os.close(fd)


async def _readable(fd: int) -> None:
    """A process's descriptor becomes readable with its end."""
    loop = asyncio.get_running_loop()
    over = asyncio.Event()
    loop.add_reader(fd, over.set)
    try:
        await over.wait()
    finally:
        loop.remove_reader(fd)
