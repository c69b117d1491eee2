"""What the gateways know: the route table as published, which tasks drain, which are proven fit.

The dispatcher brings events and words of gateways; it is given tables to send, tasks whose order to stop may pass, and
corrections of tasks' statuses.

Pure: times in seconds of a monotonic clock come in.
"""

from collections.abc import Iterable

import msgspec

from essaim.cluster.changes import Verdict
from essaim.cluster.store import Store
from essaim.cluster.task import Task, TaskState, TaskStatus
from essaim.cluster.walls import Faults, Walls
from essaim.cluster.watch import Event
from essaim.cluster.wire import RoutesApplied, TaskReport

from .drain import DrainGate, limit_of
from .proofs import Proofs
from .route_history import RouteHistory
from .routes import RouteCache, has_routes, serves

MAY_SERVE = ("ready", "unknown")
"""States of nodes whose gateways may send requests, connected or not."""


class Traffic:
    def __init__(self, store: Store, faults: Faults | None = None) -> None:
        self._walls = Walls("one of its tasks cannot be stopped after its requests", faults)
        self._store = store
        self._routes = RouteCache(faults)
        self._gate = DrainGate()
        self._proofs = Proofs()
        self._words: dict[str, RoutesApplied] = {}
        self._refusing: set[str] = set()
        """Nodes whose gateway's last word finds tasks unfit."""
        self.history = RouteHistory()

    def look_at_everything(self, now: float) -> None:
        """Take the store as it is: at the start, and when events were missed."""
        self._routes.reset()
        for task in self._store.tasks:
            self.consider(task, now)

    # -- events -------------------------------------------------------------------------------------------------

    def observe(self, events: Iterable[Event], now: float) -> None:
        routed = [event for event in events if event.table in self._routes.tables]
        self._routes.observe(routed)
        for event in routed:
            if event.table != "tasks":
                continue
            if event.kind == "delete":
                self._walls.clear(event.object.id)
                self._forget(event.object)
            else:
                self.consider(event.object, now)

    def consider(self, task: Task, now: float) -> None:
        self._walls.guard(task.id, task.service_id or "", self._consider, None, task, now)

    def _consider(self, task: Task, now: float) -> None:
        if task.is_terminal:
            self._forget(task)
        elif serves(task) and self._is_routed(task):
            if task.desired > TaskState.COMPLETE:
                self._gate.begin(task.id, limit_of(task.service_labels), now)
            elif task.status.reachable is False:
                self._proofs.expect(task.id, task.node_id or "")

    def _is_routed(self, task: Task) -> bool:
        service = self._store.services.get(task.service_id or "")
        return has_routes(service) or (service is None and bool(task.ports))

    def _forget(self, task: Task) -> None:
        self._gate.forget(task.id)
        self._proofs.forget(task.id, task.node_id or "")

    # -- gateways -----------------------------------------------------------------------------------------------

    def connect(self, node_id: str, now: float) -> None:
        self._gate.connect(node_id, now)

    def disconnect(self, node_id: str) -> None:
        self._gate.disconnect(node_id)
        self._proofs.disconnect(node_id)
        self._words.pop(node_id, None)
        self._refusing.discard(node_id)

    def applied(self, node_id: str, word: RoutesApplied) -> list[Verdict]:
        """A gateway's word on what it serves by, and how; what it means for the tasks of its node."""
        self._gate.applied(node_id, word.version, word.open_requests)
        self._words[node_id] = word
        if word.unfit:
            self._refusing.add(node_id)
        else:
            self._refusing.discard(node_id)
        return self._judge(node_id, word)

    def again(self) -> list[Verdict]:
        """What the gateways' last words still mean: a verdict may have been written after a newer word had come."""
        concerned = sorted(node_id for node_id in {*self._refusing, *self._proofs.nodes} if node_id in self._words)
        return [verdict for node_id in concerned for verdict in self._judge(node_id, self._words[node_id])]

    def _judge(self, node_id: str, word: RoutesApplied) -> list[Verdict]:
        fit = None if word.unfit is None else True
        words = [(task_id, fit) for task_id in self._proofs.told(node_id, word.version, word.unfit)]
        words += [(task_id, False) for task_id in word.unfit or ()]
        found = []
        for task_id, reachable in words:
            task = self._store.tasks.get(task_id)
            service_id = (task and task.service_id) or ""
            found.append(self._walls.guard(task_id, service_id, self._verdict, None, task, node_id, reachable))
        return [verdict for verdict in found if verdict is not None]

    @staticmethod
    def _verdict(task: Task | None, node_id: str, reachable: bool | None) -> Verdict | None:
        if task is None or task.node_id != node_id or task.state != TaskState.RUNNING:
            return None
        if task.status.reachable == reachable:
            return None
        return Verdict(task.id, node_id, reachable)

    def as_reported(self, task: Task, report: TaskReport) -> TaskStatus:
        """An agent's status of a task; one that comes to run has yet to be found fit by a gateway that will say so."""
        status = report.status
        proves = (
            status.progress == TaskState.RUNNING
            and task.state < TaskState.RUNNING
            and bool(report.endpoints or task.endpoints)
            and self._proofs.speaks(task.node_id or "")
            and self._is_routed(task)
        )
        return msgspec.structs.replace(status, reachable=False if proves else None)

    # -- what follows -------------------------------------------------------------------------------------------

    @property
    def is_stale(self) -> bool:
        return self._routes.is_stale

    def publish(self) -> bool:
        """Take the table as it is now into `history`; whether it is to be sent."""
        table = self._routes.table(self._store)
        fresh = self.history.publish(table)
        self._gate.published(table)
        self._proofs.published(table)
        return fresh

    def is_held(self, task_id: str) -> bool:
        """Whether the order to stop the task has to wait for its requests."""
        return self._gate.is_held(task_id)

    def release(self, now: float) -> list[str]:
        """Tasks whose order to stop may pass now."""
        if not self._gate.is_holding:
            return []
        return self._gate.release(now, [node.id for node in self._store.nodes if node.status.state in MAY_SERVE])
