"""What a node is to have: its tasks with the secrets and configs they use, and what changed since it was last told.

Pure: the store in, messages out.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import msgspec

from essaim.cluster.store import Store
from essaim.cluster.task import Task, TaskState
from essaim.cluster.walls import Walls
from essaim.cluster.wire import Assignments

UNREADABLE = "one of its tasks cannot be given to its node"

IsHeld = Callable[[str], bool]
Mark = tuple[object, ...]


def belongs(task: Task, node_id: str) -> bool:
    """The node is to know of it. Tasks that have ended stay until they are forgotten: their logs are still there."""
    return task.node_id == node_id and task.state >= TaskState.ASSIGNED


def as_told(task: Task, is_held: IsHeld) -> Task:
    """The task as its node is to see it: while its requests drain, the order to stop is kept back."""
    if task.desired > TaskState.COMPLETE and not task.is_terminal and is_held(task.id):
        return msgspec.structs.replace(task, desired_state=TaskState.RUNNING.label)
    return task


def mark_of(task: Task) -> Mark:
    """What a node acts on; a task whose mark is unchanged is not sent again."""
    return (task.desired_state, task.spec_version, task.is_terminal and task.state == TaskState.ORPHANED)


def used(task: Task) -> tuple[set[str], set[str]]:
    """Ids of the secrets and configs of a task that may yet need them."""
    container = task.spec.container_spec
    if container is None or task.is_terminal:
        return set(), set()
    secrets = {ref.secret_id for ref in container.secrets or () if ref.secret_id}
    configs = {ref.config_id for ref in container.configs or () if ref.config_id}
    return secrets, configs


def with_dependencies(message: Assignments, store: Store) -> Assignments:
    """The message with what its tasks use. It is sent with every task anew: nodes drop it with the last user."""
    secret_ids: set[str] = set()
    config_ids: set[str] = set()
    credentials: dict[str, str] = {}
    for task in message.tasks:
        secrets, configs = used(task)
        secret_ids |= secrets
        config_ids |= configs
        if auth := registry_auth(task, store):
            credentials[task.service_id or ""] = auth
    return msgspec.structs.replace(
        message,
        secrets=[secret for i in sorted(secret_ids) if (secret := store.secrets.get(i)) is not None],
        configs=[config for i in sorted(config_ids) if (config := store.configs.get(i)) is not None],
        registry_auth=credentials,
    )


def registry_auth(task: Task, store: Store) -> str | None:
    """With what the node may pull the task's image, if it has yet to."""
    service = store.services.get(task.service_id or "")
    if service is None or task.state >= TaskState.RUNNING:
        return None
    of_previous = task.spec_version is not None and task.spec_version == service.previous_spec_version
    return service.previous_registry_auth if of_previous else service.registry_auth


@dataclass
class Told:
    """What one session has told its node. A task that cannot be read is not told of, nor taken back: what the node has
    of it stays."""

    node_id: str
    walls: Walls = field(default_factory=lambda: Walls(UNREADABLE))
    tasks: dict[str, Mark] = field(default_factory=dict)

    def full(self, store: Store, is_held: IsHeld) -> Assignments:
        """Everything, as the first message of a session."""
        tasks: list[Task] = []
        for task in store.tasks.by("node", self.node_id):
            told = self._read(task, is_held)
            if told is not None:
                tasks.append(told[0])
                self.tasks[task.id] = told[1]
        return with_dependencies(Assignments(full=True, tasks=tasks), store)

    def changes(self, store: Store, task_ids: Iterable[str], is_held: IsHeld) -> Assignments | None:
        """What these tasks' changes mean for the node, or None for nothing."""
        tasks: list[Task] = []
        removed: list[str] = []
        for task_id in task_ids:
            task = store.tasks.get(task_id)
            told = self._read(task, is_held) if task is not None else None
            if task is None or (told is None and not self.walls.reason(task_id)):
                self.walls.clear(task_id)
                if self.tasks.pop(task_id, None) is not None:
                    removed.append(task_id)
            elif told is not None and self.tasks.get(task_id) != told[1]:
                self.tasks[task_id] = told[1]
                tasks.append(told[0])
        if not (tasks or removed):
            return None
        return with_dependencies(Assignments(full=False, tasks=tasks, removed=removed), store)

    def _read(self, task: Task, is_held: IsHeld) -> tuple[Task, Mark] | None:
        """The task as its node is to see it, if it is to; None too when it cannot be read."""
        return self.walls.guard(task.id, task.service_id or "", self._tell, None, task, is_held)

    def _tell(self, task: Task, is_held: IsHeld) -> tuple[Task, Mark] | None:
        if not belongs(task, self.node_id):
            return None
        told = as_told(task, is_held)
        mark = mark_of(told)
        if self.tasks.get(task.id) != mark:
            used(told)  # as it is read for the message
        return told, mark
