"""Places of orders: what is stuck holds up nobody, whatever its resolver."""

from hypothesis import given
from hypothesis import strategies as st

from essaim.certificates.acme.loop import AT_ONCE, MOST, SLOW, Places


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_orders_beyond_the_limit_wait_while_the_others_are_quick() -> None:
    places = Places(Clock())
    assert [places.take(f"o{n}", "le") for n in range(AT_ONCE + 1)] == [True] * AT_ONCE + [False]
    places.leave("o0")
    assert places.take("next", "le")


def test_orders_of_one_resolver_do_not_wait_for_those_of_another() -> None:
    places = Places(Clock())
    for number in range(AT_ONCE):
        assert places.take(f"o{number}", "silent")
    assert places.take("mine", "le")


def test_orders_that_are_stuck_give_their_places_away() -> None:
    clock = Clock()
    places = Places(clock)
    for number in range(AT_ONCE):
        assert places.take(f"o{number}", "le")
    clock.now = SLOW
    assert places.take("next", "le")


@given(st.lists(st.tuples(st.floats(0, SLOW), st.booleans(), st.sampled_from("abc")), max_size=120))
def test_places_are_given_as_a_naive_count_says(happenings: list[tuple[float, bool, str]]) -> None:
    clock = Clock()
    places, held = Places(clock), list[tuple[str, str, float]]()
    for number, (pause, leaves, resolver) in enumerate(happenings):
        clock.now += pause
        if leaves and held:
            places.leave(held.pop(0)[0])
        fresh = [one for one in held if one[1] == resolver and clock.now < one[2] + SLOW]
        expected = len(fresh) < AT_ONCE and len(held) < MOST
        assert places.take(str(number), resolver) == expected
        if expected:
            held.append((str(number), resolver, clock.now))
