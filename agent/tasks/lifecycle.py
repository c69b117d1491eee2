"""The life of a task on its node, as tables: which step its state calls for, and which state follows which event.

The intent comes from the task's desired state and only goes forward: HOLD (prepare, but do not start yet), RUN, STOP.
Steps with I/O are carried out by the task manager and end in an event; an event that the table does not have for a
state is a mistake and raises, changing nothing.

Pure: no I/O, no clock.
"""

from enum import Enum, IntEnum

from essaim.agent.runtime.interface import Health, Phase, View
from essaim.cluster.task import TaskState


class Intent(IntEnum):
    HOLD = 0
    RUN = 1
    STOP = 2


class Step(Enum):
    ACCEPT = "take the task on"
    BEGIN_PREPARE = "say that preparing begins"
    PREPARE = "fetch the image, create the container"
    REST = "nothing until the intent changes"
    BEGIN_START = "say that starting begins"
    START = "start it and see it come up"
    OBSERVE = "watch it until it ends"
    DISCARD = "remove what was prepared"
    STOP = "stop what runs"


class Event(Enum):
    WENT_ON = "the step was only a word to the manager"
    PREPARED = "prepared"
    REJECTED = "this node cannot run it"
    CAME_UP = "it runs, and is healthy"
    ENDED_WELL = "it ended by itself with exit code 0"
    ENDED_BADLY = "it could not start, ended with another code, or was unhealthy"
    UNDONE = "what was prepared cannot be started any more, and is prepared anew"
    STOPPED = "it was stopped because it was asked for"


class IllegalEvent(Exception):
    """An event that the state does not allow."""


S = TaskState

_UNSTARTED = {
    S.NEW: Step.ACCEPT,
    S.PENDING: Step.ACCEPT,
    S.ASSIGNED: Step.ACCEPT,
    S.ACCEPTED: Step.BEGIN_PREPARE,
    S.PREPARING: Step.PREPARE,
}
_STARTED = {S.STARTING: Step.START, S.RUNNING: Step.OBSERVE}

STEPS: dict[Intent, dict[TaskState, Step]] = {
    Intent.HOLD: {**_UNSTARTED, S.READY: Step.REST, **_STARTED},
    Intent.RUN: {**_UNSTARTED, S.READY: Step.BEGIN_START, **_STARTED},
    Intent.STOP: {
        **dict.fromkeys((*_UNSTARTED, S.READY), Step.DISCARD),
        **dict.fromkeys(_STARTED, Step.STOP),
    },
}

MOVES: dict[tuple[TaskState, Event], TaskState] = {
    (S.NEW, Event.WENT_ON): S.ACCEPTED,
    (S.PENDING, Event.WENT_ON): S.ACCEPTED,
    (S.ASSIGNED, Event.WENT_ON): S.ACCEPTED,
    (S.ACCEPTED, Event.WENT_ON): S.PREPARING,
    (S.PREPARING, Event.PREPARED): S.READY,
    (S.PREPARING, Event.REJECTED): S.REJECTED,
    (S.READY, Event.WENT_ON): S.STARTING,
    (S.STARTING, Event.UNDONE): S.PREPARING,
    (S.STARTING, Event.CAME_UP): S.RUNNING,
    (S.STARTING, Event.ENDED_WELL): S.COMPLETE,
    (S.STARTING, Event.ENDED_BADLY): S.FAILED,
    (S.RUNNING, Event.ENDED_WELL): S.COMPLETE,
    (S.RUNNING, Event.ENDED_BADLY): S.FAILED,
    **{(state, Event.STOPPED): S.SHUTDOWN for state in (*_UNSTARTED, S.READY, S.STARTING, S.RUNNING)},
}

MESSAGES = {
    S.ACCEPTED: "accepted",
    S.PREPARING: "preparing",
    S.READY: "prepared",
    S.STARTING: "starting",
    S.RUNNING: "started",
    S.COMPLETE: "finished",
    S.SHUTDOWN: "shutdown",
    S.FAILED: "started",
    S.REJECTED: "preparing",
}
"""Swarm's words in TaskStatus.Message; a failed task keeps that of the state it failed in."""


def intent_of(desired: TaskState) -> Intent:
    """What a desired state asks of the node; a job's `complete` is to be run to its end."""
    if desired > S.COMPLETE:
        return Intent.STOP
    return Intent.RUN if desired >= S.RUNNING else Intent.HOLD


def next_step(state: TaskState, intent: Intent) -> Step:
    """Terminal states rest, whatever is asked."""
    return STEPS[intent].get(state, Step.REST)


def follow(state: TaskState, event: Event) -> TaskState:
    """The state after an event. Raises IllegalEvent."""
    try:
        return MOVES[state, event]
    except KeyError:
        raise IllegalEvent(f"{event.name} while {state.label}") from None


def resume(known: TaskState, view: View | None) -> TaskState:
    """Where to go on with a task that the manager knows as `known`, after the agent's own restart.

    What was started and is gone has failed; what was only prepared is prepared again, as the agent may have ended in
    the middle of that.
    """
    if known >= S.COMPLETE:
        return known
    if view is None:
        return S.FAILED if known >= S.STARTING else min(known, S.PREPARING)
    if view.phase is Phase.CREATED:
        return S.STARTING if known >= S.STARTING else min(known, S.PREPARING)
    if view.phase is Phase.EXITED or known == S.RUNNING:
        return S.RUNNING
    return S.STARTING


def judge(view: View) -> tuple[Event, str] | None:
    """The event that a view of a started task means, with the error for its user; None: nothing has been decided."""
    if view.phase is Phase.EXITED:
        if view.error or view.exit_code:
            code = f"task: non-zero exit ({view.exit_code})" if view.exit_code else "task: ended"
            return Event.ENDED_BADLY, f"{code}: {view.error}" if view.error else code
        return Event.ENDED_WELL, ""
    if view.phase is Phase.RUNNING and view.health is Health.UNHEALTHY:
        return Event.ENDED_BADLY, UNHEALTHY
    return None


UNHEALTHY = "task: unhealthy container"
LOST = "task: what ran in it is gone from this node (a restart of the host, or somebody removed it)"
