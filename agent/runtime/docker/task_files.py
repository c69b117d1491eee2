"""Secrets and configs of containers: files in memory on the host, bound read-only into the container, one by one.

Rejected: a tmpfs in the container that is filled after its start (the program would look too early), and `docker cp`
(it writes into the container's layer on disk). Everything here blocks.
"""

import os
import shutil
from collections.abc import Iterable
from pathlib import Path

from essaim.agent.runtime.interface import Rejected
from essaim.agent.runtime.memory_files import MemoryFile, own_folder, tidy, write_files
from essaim.agent.runtime.payloads import Payload
from essaim.cluster.container import BindOptions, Mount
from essaim.cluster.numerals import whole


class TaskFiles:
    def __init__(self, candidates: Iterable[Path]) -> None:
        """`candidates` for a memory-backed directory, best first."""
        self._candidates = list(candidates)
        self._root: Path | None = None

    def write(self, node_id: str, task_id: str, payloads: list[Payload]) -> list[Mount]:
        """Make the files; the mounts that show them to the container. Raises Rejected, OSError."""
        if not payloads:
            return []
        directory = self._of(node_id) / task_id
        files = [_file(str(number), payload) for number, payload in enumerate(payloads)]
        # The Engine is root and needs no permission here; nobody else is to look.
        write_files(directory, files, (os.geteuid(), os.getegid()), 0o700)
        return [_mount(directory / str(number), payload) for number, payload in enumerate(payloads)]

    def erase(self, node_id: str, task_id: str) -> None:
        if self._root is not None:
            shutil.rmtree(self._root / node_id / task_id, ignore_errors=True)

    def tidy(self) -> None:
        """Leave no empty directories behind."""
        if self._root is not None:
            tidy(self._root)

    def keep_only(self, node_id: str, task_ids: Iterable[str]) -> None:
        """After a restart: remove the files of tasks that are gone."""
        kept = set(task_ids)
        try:
            directories = list(self._of(node_id).glob("*"))
        except Rejected:
            return
        for directory in directories:
            if directory.name not in kept:
                shutil.rmtree(directory, ignore_errors=True)

    def _of(self, node_id: str) -> Path:
        """Raises Rejected."""
        if self._root is None:
            self._root = own_folder(self._candidates)
        return self._root / node_id


def _file(name: str, payload: Payload) -> MemoryFile:
    uid, gid = _number(payload.owner[0], payload), _number(payload.owner[1], payload)
    if os.geteuid() == 0:
        return MemoryFile(name, payload.data, uid, gid, payload.mode)
    if not payload.mode & 0o004:
        raise Rejected(
            f"{payload.target} is to be readable by {uid}:{gid} only, and a daemon that does not run as root cannot "
            "give files to others: run essaimd as root, or let the file's mode be 0444"
        )
    return MemoryFile(name, payload.data, os.geteuid(), os.getegid(), payload.mode)


def _number(owner: str, payload: Payload) -> int:
    number = whole(owner, 10)
    if number is None:
        raise Rejected(
            f"the owner {owner!r} of {payload.target} is not a number: names in an image are not known outside"
        )
    return number


def _mount(path: Path, payload: Payload) -> Mount:
    private = BindOptions(propagation="rprivate")
    return Mount(type="bind", source=str(path), target=payload.target, read_only=True, bind_options=private)
