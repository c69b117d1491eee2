"""Docker's rules for a HEALTHCHECK's verdict."""

from hypothesis import given
from hypothesis import strategies as st

from essaim.agent.runtime.durations import HealthPlan
from essaim.agent.runtime.health import HealthJudge
from essaim.agent.runtime.interface import Health

PLAN = HealthPlan(["CMD", "x"], interval=10, timeout=1, retries=3, start_period=60, start_interval=2)


def test_judge_is_healthy_after_the_first_success() -> None:
    judge = HealthJudge(PLAN, 0)
    assert judge.verdict is Health.STARTING
    assert judge.take(True, 1) is Health.HEALTHY


def test_judge_does_not_count_failures_of_the_start_period() -> None:
    judge = HealthJudge(PLAN, 0)
    assert [judge.take(False, moment) for moment in (10, 20, 30, 40)] == [Health.STARTING] * 4
    assert [judge.take(False, moment) for moment in (61, 62, 63)] == [Health.STARTING] * 2 + [Health.UNHEALTHY]


def test_judge_counts_failures_after_a_success_within_the_start_period() -> None:
    judge = HealthJudge(PLAN, 0)
    judge.take(True, 1)
    assert [judge.take(False, moment) for moment in (2, 3, 4)] == [Health.HEALTHY] * 2 + [Health.UNHEALTHY]
    assert judge.take(True, 5) is Health.HEALTHY


def test_pause_is_short_only_while_it_starts() -> None:
    judge = HealthJudge(PLAN, 0)
    assert judge.pause(1) == 2
    assert judge.pause(61) == 10
    judge.take(True, 1)
    assert judge.pause(1) == 10


@given(st.lists(st.booleans(), max_size=40))
def test_judge_is_unhealthy_exactly_after_three_failures_in_a_row(results: list[bool]) -> None:
    judge = HealthJudge(HealthPlan(["CMD", "x"], 1, 1, 3, 0, 1), 0)
    for count, result in enumerate(results, start=1):
        verdict = judge.take(result, 1)
        in_a_row = not any(results[max(count - 3, 0) : count]) and count >= 3
        assert (verdict is Health.UNHEALTHY) == in_a_row
