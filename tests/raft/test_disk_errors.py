"""What a member does when its disk or its process cannot take a write: wait where that passes, else halt."""

import asyncio
import errno
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from essaim.raft.interface import Stopped
from essaim.raft.member.node import Options, Timing
from essaim.raft.member.policy import SnapshotPolicy

sys.path.insert(0, str(Path(__file__).parent))
from cluster import eventually, local_cluster

SOON = Timing(disk_retry=0.05, leaderless=30.0)


@pytest.mark.blocking_allowed
def test_member_without_descriptors_at_a_segments_end_goes_on_when_there_are_some() -> None:
    script = Path(__file__).parent / "without_descriptors.py"
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    refused, first_and_last = done.stdout.splitlines()[-2:]
    assert "Too many open files; this member waits until that has passed" in refused
    assert first_and_last == "first last"


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE])
async def test_member_waits_for_what_passes_and_takes_part_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    async with local_cluster(tmp_path, 1, Options(timing=SOON)) as cluster:
        await cluster.leader()
        log = cluster.logs[1]
        failures = iter(range(3))
        real = log._driver.storage.save

        def fails_at_first(*arguments: Any) -> None:
            if next(failures, None) is not None:
                raise OSError(number, os.strerror(number))
            real(*arguments)

        monkeypatch.setattr(log._driver.storage, "save", fails_at_first)
        with pytest.raises(Stopped, match=os.strerror(number)):
            await log.propose(b"perhaps")
        assert log.halted == ""
        await eventually(lambda: log.leadership.is_local, "it leads again")
        await log.propose(b"back", timeout=20)
        assert cluster.hosts[1].journal.commands[-1] == b"back"


async def test_member_whose_disk_fails_halts_with_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with local_cluster(tmp_path, 3, Options(timing=SOON)) as cluster:
        leader = await cluster.leader()
        log = cluster.logs[leader]

        def broken(*_: object) -> None:
            raise OSError(errno.EIO, os.strerror(errno.EIO))

        monkeypatch.setattr(log._driver.storage, "save", broken)
        with pytest.raises(Stopped, match=r"Input/output error.*start essaimd again"):
            await log.propose(b"lost")
        assert str(log._driver.directory) in log.halted
        other = next(i for i in cluster.logs if i != leader)
        await cluster.logs[other].propose(b"the others go on", timeout=20)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EMFILE])
async def test_member_tries_a_snapshot_again_that_it_could_not_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    options = Options(timing=SOON, policy=lambda: SnapshotPolicy(entries=50, share=0), keep_entries=5)
    async with local_cluster(tmp_path, 1, options) as cluster:
        await cluster.leader()
        log = cluster.logs[1]
        snapshots = log._driver.storage.snapshots
        failures, real = iter(range(2)), snapshots.write

        def fails_at_first(*arguments: Any) -> None:
            if next(failures, None) is not None:
                raise OSError(number, os.strerror(number))
            real(*arguments)

        monkeypatch.setattr(snapshots, "write", fails_at_first)
        await asyncio.gather(*(log.propose(b"%d" % i, timeout=20) for i in range(60)))
        written = 60
        while not snapshots.paths():
            assert written < 2000, "no snapshot was written although the disk is well again"
            await log.propose(b"%d" % written, timeout=20)
            written += 1
            await asyncio.sleep(0.01)
        assert next(failures, None) is None
