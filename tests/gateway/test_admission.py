"""Who gives a place to a new connection when a worker is full."""

from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from essaim.gateway.runtime.deadlines import Deadlines
from essaim.gateway.worker.admission import Admission


@dataclass(eq=False)
class One:
    deadlines: Deadlines = field(repr=False)
    rank: int | None
    deadline: float
    evicted: bool = False

    def spare(self) -> int | None:
        return self.rank

    def evict(self) -> None:
        self.evicted = True
        self.deadlines.members.discard(self)

    def expire(self) -> None:
        raise AssertionError("nothing expires here")


@dataclass(eq=False)
class InUse:
    """One that does not know about places to give, as a replica's connection."""

    deadline: float

    def expire(self) -> None:
        raise AssertionError("nothing expires here")


members = st.lists(st.tuples(st.sampled_from([None, 0, 1]), st.integers(0, 5)), max_size=12)


@given(members, st.integers(1, 12), st.integers(1, 12))
def test_admission_gives_the_places_of_those_that_nobody_misses_in_order(
    there: list[tuple[int | None, int]], room: int, come: int
) -> None:
    deadlines = Deadlines()
    ones = [One(deadlines, rank, float(deadline)) for rank, deadline in there]
    deadlines.members.update(ones)
    deadlines.members.add(InUse(0.0))
    admission = Admission(deadlines, room)
    for _ in range(come):
        left = [(one.rank, one.deadline) for one in ones if one.rank is not None and not one.evicted]
        is_full = len(deadlines.members) >= room
        gone = [one for one in ones if one.evicted]
        admitted = admission.admit()
        new = [one for one in ones if one.evicted and one not in gone]
        assert admitted == (not is_full or bool(left))
        assert [(one.rank, one.deadline) for one in new] == ([min(left)] if is_full and left else [])
        if admitted:
            # Whom it was for is busy.
            deadlines.members.add(InUse(0.0))
    counts = admission.refused()
    assert counts["evicted"] == sum(one.evicted for one in ones)


def test_admission_takes_no_place_of_one_that_has_been_in_use_since() -> None:
    deadlines = Deadlines()
    first, second = One(deadlines, 0, 1.0), One(deadlines, 0, 2.0)
    third = One(deadlines, 0, 3.0)
    deadlines.members.update([first, second, third])
    admission = Admission(deadlines, 3)
    assert admission.admit()
    assert first.evicted
    deadlines.members.add(InUse(0.0))
    second.deadline, second.rank = 9.0, None
    assert admission.admit()
    assert third.evicted
    assert not second.evicted


def test_sources_that_have_a_quarter_of_a_crowded_room_get_no_more_at_any_port() -> None:
    deadlines = Deadlines()
    admission = Admission(deadlines, 16)
    one, other = admission.sources(), admission.sources()
    assert [one.enter("192.0.2.1", 0) for _ in range(3)] == [True] * 3
    deadlines.members.update(InUse(0.0) for _ in range(12))
    assert [other.enter("192.0.2.1", 0) for _ in range(2)] == [True, False]
    assert other.enter("192.0.2.2", 0)
    assert admission.refused()["source"] == 1
    for sources, count in ((one, 3), (other, 2)):
        for _ in range(count):
            sources.leave("192.0.2.1")
    assert [other.enter("192.0.2.1", 0) for _ in range(4)] == [True] * 4
    deadlines.members.clear()
    assert [one.enter("192.0.2.1", 0) for _ in range(20)] == [True] * 20
