"""Tasks that have ended and that nothing is started in place of: no wait may go on for them.

Pure: observations and times to reports.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

Object = Mapping[str, Any]
ALIVE = frozenset(
    {"new", "pending", "assigned", "accepted", "preparing", "ready", "starting", "running"}
)  # fmt: skip
WANTED = frozenset({"", "accepted", "ready", "running", "complete"})
FAILED = frozenset({"failed", "rejected"})
SETTLE = 3.0
"""Seconds for which nothing must have been started in place of what failed."""
SETTLE_WITHOUT_RESTART = 1.0
"""The same where the restart policy says that nothing will be: time for an update to be paused or rolled back."""


def state_of(task: Object) -> str:
    return str((task.get("Status") or {}).get("State") or "new")


def place_of(task: Object) -> Any:
    """A slot, or in global services a node."""
    return task.get("Slot") or task.get("NodeID")


def is_alive(task: Object) -> bool:
    """It may still get somewhere."""
    return state_of(task) in ALIVE and (task.get("DesiredState") or "") in WANTED


def completed_places(service: Object, tasks: Iterable[Object]) -> set[Any]:
    """Where a task has ended well and its restart policy leaves it at that."""
    if _condition(service) not in ("none", "on-failure"):
        return set()
    tasks = list(tasks)
    alive = {place_of(task) for task in tasks if is_alive(task)}
    return {place_of(task) for task in tasks if state_of(task) == "complete"} - alive


def _condition(service: Object) -> str:
    template = (service.get("Spec") or {}).get("TaskTemplate") or {}
    return str((template.get("RestartPolicy") or {}).get("Condition") or "any")


@dataclass(slots=True)
class Endings:
    """Follows the places of one service whose tasks have failed. `now` is in seconds of a monotonic clock."""

    _since: dict[Any, float] = field(default_factory=dict)

    def step(self, service: Object, tasks: Iterable[Object], now: float) -> bool:
        """Has something failed for good?"""
        settle = SETTLE_WITHOUT_RESTART if _condition(service) == "none" else SETTLE
        tasks = list(tasks)
        good = {place_of(task) for task in tasks if is_alive(task) or state_of(task) == "complete"}
        bad = {place_of(task) for task in tasks if state_of(task) in FAILED} - good
        self._since = {place: self._since.get(place, now) for place in bad}
        return any(now - since >= settle for since in self._since.values())
