import itertools

from hypothesis import given
from hypothesis import strategies as st

from essaim.raft.member.policy import SnapshotPolicy
from essaim.raft.member.snapshotter import LONGEST_PAUSE, pause_after


def test_policy_is_due_when_the_log_has_the_entries_and_the_share_of_the_last_snapshot() -> None:
    policy = SnapshotPolicy(entries=10, share=0.5, most=100)
    policy.written(1000)
    policy.applied(10, 400)
    assert not policy.due
    policy.applied(1, 100)
    assert policy.due
    policy.begun()
    assert not policy.due


def test_policy_is_due_after_so_many_entries_in_any_case() -> None:
    policy = SnapshotPolicy(entries=10, share=0.5, most=100)
    policy.written(1 << 30)
    policy.applied(99, 99)
    assert not policy.due
    policy.applied(1, 1)
    assert policy.due


def test_policy_is_due_after_so_many_bytes_of_few_entries() -> None:
    # They are held in memory until then.
    policy = SnapshotPolicy(entries=1000, size=500, share=1.0, most=10_000)
    policy.applied(5, 499)
    assert not policy.due
    policy.applied(1, 1)
    assert policy.due


def test_policy_of_a_large_state_lets_the_log_grow_to_its_share() -> None:
    policy = SnapshotPolicy(entries=1000, size=500, share=1.0, most=10_000)
    policy.written(2000)
    policy.applied(100, 1999)
    assert not policy.due
    policy.applied(1, 1)
    assert policy.due


def test_policy_staggered_is_due_earlier_by_a_third_at_most() -> None:
    policy = SnapshotPolicy(entries=90, size=300, share=0, most=900)
    policy.stagger(1.0)
    assert (policy.entries, policy.size, policy.most) == (60, 200, 600)


@given(st.integers(1, 5000), st.floats(0.001, 120))
def test_snapshot_that_cannot_be_written_is_tried_ever_later_up_to_a_minute(failures: int, first: float) -> None:
    pauses = [pause_after(number, first) for number in range(1, failures + 1)]
    assert pauses[0] == first
    assert pauses == sorted(pauses)
    assert pauses[-1] <= max(first, LONGEST_PAUSE)
    assert all(after == 2 * before or after >= LONGEST_PAUSE for before, after in itertools.pairwise(pauses))
