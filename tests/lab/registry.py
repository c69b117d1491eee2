"""Which labs exist on this machine, who owns them, and how one is removed whatever happened to its owner.

A lab is claimed by a record, `/run/essaim-lab/N.json`, before anything of it exists, and the record goes last.
So each thing that could be left over is named by a record: its number gives links, rules and control groups,
its `directory` the files. `remove` needs nothing but the record, is idempotent, and is called by

- the owner when it leaves the lab, also through an exception or Ctrl-C;
- the lab's keeper (keeper.py) when the owner died, by SIGTERM or SIGKILL for instance;
- the next lab that starts (`sweep`), should the keeper have died as well.

An owner is a process by boot, pid and start time, so that a recycled pid is not mistaken for it.
"""

import contextlib
import fcntl
import json
import logging
import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from .cgroups import Cgroup
from .commands import CommandFailed, LabUnavailable, call
from .network import Network, free_numbers
from .wait import DeadlinePassed

RECORDS = Path("/run/essaim-lab")


@dataclass(frozen=True)
class Record:
    number: int
    # `identity` of the process that uses the lab.
    owner: str
    # Everything of the lab that is a file: data-roots, sockets, logs.
    directory: str

    @property
    def cgroup(self) -> Cgroup:
        return Cgroup(f"/essaim-lab-{self.number}")


def identity(pid: int) -> str | None:
    """A name for a living process that no other one ever has; None for a dead one."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The program's name may hold blanks and brackets: fields are counted from its end; 3 is state, 22 start time.
    fields = stat.rpartition(")")[2].split()
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return None if fields[0] in "ZX" else f"{boot} {pid} {fields[19]}"


def is_alive(owner: str) -> bool:
    return identity(int(owner.split()[1])) == owner


def claim() -> Record:
    """Remove abandoned labs, then take a free number for this process. Nothing but the record exists yet."""
    sweep()
    owner = identity(os.getpid())
    assert owner is not None
    with _registry_lock():
        for number in free_numbers():
            path = _path(number)
            if path.exists():
                continue
            directory = Path(tempfile.gettempdir()).resolve() / f"essaim-lab-{number}-{os.getpid()}"
            record = Record(number, owner, str(directory))
            # Under the lock, another `.new` can only be a dead process's.
            fresh = path.with_suffix(".new")
            fresh.write_text(json.dumps(asdict(record)))
            fresh.rename(path)
            return record
    raise LabUnavailable(f"no subnet 10.77.N.0/24 is free for a lab; records of running labs are in {RECORDS}")


def read(number: int) -> Record | None:
    try:
        return Record(**json.loads(_path(number).read_text()))
    except FileNotFoundError:
        return None


def sweep() -> list[int]:
    """Remove every lab whose owner is dead; returns their numbers. One that resists is left to the next sweep."""
    swept = []
    for path in sorted(RECORDS.glob("*.json")):
        record = read(int(path.stem))
        if record is None or is_alive(record.owner):
            continue
        try:
            if remove(record):
                swept.append(record.number)
        except (OSError, CommandFailed, DeadlinePassed) as error:
            logging.getLogger(__name__).warning("abandoned lab %d could not be removed: %s", record.number, error)
    return swept


def remove(record: Record) -> bool:
    """Remove the lab; False when it was gone already. An error leaves the record, so that a later sweep retries."""
    with _record_lock(record) as mine:
        if not mine:
            return False
        _destroy(record)
        with _registry_lock():
            _path(record.number).unlink()
    with contextlib.suppress(OSError), _registry_lock():
        # Stale halves of claims, then the folder itself when this was the last lab.
        for fresh in RECORDS.glob("*.new"):
            fresh.unlink()
        RECORDS.rmdir()
    return True


def _destroy(record: Record) -> None:
    """The steps run from the last to the first, each whatever became of those before; the newest error is raised."""
    with contextlib.ExitStack() as steps:
        steps.callback(_remove_files, Path(record.directory))
        steps.callback(Network(record.number).remove)
        steps.callback(record.cgroup.remove)
        steps.callback(record.cgroup.kill)


def _remove_files(directory: Path) -> None:
    """Mounts of a host end with its namespace; one that leaked out must not be deleted through."""
    mounts = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    for mount in reversed([m for m in mounts if m.startswith(f"{directory}/")]):
        call(["umount", "--lazy", mount])
    if directory.exists():
        shutil.rmtree(directory)


def _path(number: int) -> Path:
    return RECORDS / f"{number}.json"


@contextlib.contextmanager
def _registry_lock() -> Iterator[None]:
    """Exclusive for claims and for the end of records. The folder itself is the lock and may be removed meanwhile."""
    while True:
        RECORDS.mkdir(mode=0o700, exist_ok=True)
        try:
            descriptor = os.open(RECORDS, os.O_RDONLY | os.O_DIRECTORY)
        except FileNotFoundError:
            continue
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            if _same_file(descriptor, RECORDS):
                yield
                return
        finally:
            os.close(descriptor)


@contextlib.contextmanager
def _record_lock(record: Record) -> Iterator[bool]:
    """Only one process removes a lab; the others find, when their turn comes, that the record is no longer its."""
    path = _path(record.number)
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        yield False
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield _same_file(descriptor, path) and read(record.number) == record
    finally:
        os.close(descriptor)


def _same_file(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False
