"""The files of process tasks: a directory below the node's state for each task, and one in memory for its secrets.

A task's directory holds `runtime.json` (this module), what shim.py reads and writes, `log/` and `work/`. `plan.json` is
written last and removed first: a directory without it holds nothing that could run. Everything here blocks.
"""

import contextlib
import os
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import msgspec

from essaim.agent.runtime.interface import Rejected
from essaim.agent.runtime.memory_files import MemoryFile, own_folder, tidy, write_files
from essaim.agent.runtime.payloads import SECRETS, Payload

from .plan import ProcessPlan
from .supervision import Exit, Ids, is_alive, read_exit, read_ids


@dataclass(frozen=True, slots=True)
class Stand:
    """Where a task stands by its files: not started (no `ids`), running (`alive`), ended (`exit`), else lost."""

    ids: Ids | None
    exit: Exit | None
    alive: bool


class TaskDirs:
    def __init__(self, root: Path, candidates: Iterable[Path], node_dir: Path | None = None) -> None:
        """`candidates` for a memory-backed directory, best first. `node_dir`: the node's, above `root`, which is closed
        to other users until a task needs to pass."""
        self._root = root
        self._node_dir = node_dir or root
        self._candidates = list(candidates)
        self._memory: Path | None = None

    def of(self, task_id: str) -> Path:
        return self._root / task_id

    def files_of(self, node_id: str, task_id: str, *, needed: bool = True) -> Path:
        """Where the task's secrets and configs go. Raises Rejected without a memory-backed directory, if one is needed:
        a task that uses none is told of a folder that is not there."""
        try:
            return self._files_root(node_id) / task_id
        except Rejected:
            if needed:
                raise
            return self.of(task_id) / "none"

    def write(self, plan: ProcessPlan, files: Iterable[Payload]) -> None:
        """Raises OSError, Rejected."""
        directory = self.of(plan.task_id)
        (directory / "log").mkdir(parents=True, exist_ok=True)
        (directory / "work").mkdir(exist_ok=True)
        owner = _owner(plan)
        if owner != (os.geteuid(), os.getegid()):
            os.chown(directory / "work", *owner)
            _let_pass(directory, self._node_dir)
        made = [MemoryFile(relative_path(payload), payload.data, *owner, payload.mode) for payload in files]
        if made:
            # Whoever may enter the directory may read the files: only the task's own user.
            write_files(self.files_of(plan.node_id, plan.task_id), made, owner, 0o700)
        (directory / "runtime.json").write_bytes(msgspec.json.encode(plan))
        (directory / "plan.json").write_bytes(msgspec.json.encode(plan.shim))

    def erase_files(self, node_id: str, task_id: str) -> None:
        """The task has ended: nobody reads its secrets any more."""
        with contextlib.suppress(Rejected):
            shutil.rmtree(self._files_root(node_id) / task_id, ignore_errors=True)

    def erase(self, node_id: str, task_id: str) -> None:
        self.erase_files(node_id, task_id)
        (self.of(task_id) / "plan.json").unlink(missing_ok=True)
        shutil.rmtree(self.of(task_id), ignore_errors=True)

    def tidy(self) -> None:
        """Leave no empty directories in memory behind."""
        if self._memory is not None:
            tidy(self._memory)

    def load(self, node_id: str) -> list[ProcessPlan]:
        """The tasks of the node's last run; what is left of half-written ones, and secrets of none, is removed."""
        found: list[ProcessPlan] = []
        for directory in sorted(self._root.glob("*")):
            plan = self._read(directory)
            if plan is None or plan.node_id != node_id:
                shutil.rmtree(directory, ignore_errors=True)
            else:
                found.append(plan)
        known = {plan.task_id for plan in found}
        with contextlib.suppress(Rejected):
            for directory in self._files_root(node_id).glob("*"):
                if directory.name not in known:
                    shutil.rmtree(directory, ignore_errors=True)
        return found

    def stand(self, task_id: str) -> Stand:
        directory = self.of(task_id)
        # In this order: a task that ends meanwhile is seen as ended or as running, never as lost.
        ids = read_ids(directory)
        alive = ids is not None and is_alive(ids.shim_pid, ids.shim_start)
        return Stand(ids, read_exit(directory), alive)

    def _files_root(self, node_id: str) -> Path:
        if self._memory is None:
            self._memory = own_folder(self._candidates)
        return self._memory / node_id

    def _read(self, directory: Path) -> ProcessPlan | None:
        with contextlib.suppress(OSError, msgspec.DecodeError):
            if (directory / "plan.json").exists():
                return msgspec.json.decode((directory / "runtime.json").read_bytes(), type=ProcessPlan)
        return None


def _let_pass(directory: Path, top: Path) -> None:
    """Another user's task works below: it may pass, and see nothing."""
    for each in [directory, *(p for p in directory.parents if p.is_relative_to(top))]:
        each.chmod(each.stat().st_mode & 0o700 | 0o011)


def relative_path(payload: Payload) -> str:
    """`secrets/NAME` for what a container would find in /run/secrets, or else the whole target below `secrets/`
    (`configs/` for configs)."""
    if payload.is_secret:
        return "secrets/" + payload.target.removeprefix(SECRETS).lstrip("/")
    return "configs/" + payload.target.lstrip("/")


def _owner(plan: ProcessPlan) -> tuple[int, int]:
    uid, gid = plan.shim.uid, plan.shim.gid
    return (os.geteuid() if uid is None else uid, os.getegid() if gid is None else gid)
