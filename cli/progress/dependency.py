"""Whether a service has come as far as `depends_on` asks of it, or never will.

- `started`: every replica's container has been started, whatever its health check says; one that has ended well counts.
- `healthy`: every replica runs (a task with a HEALTHCHECK runs when it is healthy).
- `completed_successfully`: a job, or a service whose command ends, is through without failure.

Given up: when what failed is not started again, when one replica has failed `MANY_FAILURES` times (a first failure may
be what a restart saves), when the service's update is paused, and after the time that the user allows.

Rejected: giving up at the first failure, as Compose does: there nothing restarts a container before it counts.

Pure: observations and times to verdicts.
"""

from collections import Counter
from dataclasses import dataclass, field

from .endings import FAILED, Endings, place_of, state_of
from .tracker import Count, Object, by_state, count_job, count_tasks, index_of, problem_of

MANY_FAILURES = 3


@dataclass(frozen=True, slots=True)
class Verdict:
    """`failure` says why it will not get there."""

    count: Count
    is_met: bool = False
    failure: str = ""


@dataclass(slots=True)
class Dependency:
    """Follows one service. `condition` is one of Compose's; `patience` in seconds, 0 without end."""

    condition: str
    patience: float = 0.0
    _began: float | None = field(default=None, init=False)
    _endings: Endings = field(default_factory=Endings, init=False)

    def step(self, service: Object, tasks: list[Object], active_nodes: frozenset[str], now: float) -> Verdict:
        """`tasks` are those of the service's newest specification. `now` is in seconds of a monotonic clock."""
        if self._began is None:
            self._began = now
        count = self._count(service, tasks, active_nodes)
        if count.total >= 0 and count.done >= count.total:
            return Verdict(count, is_met=True)
        failed = [task for task in tasks if state_of(task) in FAILED]
        problem = problem_of(failed) or count.problem
        return Verdict(count, failure=self._failure(service, tasks, failed, problem, now))

    def _count(self, service: Object, tasks: list[Object], active_nodes: frozenset[str]) -> Count:
        mode = (service.get("Spec") or {}).get("Mode") or {}
        is_job = mode.get("ReplicatedJob") is not None or mode.get("GlobalJob") is not None
        if is_job and self.condition == "service_started":
            return started_of_job(service, tasks)
        count = count_tasks(service, tasks, active_nodes)
        if is_job or self.condition == "service_healthy":
            return count
        if self.condition == "service_started":
            ready = [as_running(task) if has_started(task) else task for task in tasks]
            return count_tasks(service, ready, active_nodes)
        completed = {place_of(task) for task in tasks if state_of(task) == "complete"}
        waiting = [task for task in tasks if state_of(task) != "complete"]
        return Count(len(completed), max(count.total, 1), by_state(waiting), problem_of(waiting), is_job=True)

    def _failure(self, service: Object, tasks: list[Object], failed: list[Object], problem: str, now: float) -> str:
        status = service.get("UpdateStatus") or {}
        if status.get("State") in ("paused", "rollback_paused"):
            return f"its update is paused: {status.get('Message') or problem}"
        worst = max(Counter(place_of(task) for task in failed).values(), default=0)
        if worst >= MANY_FAILURES:
            return f"failed {worst} times: {problem}"
        if self._endings.step(service, tasks, now):
            return f"failed and is not started again: {problem}"
        if self.patience and self._began is not None and now - self._began >= self.patience:
            return f"did not get there within {self.patience:g} s" + (f": {problem}" if problem else "")
        return ""


def has_started(task: Object) -> bool:
    """Its container has been started: it runs, its health is not known yet, or it has ended well."""
    container = (task.get("Status") or {}).get("ContainerStatus") or {}
    state = state_of(task)
    return state in ("running", "complete") or (state == "starting" and bool(container.get("PID")))


def as_running(task: Object) -> Object:
    return {**task, "DesiredState": "running", "Status": {**(task.get("Status") or {}), "State": "running"}}


def started_of_job(service: Object, tasks: list[Object]) -> Count:
    """A job's tasks that have been started, of those that run at a time."""
    whole = count_job(service, tasks, ((service["Spec"]["Mode"].get("ReplicatedJob")) or {}).get("TotalCompletions"))
    iteration = index_of((service.get("JobStatus") or {}).get("JobIteration"))
    current = [task for task in tasks if index_of(task.get("JobIteration")) == iteration]
    started = sum(1 for task in current if has_started(task))
    return Count(started, min(whole.total, len(current) or 1), whole.others, whole.problem, is_job=True)
