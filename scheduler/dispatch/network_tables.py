"""What nodes were told of their overlay networks, and which tasks' orders to stop wait for them to act on it.

When a running replica behind a virtual address is to stop, the tables show it as leaving. The order to stop passes once
every connected node on its networks has rules that send it no new flows, or after LIMIT. A node's tables have a version
that grows whenever they change; agents say which one they act by.

Pure: the store and times in seconds of a monotonic clock come in, encoded messages out.
"""

from dataclasses import dataclass

from essaim.cluster import wire
from essaim.cluster.overlay import OverlayNetwork
from essaim.cluster.store import Store
from essaim.cluster.task import Task, TaskState
from essaim.cluster.walls import Faults, Walls
from essaim.scheduler.allocate.addresses import virtual_ips

from .overlays import overlays

LIMIT = 2.0
"""Seconds: rules are loaded in a few milliseconds, and a node that is slower must not stop an update."""


@dataclass(slots=True)
class _Told:
    networks: list[OverlayNetwork]
    version: int
    encoded: bytes


@dataclass(slots=True)
class _Leaving:
    """`needs`: versions by node, once tables show that it leaves."""

    until: float
    networks: frozenset[str]
    needs: dict[str, int] | None = None


class NetworkTables:
    def __init__(self, faults: Faults | None = None) -> None:
        self._walls = Walls("its addresses and names cannot be told to nodes", faults)
        self._considering = Walls("one of its tasks cannot be read", faults)
        self._told: dict[str, _Told] = {}
        self._acting: dict[str, int] = {}
        self._leaving: dict[str, _Leaving] = {}
        self._let_go: set[str] = set()

    # -- tables -------------------------------------------------------------------------------------------------

    def renew(self, store: Store) -> None:
        """Take the store as it is."""
        last = {network.id: network for told in self._told.values() for network in told.networks}
        found = overlays(store, self._walls, last)
        for node_id in {*self._told, *found}:
            networks, before = found.get(node_id, []), self._told.get(node_id)
            if before is None or before.networks != networks:
                version = before.version + 1 if before else 1
                self._told[node_id] = _Told(networks, version, wire.encode(wire.Networks(networks, version)))
        for leaving in self._leaving.values():
            if leaving.needs is None:
                leaving.needs = {
                    node_id: told.version
                    for node_id, told in self._told.items()
                    if any(network.id in leaving.networks for network in told.networks)
                }

    def message(self, node_id: str) -> bytes | None:
        """What the node is to be told; None when it never was on a network."""
        told = self._told.get(node_id)
        return told.encoded if told is not None else None

    # -- nodes --------------------------------------------------------------------------------------------------

    def connect(self, node_id: str) -> None:
        self._acting[node_id] = 0

    def disconnect(self, node_id: str) -> None:
        self._acting.pop(node_id, None)

    def applied(self, node_id: str, version: int) -> None:
        """The node's containers have rules by its tables of that version."""
        if node_id in self._acting:
            self._acting[node_id] = max(version, self._acting[node_id])

    # -- tasks --------------------------------------------------------------------------------------------------

    def consider(self, task: Task, store: Store, now: float) -> None:
        """A task as it is now."""
        self._considering.guard(task.id, task.service_id or "", self._consider, None, task, store, now)

    def _consider(self, task: Task, store: Store, now: float) -> None:
        if task.is_terminal:
            self.forget(task.id)
        elif task.desired > TaskState.COMPLETE and task.state == TaskState.RUNNING:
            networks = _balanced(task, store)
            if networks and task.id not in self._leaving and task.id not in self._let_go:
                self._leaving[task.id] = _Leaving(now + LIMIT, networks)

    def forget(self, task_id: str) -> None:
        """It has ended or is gone."""
        self._considering.clear(task_id)
        self._leaving.pop(task_id, None)
        self._let_go.discard(task_id)

    def is_held(self, task_id: str) -> bool:
        """Whether the order to stop the task has to wait."""
        return task_id in self._leaving

    def release(self, now: float) -> list[str]:
        """Let go every task that nothing holds any more; which ones."""
        free = [task_id for task_id, leaving in self._leaving.items() if now >= leaving.until or self._is_free(leaving)]
        for task_id in free:
            del self._leaving[task_id]
            self._let_go.add(task_id)
        return free

    def _is_free(self, leaving: _Leaving) -> bool:
        if leaving.needs is None:
            return False
        return all(self._acting.get(node_id, version) >= version for node_id, version in leaving.needs.items())


def _balanced(task: Task, store: Store) -> frozenset[str]:
    """The networks on which a virtual address leads to the task."""
    service = store.services.get(task.service_id or "")
    if service is None:
        return frozenset()
    virtual = {v.network_id for v in virtual_ips(service)}
    return frozenset(a.network_id for a in task.networks_attachments or [] if a.network_id and a.network_id in virtual)
