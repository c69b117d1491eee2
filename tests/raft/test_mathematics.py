"""The pure modules against naive second implementations, over everything hypothesis thinks of."""

from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from essaim.raft.core.entries import Entry
from essaim.raft.core.log_view import LogView
from essaim.raft.core.members import (
    Change,
    ChangeKind,
    Configuration,
    RefusedChange,
    change,
    decode_configuration,
    encode_configuration,
    first_configuration,
    leave_joint,
)
from essaim.raft.core.progress import Progress, Sending
from essaim.raft.core.quorum import NO_LIMIT, Vote, committed, joint_committed, joint_tally, tally

voters = st.sets(st.integers(1, 9), max_size=7)
matches = st.dictionaries(st.integers(1, 9), st.integers(0, 12))


def majorities(members: set[int]) -> list[set[int]]:
    need = len(members) // 2 + 1
    return [set(c) for size in range(need, len(members) + 1) for c in combinations(sorted(members), size)]


@given(voters, matches)
def test_committed_is_what_some_majority_has(members: set[int], match: dict[int, int]) -> None:
    naive = max((min(match.get(m, 0) for m in group) for group in majorities(members)), default=NO_LIMIT)
    assert committed(members, lambda m: match.get(m, 0)) == naive


@given(voters, voters, matches)
def test_joint_committed_needs_both_halves(a: set[int], b: set[int], match: dict[int, int]) -> None:
    def has(m: int) -> int:
        return match.get(m, 0)

    assert joint_committed(a, b, has) == min(committed(a, has), committed(b, has))
    assert joint_committed(a, set(), has) == committed(a, has)


@given(voters, st.dictionaries(st.integers(1, 9), st.booleans()))
def test_tally_is_won_with_a_majority_and_lost_when_none_is_left(members: set[int], votes: dict[int, bool]) -> None:
    groups = majorities(members)
    won = not members or any(all(votes.get(m) for m in group) for group in groups)
    lost = not won and not any(all(votes.get(m, True) for m in group) for group in groups)
    assert tally(members, votes) is (Vote.WON if won else Vote.LOST if lost else Vote.PENDING)
    assert joint_tally(members, set(), votes) is tally(members, votes)


steps = st.lists(
    st.builds(Change, st.sampled_from(list(ChangeKind)), st.integers(1, 8), st.sampled_from(["", "host:1"])), max_size=5
)


@given(st.sets(st.integers(1, 5), min_size=1), st.lists(steps, max_size=5))
def test_changes_keep_majorities_of_neighbours_overlapping(first: set[int], rounds: list[list[Change]]) -> None:
    now = first_configuration({m: f"m{m}" for m in first})
    for wish in rounds:
        try:
            new = change(now, wish)
        except RefusedChange:
            continue
        assert decode_configuration(encode_configuration(new)) == new
        for before, after in ((now, new), (new, leave_joint(new) if new.joint else new)):
            assert overlap(before, after)
        end = leave_joint(new) if new.joint else new
        assert set(end.addresses) == set(end.everyone)
        assert not set(end.voters) & set(end.learners)
        assert not set(end.removed) & set(end.everyone)
        now = end


def overlap(a: Configuration, b: Configuration) -> bool:
    """Whether no two disjoint sets of members can decide in `a` and in `b`."""

    def deciding(c: Configuration) -> list[set[int]]:
        incoming = majorities(set(c.voters))
        return [x | y for x in incoming for y in majorities(set(c.outgoing))] if c.joint else incoming

    return all(x & y for x in deciding(a) for y in deciding(b))


def test_change_of_one_voter_is_simple_and_of_two_is_joint() -> None:
    now = first_configuration({1: "a", 2: "b", 3: "c"})
    assert not change(now, [Change(ChangeKind.PROMOTE, 4, "d")]).joint
    both = change(now, [Change(ChangeKind.PROMOTE, 4, "d"), Change(ChangeKind.REMOVE, 1)])
    assert (both.voters, both.outgoing) == ((2, 3, 4), (1, 2, 3))
    demoted = change(now, [Change(ChangeKind.DEMOTE, 1), Change(ChangeKind.DEMOTE, 2)])
    assert demoted.learners == ()  # they still decide with the old half
    assert leave_joint(demoted).learners == (1, 2)


@pytest.mark.parametrize(
    ("steps", "why"),
    [
        ([Change(ChangeKind.REMOVE, 1), Change(ChangeKind.REMOVE, 2)], "last manager"),
        ([Change(ChangeKind.ADD_LEARNER, 9)], "address"),
        ([Change(ChangeKind.ADD_LEARNER, 1, "x")], "voter already"),
        ([Change(ChangeKind.REMOVE, 7)], "not a member"),
        ([Change(ChangeKind.ADD_LEARNER, 3, "x")], "was removed"),
        ([Change(ChangeKind.ADD_LEARNER, 1 << 64, "x")], "not a member id"),
    ],
)
def test_change_that_makes_no_sense_is_refused(steps: list[Change], why: str) -> None:
    now = change(first_configuration({1: "a", 2: "b", 3: "c"}), [Change(ChangeKind.REMOVE, 3)])
    with pytest.raises(RefusedChange, match=why):
        change(now, steps)


terms = st.lists(st.integers(1, 5), max_size=12).map(sorted)


def log_of(values: list[int]) -> LogView:
    return LogView(entries=[Entry(i, term) for i, term in enumerate(values, 1)])


@given(terms, terms)
def test_merge_makes_the_log_the_leaders_up_to_what_it_sent(own: list[int], sent: list[int]) -> None:
    log = log_of(own)
    entries = [Entry(i, term) for i, term in enumerate(sent, 1)]
    log.merge(entries)
    assert [log.term_at(e.index) for e in entries] == sent
    conflict = any(a != b for a, b in zip(own, sent, strict=False))
    assert log.last == (len(sent) if conflict else max(len(own), len(sent)))
    assert log.durable <= log.last


@given(terms, terms)
def test_conflict_hint_is_never_before_the_newest_common_entry(follower: list[int], leader: list[int]) -> None:
    """Hints may skip only what cannot match: real logs agree on a common prefix and differ behind it."""
    common = 0
    while common < min(len(follower), len(leader)) and follower[common] == leader[common]:
        common += 1
    at = len(leader)
    hint, term = log_of(follower).conflict_hint(at, leader[-1] if leader else 0)
    answer, _ = log_of(leader).conflict_hint(hint, term)
    assert answer >= min(common, hint)
    assert hint >= min(common, at)


@given(st.lists(st.tuples(st.sampled_from("sar"), st.integers(0, 30)), max_size=60))
def test_progress_keeps_match_below_next(events: list[tuple[str, int]]) -> None:
    progress = Progress(10)
    for kind, index in events:
        if kind == "s" and not progress.paused(4):
            progress.sent(progress.next + 1, entries=2)
        elif kind == "a":
            progress.acknowledged(index)
        else:
            progress.rejected(index, index)
        assert 0 <= progress.match < progress.next
        assert len(progress.inflight) <= 4
        assert progress.state is not Sending.SNAPSHOT


def test_log_refuses_to_replace_what_is_committed() -> None:
    log = log_of([1, 1, 2])
    log.committed = 2
    with pytest.raises(AssertionError, match="committed"):
        log.truncate(2)
    log.truncate(3)
    assert log.last == 2


@given(
    base=st.integers(0, 5),
    sizes=st.lists(st.integers(0, 200), max_size=12),
    end=st.integers(0, 12),
    count=st.integers(0, 14),
    most=st.integers(0, 900),
)
def test_kept_entries_are_the_last_within_count_and_bytes(
    base: int, sizes: list[int], end: int, count: int, most: int
) -> None:
    entries = [Entry(base + number, 1, data=bytes(size)) for number, size in enumerate(sizes, 1)]
    log = LogView(base, 1, entries)
    last = min(base + end, log.last)
    kept: list[Entry] = []
    for entry in reversed(entries[: last - base]):
        if len(kept) == count or sum(len(e.data) + 32 for e in [*kept, entry]) > most:
            break
        kept.append(entry)
    assert log.first_of(last, count=count, max_bytes=most) == last + 1 - len(kept)
