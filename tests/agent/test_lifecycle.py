"""The tables of a task's life, and where it goes on after a restart of the agent."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from essaim.agent.runtime.interface import Health, Phase, View
from essaim.agent.tasks.lifecycle import (
    Event,
    IllegalEvent,
    Intent,
    Step,
    follow,
    intent_of,
    judge,
    next_step,
    resume,
)
from essaim.cluster.task import TaskState

STATES = st.sampled_from(TaskState)
VIEWS = st.one_of(
    st.none(),
    st.builds(View, st.sampled_from(Phase), st.sampled_from(Health), st.one_of(st.none(), st.integers(0, 255))),
)

POSSIBLE: dict[Step, set[Event]] = {
    Step.ACCEPT: {Event.WENT_ON},
    Step.BEGIN_PREPARE: {Event.WENT_ON},
    Step.PREPARE: {Event.PREPARED, Event.REJECTED},
    Step.BEGIN_START: {Event.WENT_ON},
    Step.START: {Event.CAME_UP, Event.ENDED_WELL, Event.ENDED_BADLY},
    Step.OBSERVE: {Event.ENDED_WELL, Event.ENDED_BADLY},
    Step.DISCARD: {Event.STOPPED},
    Step.STOP: {Event.STOPPED},
}


@given(STATES, st.sampled_from(Intent))
def test_every_outcome_of_every_step_is_in_the_table_and_goes_forward(state: TaskState, intent: Intent) -> None:
    for event in POSSIBLE.get(next_step(state, intent), set()):
        assert follow(state, event) > state


@given(STATES)
def test_intent_stop_ends_every_life_in_one_step(state: TaskState) -> None:
    step = next_step(state, Intent.STOP)
    if state >= TaskState.COMPLETE:
        assert step is Step.REST
    else:
        assert follow(state, Event.STOPPED) is TaskState.SHUTDOWN


@given(st.lists(st.sampled_from(Event), max_size=12))
def test_no_sequence_of_events_leaves_a_terminal_state(events: list[Event]) -> None:
    state = TaskState.ASSIGNED
    for event in events:
        try:
            after = follow(state, event)
        except IllegalEvent:
            continue
        assert state < TaskState.COMPLETE
        assert after > state
        state = after


def test_hold_rests_once_prepared_and_run_goes_on() -> None:
    assert next_step(TaskState.READY, Intent.HOLD) is Step.REST
    assert next_step(TaskState.READY, Intent.RUN) is Step.BEGIN_START


@pytest.mark.parametrize(
    ("desired", "intent"),
    [
        ("ready", Intent.HOLD),
        ("running", Intent.RUN),
        ("complete", Intent.RUN),
        ("shutdown", Intent.STOP),
        ("remove", Intent.STOP),
    ],
)
def test_intent_of_a_desired_state(desired: str, intent: Intent) -> None:
    assert intent_of(TaskState.of(desired)) is intent


@given(STATES, VIEWS)
def test_resume_never_forgets_an_end_and_never_starts_twice(known: TaskState, view: View | None) -> None:
    state = resume(known, view)
    if known >= TaskState.COMPLETE:
        assert state is known
    elif view is None and known >= TaskState.STARTING:
        assert state is TaskState.FAILED
    elif view is not None and view.phase is Phase.EXITED:
        assert next_step(state, Intent.RUN) is Step.OBSERVE
    elif view is not None and view.phase is Phase.RUNNING:
        assert state in (TaskState.STARTING, TaskState.RUNNING)


@pytest.mark.parametrize(
    ("view", "event", "words"),
    [
        (View(Phase.EXITED, exit_code=0), Event.ENDED_WELL, ""),
        (View(Phase.EXITED, exit_code=3), Event.ENDED_BADLY, "task: non-zero exit (3)"),
        (View(Phase.EXITED, exit_code=137, error="oom"), Event.ENDED_BADLY, "task: non-zero exit (137): oom"),
        (View(Phase.EXITED, exit_code=0, error="x"), Event.ENDED_BADLY, "task: ended: x"),
        (View(Phase.RUNNING, Health.UNHEALTHY), Event.ENDED_BADLY, "task: unhealthy container"),
    ],
)
def test_judge_tells_how_a_task_ended(view: View, event: Event, words: str) -> None:
    assert judge(view) == (event, words)


@pytest.mark.parametrize("health", [Health.NONE, Health.STARTING, Health.HEALTHY])
def test_judge_leaves_a_running_task_alone(health: Health) -> None:
    assert judge(View(Phase.RUNNING, health)) is None
