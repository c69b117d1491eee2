"""Whether a service has converged: what its up-to-date tasks say, and for how long they have said so.

A service has converged when all of its tasks run (a job, or where nothing restarts them: have completed) and, unless
it is a job, have done so for the update's monitor time. It never will when a task has failed and nothing is started in
its place. `Tracker.step` is given each observation in turn.

Pure: observations and times to reports.
"""

import math
from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import Any

from essaim.cluster.durations import SECOND

from .endings import FAILED, Endings, completed_places, state_of

DEFAULT_MONITOR = 5.0
ORDER = (
    "new", "pending", "assigned", "accepted", "preparing", "ready", "starting", "running", "complete", "shutdown",
    "failed", "rejected", "remove", "orphaned",
)  # fmt: skip
RANK = {name: place for place, name in enumerate(ORDER)}
Object = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Count:
    """Tasks that are where they should be, of how many; `others` counts the rest by state, `problem` is the newest
    error among them."""

    done: int
    total: int
    others: Mapping[str, int] = field(default_factory=dict)
    problem: str = ""
    is_job: bool = False

    @property
    def is_complete(self) -> bool:
        return self.total >= 0 and self.done >= self.total

    def __str__(self) -> str:
        return "waiting for new tasks" if self.total < 0 else f"{self.done} out of {self.total} tasks"


@dataclass(frozen=True, slots=True)
class Report:
    """One step: `lines` are news (id, text) to tell; `failure` ends the wait with an error."""

    count: Count
    lines: tuple[tuple[str, str], ...] = ()
    is_finished: bool = False
    failure: str = ""


class Tracker:
    """Follows one service, which its lines call `name`. `now` is in seconds of a monotonic clock."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._converged_at: float | None = None
        self._is_rollback = False
        self._closing: tuple[str, str] | None = None
        self._endings = Endings()

    def step(self, service: Object, tasks: Iterable[Object], active_nodes: frozenset[str], now: float) -> Report:
        tasks = list(tasks)
        count = count_tasks(service, tasks, active_nodes, completed=completed_places(service, tasks))
        lines: list[tuple[str, str]] = []
        if failure := self._update_state(service.get("UpdateStatus") or {}, lines):
            return Report(count, tuple(lines), failure=failure)
        if not count.is_complete:
            if self._converged_at is not None:
                lines.append(("verify", "Detected task failure"))
            self._converged_at = None
            if self._endings.step(service, tasks, now):
                problem = problem_of(task for task in tasks if state_of(task) in FAILED)
                return Report(
                    count, tuple(lines), failure=f"{self._name}: a task failed and is not started again: {problem}"
                )
            return Report(count, tuple(lines))
        if count.is_job:
            return Report(count, (*lines, ("", "job complete")), is_finished=True)
        if self._converged_at is None:
            self._converged_at = now
        left = monitor_time(service) - (now - self._converged_at)
        if left > 0:
            lines.append(("verify", f"Waiting {math.ceil(left)} seconds to verify that tasks are stable..."))
            return Report(count, tuple(lines))
        lines.append(("verify", f"Service {self._name} converged"))
        if self._closing is not None:
            lines.append(self._closing)
        return Report(count, tuple(lines), is_finished=True)

    def _update_state(self, status: Object, lines: list[tuple[str, str]]) -> str:
        """The error that ends the wait, or nothing."""
        state, message = status.get("State"), str(status.get("Message") or "")
        match state:
            case "updating":
                self._is_rollback = False
            case "completed":
                self._is_rollback = False
            case "paused":
                return f"service update paused: {message}"
            case "rollback_started":
                if not self._is_rollback and message:
                    lines.append(("rollback", message))
                self._is_rollback = True
            case "rollback_paused":
                return f"service rollback paused: {message}"
            case "rollback_completed":
                if self._converged_at is None:
                    self._closing = ("rollback", message)
                self._is_rollback = True
        return ""


def monitor_time(service: Object) -> float:
    """Seconds that tasks must have run."""
    config = (service.get("Spec") or {}).get("UpdateConfig") or {}
    return (config.get("Monitor") or 0) / SECOND or DEFAULT_MONITOR


def count_tasks(
    service: Object, tasks: list[Object], active_nodes: frozenset[str], *, completed: AbstractSet[Any] = frozenset()
) -> Count:
    """What the tasks of the current specification amount to; `completed` places count as if they ran."""
    mode = (service.get("Spec") or {}).get("Mode") or {}
    usable = [task for task in tasks if not task.get("NodeID") or task["NodeID"] in active_nodes]
    if (job := mode.get("ReplicatedJob")) is not None:
        return count_job(service, usable, job.get("TotalCompletions") or 0)
    if mode.get("GlobalJob") is not None:
        return count_job(service, usable, None)
    wanted = [task for task in usable if RANK.get(task.get("DesiredState") or "", 0) <= RANK["running"]]
    newest: dict[Any, Object] = {}
    is_global = mode.get("Global") is not None
    for task in wanted:
        key = task.get("NodeID") if is_global else task.get("Slot")
        newest[key] = better(newest.get(key), task)
    total = len(newest) or -1 if is_global else (mode.get("Replicated") or {}).get("Replicas")
    running = [task for task in newest.values() if state_of(task) == "running"]
    others = [task for key, task in newest.items() if state_of(task) != "running" and key not in completed]
    done = len(running) + len(completed)
    errors = [*others, *(task for task in usable if task not in wanted)] if done < (total or 0) else []
    return Count(done, 1 if total is None else int(total), by_state(others), problem_of(errors))


def better(one: Object | None, other: Object) -> Object:
    """Of two tasks in one place, the one that got farthest alive, then the newer one."""
    if one is None:
        return other

    def rank(task: Object) -> tuple[int, str]:
        state = RANK.get(state_of(task), 0)
        return (state if state <= RANK["running"] else -1, str(task.get("CreatedAt") or ""))

    return max(one, other, key=rank)


def count_job(service: Object, tasks: list[Object], total: int | None) -> Count:
    """A job's current iteration: tasks that have completed."""
    iteration = index_of((service.get("JobStatus") or {}).get("JobIteration"))
    current = [task for task in tasks if index_of(task.get("JobIteration")) == iteration]
    completed = sum(1 for task in current if state_of(task) == "complete")
    waiting = [task for task in current if state_of(task) != "complete"]
    if total is None:
        total = len({task.get("NodeID") for task in current}) or -1
    return Count(completed, total, by_state(waiting), problem_of(waiting), is_job=True)


def index_of(version: Object | None) -> int:
    return int((version or {}).get("Index") or 0)


def by_state(tasks: Iterable[Object]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for task in sorted(tasks, key=lambda task: RANK.get(state_of(task), 0)):
        counts[state_of(task)] = counts.get(state_of(task), 0) + 1
    return counts


def problem_of(tasks: Iterable[Object]) -> str:
    """The newest error."""
    found = [
        (str((task.get("Status") or {}).get("Timestamp") or ""), str((task.get("Status") or {}).get("Err") or ""))
        for task in tasks
    ]
    return max((item for item in found if item[1]), default=("", ""))[1]
