"""When a silent node is away, and when it is down: by examples, and beside a naive reading of all that happened."""

from dataclasses import dataclass, field
from itertools import dropwhile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from essaim.cluster.wire import agent_patience, manager_patience
from essaim.scheduler.dispatch.liveness import ASK_EVERY, FRESH, GRACE, REPLY, Fate, Liveness

STEP = 0.25


def down_at(
    liveness: Liveness,
    start: float,
    end: float,
    *,
    unreachable: bool = False,
    state: str = "ready",
    witness: bool | str | None = "",
) -> float | None:
    """When node n is called down, looking every STEP seconds. `witness`: what one says each time that it is asked."""
    at = start
    while at <= end:
        fate = liveness.look({"n": state}, at, {"n"} if unreachable else ()).get("n")
        if fate is Fate.DOWN:
            return at
        if fate is Fate.AWAY:
            state = "unknown"
        if liveness.to_ask(at) and not isinstance(witness, str):
            liveness.asked("n", at)
            liveness.told("n", witness, at)
        at += STEP
    return None


def test_silent_node_is_down_after_three_periods() -> None:
    liveness = Liveness(1.0, 30.0)
    liveness.heard("n", 10)
    assert down_at(liveness, 10, 60) == 13


def test_silent_node_of_which_nothing_answers_is_down_just_as_soon() -> None:
    liveness = Liveness(1.0, 30.0)
    liveness.heard("n", 10)
    assert down_at(liveness, 10, 60, witness=False) == 13


def test_silent_node_whose_replicas_answer_is_down_only_when_its_grace_is_over() -> None:
    liveness = Liveness(1.0, 30.0)
    liveness.heard("n", 10)
    assert down_at(liveness, 10, 60, witness=True) == 40


def test_silent_node_whose_replicas_stop_answering_is_down_soon_after() -> None:
    liveness = Liveness(1.0, 30.0)
    liveness.heard("n", 10)
    assert down_at(liveness, 10, 20, witness=True) is None
    found = down_at(liveness, 20, 60, state="unknown", witness=False)
    assert found is not None
    assert 20 < found <= 20 + ASK_EVERY + FRESH + STEP


def test_node_that_said_goodbye_is_away_at_once_and_down_when_its_grace_is_over() -> None:
    liveness = Liveness(1.0, 30.0)
    liveness.left("n", 10)
    assert liveness.look({"n": "ready"}, 10.1) == {"n": Fate.AWAY}
    assert down_at(liveness, 10.25, 60) == 40


def test_node_that_said_goodbye_and_whose_replicas_ended_is_down_after_three_periods() -> None:
    liveness = Liveness(1.0, 30.0)
    liveness.left("n", 10)
    assert down_at(liveness, 10, 60, witness=False) == 13


def test_node_that_comes_back_is_silent_no_more_and_begins_anew() -> None:
    liveness = Liveness(1.0, 30.0)
    liveness.left("n", 10)
    assert down_at(liveness, 10, 20, witness=True) is None
    liveness.heard("n", 20.1)
    assert liveness.look({"n": "unknown"}, 20.25) == {}
    liveness.told("n", False, 20.3)  # an answer to a question of before
    assert down_at(liveness, 20.5, 60) == 23.25


def test_grace_of_zero_makes_every_silence_one_of_three_periods() -> None:
    liveness = Liveness(1.0, 0.0)
    liveness.left("n", 10)
    assert down_at(liveness, 10, 60, witness=True) == 13


def test_new_leader_grants_more_time_to_nodes_it_never_heard() -> None:
    found = down_at(Liveness(1.0, 30.0), 100, 130)
    assert found is not None
    assert 103 + GRACE <= found <= 103 + GRACE + REPLY + STEP


def test_new_leader_leaves_a_node_its_grace_that_the_leader_before_found_away() -> None:
    assert down_at(Liveness(1.0, 30.0), 100, 160, unreachable=True, state="unknown") == 130


def test_new_leader_soon_gives_up_a_manager_that_the_log_cannot_reach_either() -> None:
    assert down_at(Liveness(1.0, 30.0), 100, 130, unreachable=True, witness=False) == 102
    nobody_to_ask = down_at(Liveness(1.0, 30.0), 100, 130, unreachable=True)
    assert nobody_to_ask is not None
    assert 102 <= nobody_to_ask <= 102 + REPLY + STEP


def test_new_leader_keeps_a_manager_whose_replicas_answer() -> None:
    assert down_at(Liveness(1.0, 30.0), 100, 160, unreachable=True, witness=True) == 130


def test_new_leader_believes_an_agent_that_it_has_heard() -> None:
    liveness = Liveness(1.0, 30.0)
    liveness.heard("n", 100)
    assert down_at(liveness, 100, 130, unreachable=True) == 103


def test_leader_that_was_held_up_itself_calls_nobody_down_for_it() -> None:
    liveness = Liveness(1.0, 30.0)
    liveness.heard("n", 10)
    assert liveness.look({"n": "ready"}, 10.5) == {}
    assert liveness.look({"n": "ready"}, 25) == {"n": Fate.SILENT}
    found = down_at(liveness, 25.5, 60)
    assert found is not None
    assert 25 + 3 + GRACE <= found <= 25 + 3 + GRACE + REPLY + STEP
    liveness.heard("n", 41)
    assert down_at(liveness, 41, 60) == 44


@pytest.mark.parametrize("period", [0.001, 0.1, 0.5, 1.0, 5.0, 60.0])
def test_agent_gives_up_a_silent_session_before_the_leader_gives_up_the_node(period: float) -> None:
    """Both fell silent at the same instant; the agent has at least a twentieth of a second to dial anew."""
    assert agent_patience(period) + max(period / 2, 0.049) <= manager_patience(period)


@dataclass
class Naive:
    """All that happened, read anew for each question."""

    period: float
    grace: float
    events: list[tuple[float, str]] = field(default_factory=list)

    def fate(self, now: float, state: str) -> Fate | None:
        last = max((t for t, kind in self.events if kind in ("heard", "left")), default=None)
        if last is None:
            return None
        since = [(t, kind) for t, kind in self.events if t >= last]
        left = [kind for _, kind in self.events if kind in ("heard", "left")][-1] == "left"
        asked = [t for t, kind in since if kind == "asked"]
        after = dropwhile(lambda event: event[1] != "asked", since)
        words = [(t, kind) for t, kind in after if kind in ("yes", "no", "none")]
        three = last + manager_patience(self.period)
        if now < three:
            return Fate.AWAY if left else None
        if now >= last + max(self.grace, manager_patience(self.period)):
            return Fate.DOWN
        if any(kind == "yes" and now < t + FRESH for t, kind in words):
            return Fate.AWAY
        if any(kind == "no" for _, kind in words):
            return Fate.DOWN
        if left or state == "unknown":
            return Fate.AWAY
        if asked and not words and now < asked[0] + REPLY:
            return Fate.SILENT
        return Fate.DOWN


HAPPENINGS = st.lists(
    st.tuples(st.sampled_from([0.25, 0.5, 0.75]), st.sampled_from(["heard", "left", "yes", "no", "none", "", "", ""])),
    max_size=60,
)


@given(st.sampled_from([0.5, 1.0, 2.0]), st.sampled_from([0.0, 2.0, 8.0]), HAPPENINGS, st.booleans())
def test_liveness_says_of_a_node_what_a_reading_of_all_events_says(
    period: float, grace: float, happenings: list[tuple[float, str]], witnessed: bool
) -> None:
    liveness, naive, now, state = Liveness(period, grace), Naive(period, grace), 100.0, "ready"
    liveness.heard("n", now)
    naive.events.append((now, "heard"))
    for pause, kind in happenings:
        now += min(pause, period)
        if kind == "heard":
            liveness.heard("n", now)
            state = "ready"
        elif kind == "left":
            liveness.left("n", now)
        elif kind:
            liveness.told("n", {"yes": True, "no": False, "none": None}[kind], now)
        if kind:
            naive.events.append((now, kind))
        fate = liveness.look({"n": state}, now).get("n")
        assert fate == naive.fate(now, state)
        if fate is Fate.AWAY:
            state = "unknown"
        if fate is Fate.DOWN:
            return
        if witnessed and liveness.to_ask(now):
            liveness.asked("n", now)
            naive.events.append((now, "asked"))
