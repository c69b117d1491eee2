import asyncio
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from essaim.raft.interface import Leadership, Log, Stopped
from essaim.raft.policy import SnapshotPolicy
from essaim.raft.single import SingleLog

sys.path.insert(0, str(Path(__file__).parent))
from raft_machines import Journal


async def test_single_log_restart_applies_everything_again(tmp_path: Path) -> None:
    first = Journal()
    async with SingleLog(tmp_path, first) as log:
        checked: Log = log
        results = await asyncio.gather(*(checked.propose(b"%d" % i) for i in range(100)))
        await log.read_barrier()
    assert results == list(range(1, 101))
    again = Journal()
    async with SingleLog(tmp_path, again):
        assert again.items == first.items


async def test_single_log_snapshots_and_compacts(tmp_path: Path) -> None:
    first = Journal()
    async with SingleLog(tmp_path, first, policy=SnapshotPolicy(entries=50, share=0)) as log:
        for start in range(0, 300, 30):
            await asyncio.gather(*(log.propose(b"%d" % i) for i in range(start, start + 30)))
    assert list(tmp_path.glob("*.snap"))
    again = Journal()
    async with SingleLog(tmp_path, again):
        assert again.items == first.items


async def test_single_log_full_disk_stops_it_cleanly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = Journal()
    views: list[Leadership] = []
    async with SingleLog(tmp_path, journal) as log:
        log.on_leadership(views.append)
        await log.propose(b"good")

        def full(_: int) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr("os.fdatasync", full)
        with pytest.raises(Stopped, match="No space left"):
            await log.propose(b"lost")
        monkeypatch.undo()
        with pytest.raises(Stopped, match="No space left"):
            await log.propose(b"refused")
        with pytest.raises(Stopped):
            await log.read_barrier()
    assert journal.commands == [b"good"]
    assert [view.is_local for view in views] == [True, False]


async def test_single_log_stop_fails_what_is_pending(tmp_path: Path) -> None:
    log = SingleLog(tmp_path, Journal())
    with pytest.raises(Stopped):
        await log.propose(b"early")
    await log.start()
    tasks = [asyncio.create_task(log.propose(b"%d" % i)) for i in range(10)]
    await log.stop()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert all(isinstance(r, (int, Stopped)) for r in results)


@pytest.mark.blocking_allowed
def test_single_log_kill_9_in_mid_write_loses_nothing_acknowledged(tmp_path: Path) -> None:
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

        async def recovered() -> Journal:
            journal = Journal()
            async with SingleLog(tmp_path, journal):
                return journal

        journal = asyncio.run(recovered())
        numbers = [int(command) for command in journal.commands]
        assert acknowledged <= set(numbers)
        assert [index for index, _ in journal.items] == list(range(1, len(numbers) + 1))
