from essaim.raft.policy import SnapshotPolicy


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


def test_policy_staggered_is_due_earlier_by_a_third_at_most() -> None:
    policy = SnapshotPolicy(entries=90, share=0, most=900)
    policy.stagger(1.0)
    assert (policy.entries, policy.most) == (60, 600)
