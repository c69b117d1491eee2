"""The balancing policies: exact where they are exact, statistical (with a fixed seed) where they are not."""

import random
from collections import Counter
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from essaim.gateway.protocol.options import NAMES
from essaim.gateway.runtime.hashing import hash_key
from essaim.gateway.upstream.balance.choose import make_policy
from essaim.gateway.upstream.balance.ring import Ring
from essaim.gateway.upstream.balance.round_robin import RoundRobin, schedule
from essaim.gateway.upstream.balance.weights import SCALE, weigh


@dataclass(eq=False)
class Replica:
    key: str
    weight: int = 1
    open: int = 0
    load: float = 0.0
    version: int = 1
    since: float = 0.0


def replicas(*weights: int) -> list[Replica]:
    return [Replica(f"r{number}", weight) for number, weight in enumerate(weights)]


def turns() -> memoryview:
    return memoryview(bytearray(8)).cast("I")


@given(st.lists(st.integers(1, 20), min_size=1, max_size=8))
def test_round_robin_one_round_serves_everybody_by_weight(weights: list[int]) -> None:
    ready = replicas(*weights)
    order = schedule(ready)
    counts = Counter(one.key for one in order)
    assert all(counts[one.key] * sum(weights) == one.weight * len(order) for one in ready)


def test_round_robin_weights_are_spread_smoothly() -> None:
    assert [one.key for one in schedule(replicas(5, 1, 1))] == ["r0", "r0", "r1", "r0", "r2", "r0", "r0"]


def test_round_robin_huge_weights_are_scaled_down() -> None:
    order = schedule(replicas(1_000_000, 1))
    assert len(order) <= 2049
    assert {one.key for one in order} == {"r0", "r1"}


def test_round_robin_workers_that_share_the_counter_take_turns_together() -> None:
    counter, ready = turns(), replicas(1, 1, 1)
    workers: list[RoundRobin[Replica]] = [RoundRobin(counter, 1) for _ in range(4)]
    for worker in workers:
        worker.update(ready)
    picked = [random.Random(number).choice(workers).pick(0).key for number in range(30)]
    assert picked == ["r0", "r1", "r2"] * 10


def test_round_robin_counter_wraps_around() -> None:
    counter = turns()
    counter[0] = 0xFFFFFFFF
    policy: RoundRobin[Replica] = RoundRobin(counter, 0)
    policy.update(replicas(1))
    policy.pick(0)
    assert counter[0] == 0


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(1, 5)), min_size=1, max_size=8))
def test_least_connections_nobody_has_fewer_for_its_weight(loads: list[tuple[int, int]]) -> None:
    ready = [Replica(f"r{number}", weight, open_) for number, (open_, weight) in enumerate(loads)]
    policy = make_policy("least_connections", turns(), 0, random.random)
    policy.update(ready)  # type: ignore[arg-type]
    best = policy.pick(0)
    assert (best.open + 1) / best.weight == min((one.open + 1) / one.weight for one in ready)


def test_random_follows_the_weights() -> None:
    policy = make_policy("random", turns(), 0, random.Random(1).random)
    policy.update(replicas(1, 3))  # type: ignore[arg-type]
    counts = Counter(policy.pick(0).key for _ in range(20_000))
    assert counts["r1"] / counts["r0"] == pytest.approx(3, rel=0.1)


def test_least_time_slow_replica_gets_least() -> None:
    ready = replicas(1, 1, 1)
    ready[0].load, ready[1].load, ready[2].load = 0.010, 0.010, 0.200
    policy = make_policy("least_time", turns(), 0, random.Random(1).random)
    policy.update(ready)  # type: ignore[arg-type]
    counts = Counter(policy.pick(0).key for _ in range(9_000))
    # It is chosen only when chance offers it twice: one time in nine.
    assert counts["r2"] == pytest.approx(1_000, rel=0.15)


def test_ring_keys_are_spread_evenly() -> None:
    ring: Ring[Replica] = Ring()
    ring.update(replicas(1, 1, 1, 1, 1))
    counts = Counter(ring.pick(hash_key(b"%d" % key)).key for key in range(10_000))
    assert max(counts.values()) < 1.5 * min(counts.values())


@given(st.integers(2, 12), st.data())
def test_ring_replica_that_leaves_moves_only_its_own_keys(count: int, data: st.DataObject) -> None:
    ready = replicas(*[1] * count)
    gone = data.draw(st.sampled_from(ready))
    ring: Ring[Replica] = Ring()
    ring.update(ready)
    before = {key: ring.pick(hash_key(b"%d" % key)) for key in range(200)}
    ring.update([one for one in ready if one is not gone])
    for key, owner in before.items():
        if owner is not gone:
            assert ring.pick(hash_key(b"%d" % key)) is owner


def test_ring_overrun_replica_is_passed_over() -> None:
    ready = replicas(1, 1, 1)
    ring: Ring[Replica] = Ring()
    ring.update(ready)
    key = hash_key(b"hot")
    for _ in range(300):
        ring.pick(key).open += 1
    assert max(one.open for one in ready) <= 1.25 * 100 + 2


@pytest.mark.parametrize("name", NAMES)
def test_policy_serves_a_single_replica(name: str) -> None:
    policy = make_policy(name, turns(), 0, random.random)
    (only,) = ready = replicas(1)
    policy.update(ready)  # type: ignore[arg-type]
    assert [policy.pick(key) for key in range(5)] == [only] * 5


def test_weights_canary_gets_its_percent_whatever_the_numbers_of_replicas() -> None:
    ready = [Replica(f"old{number}", version=7) for number in range(4)] + [Replica("new", version=9)]
    weights, ramping = weigh(ready, {"latest": 5, "previous": 95}, 0.0, 0.0)
    assert not ramping
    assert weights[4] / sum(weights) == pytest.approx(0.05, abs=0.001)


def test_weights_version_without_a_share_gets_nothing_unless_nobody_would() -> None:
    ready = [Replica("a", version=1), Replica("b", version=2)]
    assert weigh(ready, {"2": 100}, 0.0, 0.0)[0] == [0, 10_000]
    assert weigh(ready, {"3": 100}, 0.0, 0.0)[0] == [SCALE, SCALE]


def test_weights_new_replica_ramps_up() -> None:
    ready = [Replica("old", since=-100.0), Replica("new", since=0.0)]
    assert weigh(ready, {}, 10.0, 0.0) == ([100, 10], True)
    assert weigh(ready, {}, 10.0, 5.0) == ([100, 50], True)
    assert weigh(ready, {}, 10.0, 10.0) == ([100, 100], False)
