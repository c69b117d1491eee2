"""Proof of fitness: a published task counts as up only once its node's gateway has found it fit.

A task that comes to run on a node whose gateway tells verdicts is `reachable: false` until the gateway serves by a
table that has the task, and does not name it unfit. Gateways that tell nothing are not waited for.

Pure: words of gateways in, verdicts out.
"""

from collections.abc import Collection

from essaim.cluster.routes import RouteTable


class Proofs:
    def __init__(self) -> None:
        self._speaking: set[str] = set()
        self._waiting: dict[str, dict[str, int | None]] = {}
        """Node -> its unproven tasks, with the first table that has them."""

    def speaks(self, node_id: str) -> bool:
        """Whether the node's gateway tells verdicts."""
        return node_id in self._speaking

    @property
    def nodes(self) -> Collection[str]:
        """Nodes with tasks that are yet to be proven fit."""
        return self._waiting.keys()

    def disconnect(self, node_id: str) -> None:
        self._speaking.discard(node_id)

    def expect(self, task_id: str, node_id: str) -> None:
        """The task runs and is not proven fit."""
        self._waiting.setdefault(node_id, {}).setdefault(task_id, None)

    def forget(self, task_id: str, node_id: str) -> None:
        waiting = self._waiting.get(node_id)
        if waiting is not None:
            waiting.pop(task_id, None)
            if not waiting:
                del self._waiting[node_id]

    def published(self, table: RouteTable) -> None:
        new = [(tasks, i) for tasks in self._waiting.values() for i, version in tasks.items() if version is None]
        if not new:
            return
        routed = {e.task_id for s in table.services for p in s.ports for e in p.endpoints}
        for tasks, task_id in new:
            if task_id in routed:
                tasks[task_id] = table.version

    def told(self, node_id: str, version: int, unfit: list[str] | None) -> list[str]:
        """A gateway's word; the tasks that are no longer unproven by it."""
        if unfit is None:
            self._speaking.discard(node_id)
            return list(self._waiting.pop(node_id, {}))
        self._speaking.add(node_id)
        refused = set(unfit)
        proven = [
            task_id
            for task_id, since in self._waiting.get(node_id, {}).items()
            if since is not None and since <= version and task_id not in refused
        ]
        for task_id in proven:
            self.forget(task_id, node_id)
        return proven
