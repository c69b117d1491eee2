"""A cluster of one member, killed in mid-write again and again."""

import asyncio
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from essaim.raft.member.node import RaftLog

sys.path.insert(0, str(Path(__file__).parent))
from raft_machines import ALONE, Journal


async def recovered(directory: Path) -> Journal:
    journal = Journal()
    async with RaftLog(directory, journal, member_id=1, address=ALONE) as log:
        await log.read_barrier()
    return journal


@pytest.mark.blocking_allowed
def test_alone_kill_9_in_mid_write_loses_nothing_acknowledged(tmp_path: Path) -> None:
    acknowledged: set[int] = set()
    for lines in (300, 700, 1500):
        child = subprocess.Popen(
            [sys.executable, str(Path(__file__).parent / "raft_machines.py"), str(tmp_path)],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert child.stdout is not None
        with child.stdout:
            for _ in range(lines):
                acknowledged.add(int(child.stdout.readline()))
            child.send_signal(signal.SIGKILL)
            acknowledged.update(int(line) for line in child.stdout if line.endswith("\n"))
        child.wait()
        numbers = [int(command) for command in asyncio.run(recovered(tmp_path)).commands]
        assert acknowledged <= set(numbers)
        assert len(numbers) == len(set(numbers))
