"""New members of real logs: one that a late leader brings in, and one that nobody reaches."""

import asyncio
import sys
from pathlib import Path

import pytest

from essaim.raft.interface import NoQuorum
from essaim.raft.member.found import found_cluster
from essaim.raft.member.node import Options, Timing
from tests.ports import free_port

sys.path.insert(0, str(Path(__file__).parent))
from cluster import Host, Local, eventually

PATIENT = Options(timing=Timing(leaderless=30.0))


def host(folder: Path, member: int) -> Host:
    return Host(folder / str(member), member, free_port(), PATIENT)


async def test_joining_member_catches_up_with_a_leader_that_joined_late_itself(tmp_path: Path) -> None:
    """There is no snapshot: it replays the configuration of a time when the leader was no member."""
    hosts = {member: host(tmp_path, member) for member in (1, 2, 3)}
    await asyncio.to_thread(found_cluster, hosts[1].directory, {1: hosts[1].address})
    try:
        founder, late = await hosts[1].start(), await hosts[2].start()
        await Local({1: hosts[1]}).leader()
        for _ in range(24):
            await founder.propose(bytes(500_000), timeout=20)
        await founder.add_learner(2, hosts[2].address)
        await founder.promote(2)
        await founder.transfer(2)
        await eventually(lambda: late.leadership.is_local, "the second leads")
        new = await hosts[3].start()
        await late.add_learner(3, hosts[3].address)
        await late.promote(3, timeout=20)
        await eventually(lambda: new.leadership.leader_address == hosts[2].address, "it knows where the leader is")
        assert len(await Local(hosts).same(1, 2, 3)) == 24
    finally:
        for each in hosts.values():
            await each.stop()


async def test_joining_member_that_nobody_reaches_gets_no_vote(tmp_path: Path) -> None:
    only = host(tmp_path, 1)
    await asyncio.to_thread(found_cluster, only.directory, {1: only.address})
    try:
        log = await only.start()
        await Local({1: only}).leader()
        await log.add_learner(2, f"127.0.0.1:{free_port()}")
        with pytest.raises(NoQuorum):
            await log.promote(2, timeout=1.5)
        assert [view.is_voter for view in log.members()] == [True, False]
        await log.propose(b"it goes on", timeout=5)
        await log.remove(2)
        assert [view.id for view in log.members()] == [1]
    finally:
        await only.stop()
