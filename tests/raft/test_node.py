import asyncio
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from essaim.raft.core.entries import entries_size
from essaim.raft.interface import Log, Membership, NoQuorum, Refused, Stopped, Uncertain
from essaim.raft.member.node import Options, RaftLog, Timing
from essaim.raft.member.policy import SnapshotPolicy
from tests.ports import free_port

sys.path.insert(0, str(Path(__file__).parent))
from cluster import Host, Local, eventually, local_cluster

PATIENT = Timing(leaderless=30.0)  # on a machine that is very busy
SNAPSHOTS = Options(timing=PATIENT, policy=lambda: SnapshotPolicy(entries=100, share=0), keep_entries=10)
HASTY = Options(timing=Timing(leaderless=1.0))


@pytest.fixture
async def three(tmp_path: Path) -> AsyncIterator[Local]:
    async with local_cluster(tmp_path, 3, Options(timing=PATIENT)) as cluster:
        yield cluster


async def test_node_proposals_on_every_member_are_applied_in_one_order(three: Local) -> None:
    await three.leader()
    logs: list[Log] = list(three.logs.values())
    results = await asyncio.gather(*(logs[i % 3].propose(b"%d" % i) for i in range(300)))
    commands = await three.same()
    assert sorted(map(int, commands)) == list(range(300))
    assert sorted(results) == list(range(1, 301))


async def test_node_read_barrier_on_a_follower_sees_every_acknowledged_write(three: Local) -> None:
    leader = await three.leader()
    follower = next(i for i in three.logs if i != leader)
    for i in range(20):
        await three.logs[leader].propose(b"%d" % i)
        await three.logs[follower].read_barrier()
        assert three.hosts[follower].journal.commands[-1] == b"%d" % i


async def test_node_leader_stops_and_pending_writes_carry_over(three: Local) -> None:
    leader = await three.leader()
    follower = next(i for i in three.logs if i != leader)
    log = three.logs[follower]
    writes = [asyncio.create_task(log.propose(b"%d" % i)) for i in range(50)]
    await asyncio.sleep(0)
    await three.hosts[leader].stop()
    await asyncio.gather(*writes)
    left = [i for i in three.hosts if i != leader]
    assert sorted(map(int, await three.same(*left))) == list(range(50))
    await three.hosts[leader].start()
    await three.leader()
    assert len(await three.same()) == 50


async def test_node_without_quorum_fails_fast_and_keeps_its_state(tmp_path: Path) -> None:
    async with local_cluster(tmp_path, 3, HASTY) as cluster:
        await fails_fast(cluster)


async def fails_fast(three: Local) -> None:
    leader = await three.leader()
    await three.logs[leader].propose(b"kept")
    await three.same()
    others = [i for i in three.hosts if i != leader]
    for other in others:
        await three.hosts[other].stop()
    log = three.logs[leader]
    with pytest.raises((NoQuorum, Uncertain)):
        await log.propose(b"lost")
    await eventually(lambda: log.leadership.leader_id == 0, "it has stepped down")
    with pytest.raises(NoQuorum, match="no leader"):
        await log.propose(b"refused", timeout=10)
    with pytest.raises(NoQuorum):
        await log.read_barrier()
    assert three.hosts[leader].journal.commands == [b"kept"]
    await three.hosts[others[0]].start()
    await three.leader()
    await log.read_barrier()
    assert await three.same(leader, others[0])


async def test_node_joins_catches_up_by_snapshot_and_is_promoted(tmp_path: Path) -> None:
    async with local_cluster(tmp_path, 1, SNAPSHOTS) as cluster:
        await cluster.leader()
        first = cluster.logs[1]
        for start in range(0, 600, 100):
            await asyncio.gather(*(first.propose(b"%d" % i) for i in range(start, start + 100)))
        await eventually(lambda: first._driver.core.state.log.base > 100, "the log is compacted")
        for member, port in enumerate((free_port(), free_port()), 2):
            host = cluster.hosts[member] = Host(tmp_path / str(member), member, port, SNAPSHOTS)
            membership: Membership = await host.start()
            await first.add_learner(member, host.address)
            await eventually(lambda m=membership: m.members(), "it has the configuration")
            await membership.promote(member)  # asked of the new one, decided by the leader
        assert [view.is_voter for view in first.members()] == [True] * 3
        assert len(await cluster.same()) == 600
        assert cluster.logs[3]._driver.core.state.log.base > 100
        await cluster.hosts[1].stop()
        await cluster.logs[3].propose(b"without the first", timeout=20)


async def test_node_removed_member_stops_and_the_rest_goes_on(three: Local) -> None:
    leader = await three.leader()
    await three.logs[leader].propose(b"one")
    victim = next(i for i in three.logs if i != leader)
    await three.logs[victim].remove(leader)
    removed = three.logs[leader]

    async def refused() -> str:
        with pytest.raises(Stopped) as caught:
            await removed.propose(b"late", timeout=5)
        return str(caught.value)

    await eventually(lambda: removed.leadership.leader_id == 0, "it knows")
    assert "removed from the cluster" in await refused()
    await three.logs[victim].propose(b"two")
    assert [view.id for view in three.logs[victim].members()] == [i for i in three.hosts if i != leader]


async def test_node_change_that_costs_the_quorum_is_refused_unless_forced(three: Local) -> None:
    leader = await three.leader()
    down, other = (i for i in three.hosts if i != leader)
    await three.hosts[down].stop()
    log = three.logs[leader]
    await eventually(lambda: not log._driver.transport.connected(down), "the leader noticed")
    with pytest.raises(Refused, match="may result in loss of quorum"):
        await log.remove(other)
    with pytest.raises(Refused, match="may result in loss of quorum"):
        await log.demote(other)
    await log.remove(down)
    assert {view.id for view in log.members()} == {leader, other}


async def test_node_transfer_makes_the_other_lead(three: Local) -> None:
    leader = await three.leader()
    target = next(i for i in three.logs if i != leader)
    await three.logs[leader].transfer(target)
    assert await three.leader() == target


async def test_node_force_new_cluster_goes_on_alone_with_everything(three: Local) -> None:
    leader = await three.leader()
    await asyncio.gather(*(three.logs[leader].propose(b"%d" % i) for i in range(20)))
    await three.same()
    for other in [i for i in three.hosts if i != leader]:
        await three.hosts[other].stop()
    log = three.logs[leader]
    await log.force_new_cluster()
    await log.propose(b"alone", timeout=10)
    assert three.hosts[leader].journal.commands[-1] == b"alone"
    assert len(three.hosts[leader].journal.commands) == 21
    assert [view.id for view in log.members()] == [leader]


async def test_node_full_disk_stops_it_and_space_brings_it_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = Options(timing=Timing(disk_retry=0.05, leaderless=30.0))
    async with local_cluster(tmp_path, 3, options) as cluster:
        leader = await cluster.leader()
        victim = cluster.logs[leader]
        real = victim._driver.storage.save

        def full(*_: object) -> None:
            raise OSError(28, "No space left on device")

        victim._driver.storage.save = full
        with pytest.raises(Uncertain):
            await victim.propose(b"perhaps")
        victim._driver.storage.save = real
        other = next(i for i in cluster.logs if i != leader)
        await cluster.logs[other].propose(b"others go on", timeout=20)
        await eventually(lambda: victim.leadership.leader_id not in (0, leader), "it takes part again")
        await victim.propose(b"back", timeout=20)
        assert (await cluster.same())[-1] == b"back"


async def test_node_alone_restarts_with_its_state(tmp_path: Path) -> None:
    async with local_cluster(tmp_path, 1, SNAPSHOTS) as cluster:
        for i in range(250):
            await cluster.logs[1].propose(b"%d" % i)
        await cluster.hosts[1].stop()
        log = await cluster.hosts[1].start()
        await log.read_barrier(timeout=10)
        assert len(cluster.hosts[1].journal.commands) == 250


async def test_node_start_refuses_a_directory_in_use(tmp_path: Path) -> None:
    async with local_cluster(tmp_path, 1) as cluster:
        other = RaftLog(tmp_path / "1", cluster.hosts[1].journal, member_id=1, address="127.0.0.1:1")
        with pytest.raises(Exception, match="in use by another process"):
            await other.start()


async def test_node_holds_few_bytes_of_its_log_in_memory_however_large_the_entries(tmp_path: Path) -> None:
    options = Options(timing=PATIENT, policy=lambda: SnapshotPolicy(size=1 << 20, share=0), keep_bytes=256 << 10)
    async with local_cluster(tmp_path, 1, options) as cluster:
        for _ in range(100):
            await cluster.logs[1].propose(bytes(64 << 10))
        core = cluster.logs[1]._driver.running
        assert core is not None
        log = core.state.log

        def held() -> int:
            return entries_size(log.slice(log.base + 1, log.last))

        await eventually(lambda: held() <= (1 << 20) + (256 << 10), "what a snapshot covers is no longer in memory")
