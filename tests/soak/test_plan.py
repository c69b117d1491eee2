"""The plan is the seed's alone: the same seed gives the same faults, and each can be repeated by itself."""

from itertools import islice

from hypothesis import given
from hypothesis import strategies as st

from .faults import BY_TITLE, NOT_YET, SLOW
from .plan import steps

KINDS = ("a", "b", "c", "d", "e")


@given(st.text(max_size=5), st.integers(0, 40))
def test_plan_from_any_place_is_that_of_the_whole_run(seed: str, first: int) -> None:
    whole = list(islice(steps(seed, KINDS), first + 8))[first:]
    part = list(islice(steps(seed, KINDS, first), 8))
    assert [(s.index, s.kind, s.chance.random()) for s in whole] == [(s.index, s.kind, s.chance.random()) for s in part]


@given(st.text(max_size=5), st.integers(0, 5))
def test_plan_has_every_kind_once_a_round(seed: str, turn: int) -> None:
    part = list(islice(steps(seed, KINDS, turn * len(KINDS)), len(KINDS)))
    assert sorted(step.kind for step in part) == sorted(KINDS)


def test_plan_of_another_seed_differs() -> None:
    plans = {tuple(step.kind for step in islice(steps(str(seed), KINDS), 10)) for seed in range(20)}
    assert len(plans) > 10


def test_kinds_that_the_slice_leaves_out_exist_and_those_for_its_time_have_one_in_it() -> None:
    assert {*NOT_YET, *SLOW} <= BY_TITLE.keys()
    assert not NOT_YET.keys() & SLOW.keys()
    assert set(SLOW.values()) <= BY_TITLE.keys() - NOT_YET.keys() - SLOW.keys()
