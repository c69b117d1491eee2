"""The share of a replica's latest requests that failed, against a version that keeps every request."""

from itertools import accumulate

from hypothesis import given
from hypothesis import strategies as st

from essaim.gateway.upstream.failure_rate import PARTS, FailureRate

STEPS = st.lists(st.tuples(st.booleans(), st.sampled_from([0.0, 0.1, 0.5, 1.0, 3.7, 9.9, 10.0, 25.0])), max_size=80)


@given(STEPS, st.sampled_from([1.0, 10.0, 60.0]), st.floats(0.0, 1e6))
def test_failure_rate_counts_what_is_in_the_window(
    steps: list[tuple[bool, float]], seconds: float, start: float
) -> None:
    """What is surely inside is counted, what is surely outside is not; a part in between goes as a whole."""
    rate = FailureRate(seconds)
    times = list(accumulate((step for _, step in steps), initial=start))[1:]
    for count, ((failed, _), now) in enumerate(zip(steps, times, strict=True), 1):
        rate.add(failed, now)
        so_far = list(zip((one for one, _ in steps), times, strict=True))[:count]
        parts = [(bad, int(at * PARTS / seconds)) for bad, at in so_far]
        counted = [bad for bad, part in parts if part > parts[-1][1] - PARTS]
        assert (rate.requests, rate.failures) == (len(counted), sum(counted))
        slack = 1e-6
        inside = [bad for bad, at in so_far if now - at < seconds * (1 - 1 / PARTS) - slack]
        around = [bad for bad, at in so_far if now - at < seconds + slack]
        assert len(inside) <= rate.requests <= len(around)
        assert sum(inside) <= rate.failures <= sum(around)


@given(STEPS, st.integers(1, 100), st.integers(1, 30))
def test_failure_rate_is_reached_with_enough_requests_of_which_enough_failed(
    steps: list[tuple[bool, float]], percent: int, least: int
) -> None:
    rate = FailureRate(1000.0)
    for failed, _ in steps:
        rate.add(failed, 5.0)
    failures = [failed for failed, _ in steps].count(True)
    assert rate.reaches(percent, least) == (len(steps) >= least and failures >= len(steps) * percent / 100)


def test_failure_rate_memory_does_not_grow_and_a_rest_forgets_all() -> None:
    rate = FailureRate(10.0)
    for number in range(10_000):
        rate.add(number % 2 == 0, number / 100)
    assert rate.requests <= 1000
    assert rate.explain() == f"{rate.failures} of {rate.requests} requests in 10 s failed"
    rate.add(True, 1e9)
    assert (rate.requests, rate.failures) == (1, 1)
