"""Which membership changes are safe, against a second, naive version that tries out who could go on."""

from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from essaim.raft.core.guard import LAG, Premature, Situation, Standing, judge
from essaim.raft.core.members import Change, ChangeKind, Configuration, RefusedChange, change, first_configuration

UP = Standing(match=10, up=True)


def of(voters: int, learners: int = 0) -> Configuration:
    now = first_configuration({i: f"m{i}" for i in range(1, voters + 1)})
    for number in range(voters + 1, voters + learners + 1):
        now = change(now, [Change(ChangeKind.ADD_LEARNER, number, f"m{number}")])
    return now


def situation(now: Configuration, **odd: Standing) -> Situation:
    standings = {member: odd.get(f"m{member}", UP) for member in now.everyone}
    return Situation(now, settled=8, last=10, standings=standings)


def promote(member: int) -> list[Change]:
    return [Change(ChangeKind.PROMOTE, member)]


def remove(member: int) -> list[Change]:
    return [Change(ChangeKind.REMOVE, member)]


def test_guard_learner_that_is_up_and_has_the_log_becomes_a_voter() -> None:
    assert judge(situation(of(1, 1)), promote(2)).voters == (1, 2)


@pytest.mark.parametrize(
    ("standing", "reason"),
    [
        (Standing(match=0, up=True), "not answered yet"),
        (Standing(match=0, up=False), "not answered yet"),
        (Standing(match=10, up=False), "does not answer"),
        (Standing(match=7, up=True), "not caught up"),  # it does not know yet that it is a learner
    ],
)
def test_guard_learner_that_cannot_vote_yet_waits_even_by_force(standing: Standing, reason: str) -> None:
    for force in (False, True):
        with pytest.raises(Premature, match=reason):
            judge(situation(of(1, 1), m2=standing), promote(2), force=force)


def test_guard_learner_that_lags_far_behind_waits() -> None:
    now = of(1, 1)
    far = Situation(now, settled=8, last=9 + LAG, standings={1: UP, 2: Standing(match=8, up=True)})
    with pytest.raises(Premature, match="not caught up"):
        judge(far, promote(2))


def test_guard_stranger_gets_no_vote() -> None:
    with pytest.raises(RefusedChange, match="not a member"):
        judge(situation(of(1)), [Change(ChangeKind.PROMOTE, 9, "m9")])


def test_guard_removal_that_leaves_no_quorum_needs_force() -> None:
    three = situation(of(3), m3=Standing(match=5, up=False))
    assert judge(three, remove(3)).voters == (1, 2)
    with pytest.raises(RefusedChange, match="loss of quorum"):
        judge(three, remove(2))
    assert judge(three, remove(2), force=True).voters == (1, 3)


def test_guard_replacement_needs_a_quorum_of_the_old_and_of_the_new() -> None:
    now = of(3, 2)
    replace = [*promote(4), *promote(5), *remove(2), *remove(3)]
    assert judge(situation(now), replace).joint
    down = Standing(match=10, up=False)
    with pytest.raises(RefusedChange, match="loss of quorum"):
        judge(situation(now, m2=down, m3=down), replace)


def goes_on(voters: tuple[int, ...], up: set[int]) -> bool:
    """Whether some majority of the voters is up: every majority is tried."""
    size = len(voters) // 2 + 1
    return any(set(majority) <= up for majority in combinations(voters, size))


standings = st.builds(Standing, match=st.sampled_from([0, 5, 8, 10]), up=st.booleans())
steps = st.lists(
    st.builds(Change, st.sampled_from([ChangeKind.PROMOTE, ChangeKind.REMOVE, ChangeKind.DEMOTE]), st.integers(1, 8)),
    min_size=1,
    max_size=4,
)


@given(st.integers(1, 5), st.integers(0, 3), st.lists(standings, min_size=8, max_size=8), steps, st.booleans())
def test_guard_what_it_lets_pass_leaves_a_cluster_that_goes_on(
    voters: int, learners: int, known: list[Standing], changes: list[Change], force: bool
) -> None:
    now = of(voters, learners)
    found = {member: known[member - 1] for member in now.everyone}
    up = {member for member, standing in found.items() if standing.up}
    fit = {m for m, s in found.items() if s.up and s.match >= 8}
    promoted = {step.member for step in changes if step.kind is ChangeKind.PROMOTE}
    try:
        new = change(now, changes)
    except RefusedChange:
        with pytest.raises(RefusedChange):
            judge(Situation(now, 8, 10, found), changes, force=force)
        return
    same = {*new.voters, *new.outgoing} == set(now.voters)
    safe = force or same or (goes_on(new.voters, up) and (not new.joint or goes_on(new.outgoing, up)))
    if promoted <= fit and safe:
        assert judge(Situation(now, 8, 10, found), changes, force=force) == new
    else:
        with pytest.raises((RefusedChange, Premature)):
            judge(Situation(now, 8, 10, found), changes, force=force)
