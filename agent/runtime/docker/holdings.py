"""The containers that this node's tasks have, by task and by container, with the present view of each."""

from dataclasses import dataclass, field, replace
from typing import Any

from essaim.agent.runtime.interface import UnknownTask, View
from essaim.agent.runtime.views import Views


@dataclass(frozen=True, slots=True)
class Held:
    """A task's container. `is_whole` once it is on all its networks: until then it is not to be started. `grace`:
    seconds that its stop may take, as last looked at."""

    container_id: str
    name: str
    node_id: str
    grace: float
    left_out: tuple[str, ...] = ()
    is_whole: bool = True


@dataclass(slots=True)
class Holdings:
    views: Views = field(default_factory=Views)
    _held: dict[str, Held] = field(default_factory=dict)
    _tasks: dict[str, str] = field(default_factory=dict)

    def __contains__(self, task_id: str) -> bool:
        return task_id in self._held

    def hold(self, task_id: str, held: Held) -> None:
        before = self._held.get(task_id)
        if before is not None:
            self._tasks.pop(before.container_id, None)
        self._held[task_id] = held
        self._tasks[held.container_id] = task_id

    def change(self, task_id: str, **changes: Any) -> None:
        if task_id in self._held:
            self._held[task_id] = replace(self._held[task_id], **changes)

    def drop(self, task_id: str) -> None:
        """Whoever watches it gets UnknownTask."""
        held = self._held.pop(task_id, None)
        if held is not None:
            self._tasks.pop(held.container_id, None)
        self.views.drop(task_id)

    def get(self, task_id: str) -> Held | None:
        return self._held.get(task_id)

    def one(self, task_id: str) -> Held:
        """Raises UnknownTask."""
        try:
            return self._held[task_id]
        except KeyError:
            raise UnknownTask(f"task {task_id} is not on this node") from None

    def task_of(self, container_id: str) -> str | None:
        return self._tasks.get(container_id)

    def view_of(self, container_id: str) -> View | None:
        task_id = self._tasks.get(container_id)
        return self.views.get(task_id) if task_id else None

    def containers(self) -> list[str]:
        return list(self._tasks)

    def tasks(self) -> list[str]:
        return list(self._held)
