"""Drain before stop: a replica is told to stop only after no gateway sends it anything any more.

When a running task is to stop, the route table shows it as draining. The order to stop passes once every gateway has
applied a table in which that is so and has no open request left on it, or once the limit is over (label `essaim.drain`
of the service, 10 s unless set). A task that no gateway knows is let go at once.

A session whose gateway has not answered any table within NO_GATEWAY has none to wait for. A node that is not connected
and not known to be down is waited for as well: after a change of leader nobody is connected yet, and the workers of a
daemon that is being restarted serve by its last table until it is back.

Pure: times in seconds of a monotonic clock come in.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

from essaim.cluster.durations import seconds
from essaim.cluster.routes import RouteTable

LABEL = "essaim.drain"
DEFAULT_LIMIT = 10.0
NO_GATEWAY = 3.0


def limit_of(labels: dict[str, str] | None) -> float:
    """Seconds. The API refuses what cannot be read (`spec_labels.py`); what an older release took counts as not
    given."""
    try:
        return seconds((labels or {})[LABEL])
    except (KeyError, ValueError):
        return DEFAULT_LIMIT


@dataclass(slots=True)
class Gateway:
    """A connected node's gateway. `version`: of the last table it said it serves by."""

    since: float
    version: int = -1
    open_requests: dict[str, int] = field(default_factory=dict)


@dataclass(slots=True)
class _Draining:
    until: float
    version: int | None = None
    """The first table that shows it so."""


class DrainGate:
    def __init__(self) -> None:
        self._draining: dict[str, _Draining] = {}
        self._let_go: set[str] = set()
        self._gateways: dict[str, Gateway] = {}

    # -- what happens -------------------------------------------------------------------------------------------

    def connect(self, node_id: str, now: float) -> None:
        self._gateways[node_id] = Gateway(now)

    def disconnect(self, node_id: str) -> None:
        self._gateways.pop(node_id, None)

    def applied(self, node_id: str, version: int, open_requests: dict[str, int]) -> None:
        """A gateway's word on what it serves by."""
        gateway = self._gateways.get(node_id)
        if gateway is not None and version >= gateway.version:
            gateway.version = version
            gateway.open_requests = open_requests

    def begin(self, task_id: str, limit: float, now: float) -> None:
        """The task is to stop, and gateways may know it."""
        if task_id not in self._draining and task_id not in self._let_go:
            self._draining[task_id] = _Draining(now + limit)

    def published(self, table: RouteTable) -> None:
        """The table is on its way to the gateways."""
        waiting = {task_id for task_id, draining in self._draining.items() if draining.version is None}
        if not waiting:
            return
        up = {e.task_id for s in table.services for p in s.ports for e in p.endpoints if e.state == "up"}
        for task_id in waiting - up:
            self._draining[task_id].version = table.version

    def forget(self, task_id: str) -> None:
        """The task has ended or is gone."""
        self._draining.pop(task_id, None)
        self._let_go.discard(task_id)

    # -- what follows -------------------------------------------------------------------------------------------

    def is_held(self, task_id: str) -> bool:
        """Whether the order to stop has to wait."""
        return task_id in self._draining

    def release(self, now: float, nodes: Collection[str] = ()) -> list[str]:
        """Let go every task that nothing holds any more; which ones. `nodes`: all whose gateways may serve."""
        is_whole = self._gateways.keys() >= set(nodes)
        free = [t for t, draining in self._draining.items() if self._is_free(t, draining, now, is_whole=is_whole)]
        for task_id in free:
            del self._draining[task_id]
            self._let_go.add(task_id)
        return free

    def _is_free(self, task_id: str, draining: _Draining, now: float, *, is_whole: bool) -> bool:
        if now >= draining.until:
            return True
        if draining.version is None or not is_whole:
            return False
        return all(self._is_clear(g, task_id, draining.version, now) for g in self._gateways.values())

    @staticmethod
    def _is_clear(gateway: Gateway, task_id: str, version: int, now: float) -> bool:
        if gateway.version < 0:
            return now - gateway.since >= NO_GATEWAY
        return gateway.version >= version and not gateway.open_requests.get(task_id)

    @property
    def is_holding(self) -> bool:
        return bool(self._draining)

    @property
    def held(self) -> Iterable[str]:
        return self._draining.keys()
