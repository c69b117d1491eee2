"""The keeper of one lab: a process that waits for the lab's owner to die, and then removes the lab.

It runs in a session of its own, so that neither Ctrl-C nor a killed process group takes it along. An owner that
leaves in good order removes the lab itself and then ends the keeper. Started as `python -m tests.lab.keeper N`.
"""

import contextlib
import os
import select
import subprocess
import sys
from pathlib import Path

from .commands import environment
from .registry import Record, is_alive, read, remove

ROOT = Path(__file__).parents[2]


def start(record: Record) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "tests.lab.keeper", str(record.number)],
        cwd=ROOT,
        env=environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def keep(record: Record) -> None:
    """Return when the owner is dead and the lab is gone."""
    with contextlib.suppress(ProcessLookupError):
        descriptor = os.pidfd_open(int(record.owner.split()[1]))
        # The pid may have been another process's by the time it was opened: then its owner is dead already.
        if is_alive(record.owner):
            select.select([descriptor], [], [])
        os.close(descriptor)
    remove(record)


if __name__ == "__main__":
    found = read(int(sys.argv[1]))
    if found:
        keep(found)
