"""The loop around `addresses`: VXLAN ids for networks, and addresses for tasks that wait to be placed.

A task that names networks is not placed before it has its addresses; while there are none, its status says why.

Pure: decides only.
"""

from datetime import datetime

import msgspec

from essaim.cluster import changes
from essaim.cluster.objects import Network
from essaim.cluster.store import Store
from essaim.cluster.task import Task, TaskState
from essaim.cluster.watch import Event

from .addresses import Book, is_overlay, needs_addresses, vxlan_id, with_vxlan_ids
from .loop import Decision


class Addressing:
    name = "addresses"
    tables = ("networks", "tasks")

    def __init__(self) -> None:
        self._book = Book()
        self._waiting: dict[str, None] = {}
        self._refused: set[str] = set()
        self._new_networks = False

    def reset(self, store: Store) -> None:
        self._refused.clear()
        self._new_networks = True
        tasks = list(store.tasks)
        self._book = Book(tasks)
        self._waiting = {task.id: None for task in tasks if _is_due(task)}

    def observe(self, events: list[Event]) -> None:
        for event in events:
            if event.table == "networks":
                self._new_networks = True
                self._look_again()
            else:
                self._observe_task(event)

    def _observe_task(self, event: Event) -> None:
        task: Task = event.object
        had = event.old is not None and bool(event.old.networks_attachments)
        if event.kind == "delete":
            self._book.forget(task.id)
        else:
            self._book.record(task)
        if event.kind == "delete" or not _is_due(task):
            self._waiting.pop(task.id, None)
            self._refused.discard(task.id)
        elif task.id not in self._refused:
            self._waiting[task.id] = None
        if had and (event.kind == "delete" or task.is_terminal):
            self._look_again()

    def _look_again(self) -> None:
        """Room may have come for those that found none."""
        self._waiting.update(dict.fromkeys(sorted(self._refused)))
        self._refused.clear()

    def decide(self, store: Store, now: datetime) -> Decision:
        decision = Decision()
        if self._new_networks:
            found = with_vxlan_ids(store.networks)
            decision.changes += [changes.put("networks", network) for network in found]
            self._new_networks = any(is_overlay(n) and vxlan_id(n) is None for n in store.networks) and bool(found)
        waiting, self._waiting = self._waiting, {}
        for task_id in waiting:
            task = store.tasks.get(task_id)
            if task is None or not _is_due(task):
                continue
            outcome = self._book.attach(task, networks_of(task, store))
            if isinstance(outcome, Task):
                decision.changes.append(changes.put("tasks", outcome))
                continue
            self._refused.add(task_id)
            if task.status.err != outcome:
                status = msgspec.structs.replace(task.status, err=outcome, timestamp=now)
                decision.changes.append(changes.put("tasks", msgspec.structs.replace(task, status=status)))
        return decision


def _is_due(task: Task) -> bool:
    return needs_addresses(task) and task.state < TaskState.ASSIGNED and task.desired <= TaskState.COMPLETE


def networks_of(task: Task, store: Store) -> list[Network]:
    """The overlay networks that the task names, each once; a node's own (`host`, `bridge`) have no addresses here."""
    found: dict[str, Network] = {}
    for config in task.spec.networks or []:
        network = store.networks.get(config.target or "") or store.networks.named(config.target or "")
        if network is not None and is_overlay(network) and not network.spec.ingress:
            found[network.id] = network
    return list(found.values())
