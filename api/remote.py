"""Which node's Engine a request about a container or an exec is for (moby#27552: they work through any manager).

A task's container is known by its ID (or a prefix of it) and by its name, `service.slot.task`; the store tells its
node. An exec has an ID that only its Engine knows, so the node is remembered when the exec is made here.
"""

import re
from collections import OrderedDict

from essaim.cluster.store import Store
from essaim.cluster.task import Task

CONTAINER_ID = re.compile(r"[0-9a-f]{4,64}")
MAX_EXECS = 10_000


def task_of(store: Store, reference: str) -> Task | None:
    """The task whose container this is, if it is exactly one's."""
    reference = reference.removeprefix("/")
    named = store.tasks.get(reference.rpartition(".")[2])
    if named is not None and "." in reference:
        return named
    if not CONTAINER_ID.fullmatch(reference):
        return None
    found = [t for t in store.tasks if _container(t).startswith(reference)]
    return found[0] if len(found) == 1 else None


def _container(task: Task) -> str:
    status = task.status.container_status
    return (status.container_id if status else None) or ""


class Execs:
    """Exec ID -> node ID, for the execs made through this manager; the oldest are forgotten."""

    def __init__(self) -> None:
        self._nodes: OrderedDict[str, str] = OrderedDict()

    def remember(self, exec_id: str, node_id: str) -> None:
        self._nodes[exec_id] = node_id
        while len(self._nodes) > MAX_EXECS:
            self._nodes.popitem(last=False)

    def node_of(self, exec_id: str) -> str:
        """Empty for an exec of this node's own Engine."""
        return self._nodes.get(exec_id, "")
