"""Who gets a place among connections, and who is put out, held against a naive second version."""

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from essaim.api.listen.admission import Admission, Full, Limits


@dataclass
class Held:
    key: int
    source: str
    waits: bool = True


class Naive:
    """One list, in the order of waiting."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.held: list[Held] = []

    def victims(self, source: str) -> list[int]:
        """Who may be put out for a newcomer: one of them, if there are any. Raises Full."""
        own = [c for c in self.held if c.source == source]
        if len(own) >= self.limits.by_source:
            return [self._longest(own)]
        if len(self.held) < self.limits.total:
            return []
        most = max(self._waiting_of(c.source) for c in self.held)
        crowds = {c.source for c in self.held if self._waiting_of(c.source) == most}
        return [self._longest([c for c in self.held if c.source == crowd]) for crowd in crowds]

    def _waiting_of(self, source: str) -> int:
        return sum(c.source == source and c.waits for c in self.held)

    def _longest(self, among: list[Held]) -> int:
        for connection in among:
            if connection.waits:
                return connection.key
        raise Full

    def turn(self, key: int, *, waits: bool) -> None:
        for connection in [c for c in self.held if c.key == key]:
            connection.waits = waits
            if waits:
                self.held.remove(connection)
                self.held.append(connection)

    def leave(self, key: int) -> None:
        self.held = [c for c in self.held if c.key != key]


STEP = st.one_of(
    st.tuples(st.just("enter"), st.sampled_from("abcd")),
    st.tuples(st.sampled_from(["served", "waits", "leave"]), st.integers(0, 30)),
)


@given(st.integers(1, 6), st.integers(1, 4), st.lists(STEP, max_size=60))
def test_admission_does_what_a_naive_version_does(
    total: int, by_source: int, steps: list[tuple[str, str | int]]
) -> None:
    limits = Limits(total, by_source)
    admission: Admission[int] = Admission(limits)
    naive, number = Naive(limits), 0
    for what, about in steps:
        if isinstance(about, str):
            number += 1
            _enter_both(admission, naive, number, about)
        elif what == "leave":
            admission.leave(about)
            naive.leave(about)
        else:
            getattr(admission, what)(about)
            naive.turn(about, waits=what == "waits")
        assert len(admission) == len(naive.held) <= total
        assert set(admission.waiting()) == {c.key for c in naive.held if c.waits}
        assert all(sum(c.source == source for c in naive.held) <= by_source for source in "abcd")


def _enter_both(admission: Admission[int], naive: Naive, key: int, source: str) -> None:
    try:
        allowed = naive.victims(source)
    except Full:
        with pytest.raises(Full):
            admission.enter(key, source)
        return
    victim = admission.enter(key, source)
    assert victim in allowed if allowed else victim is None
    if victim is not None:
        naive.leave(victim)
    naive.held.append(Held(key, source))


def test_admission_crowd_of_one_source_puts_out_itself() -> None:
    admission: Admission[str] = Admission(Limits(total=10, by_source=4))
    admission.enter("honest", "192.0.2.1")
    put_out = [admission.enter(f"crowd {n}", "192.0.2.66") for n in range(100)]
    assert put_out[:4] == [None] * 4
    assert put_out[4:] == [f"crowd {n}" for n in range(96)]
    assert "honest" in admission


def test_admission_newcomer_of_many_sources_goes_for_the_largest_crowd() -> None:
    admission: Admission[str] = Admission(Limits(total=4, by_source=3))
    for key, source in (("a", "one"), ("b", "two"), ("c", "two"), ("d", "three")):
        admission.enter(key, source)
    assert admission.enter("e", "four") == "b"


def test_admission_everybody_is_served_newcomer_is_refused_with_the_bound() -> None:
    admission: Admission[str] = Admission(Limits(total=2, by_source=1))
    for key in "ab":
        admission.enter(key, key)
        admission.served(key)
    with pytest.raises(Full, match="2 connections"):
        admission.enter("c", "c")
    with pytest.raises(Full, match="from a"):
        admission.enter("d", "a")
    admission.leave("a")
    assert admission.enter("c", "c") is None
