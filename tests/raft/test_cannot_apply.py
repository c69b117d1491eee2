"""A member whose state machine does not understand a command: it takes no part any more, and the others go on."""

import sys
from pathlib import Path

import pytest

from essaim.raft.interface import CannotApply, Stopped
from essaim.raft.member.node import Options, Timing

sys.path.insert(0, str(Path(__file__).parent))
from raft_machines import Journal

from cluster import eventually, local_cluster

PATIENT = Options(timing=Timing(leaderless=30.0))


class OldVersion(Journal):
    def apply(self, index: int, command: bytes) -> int:
        if command == b"new":
            raise CannotApply(f"the command {index} is new")
        return super().apply(index, command)


async def test_member_that_cannot_apply_halts_and_the_others_go_on(tmp_path: Path) -> None:
    async with local_cluster(tmp_path, 3, PATIENT) as cluster:
        leader = await cluster.leader()
        old = next(i for i in cluster.hosts if i != leader)
        cluster.logs[old]._driver._machine = cluster.hosts[old].journal = OldVersion()
        await cluster.logs[leader].propose(b"before", timeout=20)
        await cluster.same()
        await cluster.logs[leader].propose(b"new", timeout=20)
        await cluster.logs[leader].propose(b"after", timeout=20)
        await eventually(lambda: cluster.logs[old].halted, "it halts")
        assert "the command" in cluster.logs[old].halted
        assert cluster.hosts[old].journal.commands == [b"before"]
        with pytest.raises(Stopped, match="is new"):
            await cluster.logs[old].propose(b"x")
        # It does not vote either: of the other two, one alone is no quorum.
        other = next(i for i in cluster.hosts if i not in (leader, old))
        await cluster.hosts[leader].stop()
        await eventually(lambda: cluster.logs[other].leadership.leader_id == 0, "the leader is missed")
        assert not cluster.logs[other].leadership.is_local
        await cluster.hosts[leader].start()
        await cluster.logs[other].propose(b"on", timeout=20)


async def test_member_that_cannot_apply_halts_again_when_it_restarts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with local_cluster(tmp_path, 1, PATIENT) as cluster:
        await cluster.leader()
        await cluster.logs[1].propose(b"before", timeout=20)
        await cluster.logs[1].propose(b"new", timeout=20)
        await cluster.logs[1].propose(b"after", timeout=20)
        await cluster.hosts[1].stop()
        with monkeypatch.context() as patched:
            patched.setattr("cluster.Journal", OldVersion)
            log = await cluster.hosts[1].start()
            await eventually(lambda: log.halted, "it halts")
            assert cluster.hosts[1].journal.commands in ([], [b"before"])
            await cluster.hosts[1].stop()
        log = await cluster.hosts[1].start()  # upgraded
        await log.read_barrier(timeout=20)
        assert cluster.hosts[1].journal.commands == [b"before", b"new", b"after"]
