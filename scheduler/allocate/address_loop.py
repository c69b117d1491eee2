"""The loop around `addresses`: VXLAN ids for networks, virtual addresses for services, and addresses for tasks that
wait to be placed.

A task that names networks is not placed before it has its addresses; while there are none, its status says why. A
service gets its virtual addresses once its ports are allocated; its tasks do not wait for them.

Pure: decides only.
"""

import sys
from collections.abc import Callable
from datetime import datetime
from functools import partial

import msgspec

from essaim.cluster import changes
from essaim.cluster.changes import Change
from essaim.cluster.objects import Network
from essaim.cluster.service import NetworkAttachmentConfig, Service
from essaim.cluster.store import Store
from essaim.cluster.task import Task, TaskState
from essaim.cluster.walls import Faults, Walls
from essaim.cluster.watch import Event
from essaim.scheduler.agenda import Agenda
from essaim.scheduler.loop import Decision
from essaim.scheduler.tasks import task_spec

from .addresses import Book, has_subnet, is_overlay, needs_addresses, virtual_ips, vxlan_id, wants_vip, with_vxlan_ids
from .ports import is_allocated, is_ingress


class Addressing:
    name = "addresses"
    tables = ("networks", "services", "tasks")

    def __init__(self, faults: Faults | None = None) -> None:
        self._reading = Walls("its addresses cannot be read", faults)
        self._walls = Walls("it cannot be given addresses", faults)
        self._book = Book(walls=self._reading)
        # Tasks and services that cannot be given addresses are tried again at their time.
        self._later = Agenda()
        self._waiting: dict[str, None] = {}
        self._refused: set[str] = set()
        self._services: dict[str, None] = {}
        self._lacking: dict[str, list[str]] = {}
        self._new_networks = False

    def reset(self, store: Store) -> None:
        self._refused.clear()
        self._lacking.clear()
        self._new_networks = True
        tasks, services = list(store.tasks), list(store.services)
        self._walls.reset()
        self._later.clear()
        self._reading.begin()
        self._book = Book(tasks, services, self._reading)
        self._waiting = {task.id: None for task in tasks if self._is_due(task)}
        self._reading.end()
        self._services = {service.id: None for service in services}

    def observe(self, events: list[Event]) -> None:
        for event in events:
            if event.table == "networks":
                self._new_networks = True
                self._look_again()
            elif event.table == "services":
                self._observe_service(event)
            else:
                self._observe_task(event)

    def _observe_service(self, event: Event) -> None:
        service: Service = event.object
        if event.kind == "delete":
            self._book.forget(service.id)
            self._walls.clear(service.id)
            self._services.pop(service.id, None)
            self._lacking.pop(service.id, None)
        else:
            self._book.record_service(service)
            self._services[service.id] = None
        if event.old is not None and (event.kind == "delete" or virtual_ips(event.old) != virtual_ips(service)):
            self._look_again()

    def _observe_task(self, event: Event) -> None:
        task: Task = event.object
        had = event.old is not None and bool(event.old.networks_attachments)
        if event.kind == "delete":
            self._book.forget(task.id)
            self._reading.clear(f"{task.id} state")
        else:
            self._book.record(task)
        if event.kind == "delete" or not self._is_due(task):
            self._waiting.pop(task.id, None)
            self._walls.clear(task.id)
            self._refused.discard(task.id)
        elif task.id not in self._refused:
            self._waiting[task.id] = None
        if had and (event.kind == "delete" or self._state(task, _is_terminal)):
            self._look_again()

    def _is_due(self, task: Task) -> bool:
        return needs_addresses(task) and self._state(task, _is_due)

    def _state(self, task: Task, judge: Callable[[Task], bool]) -> bool:
        return self._reading.guard(f"{task.id} state", task.service_id or "", judge, False, task)

    def _look_again(self) -> None:
        """Room may have come for those that found none."""
        self._waiting.update(dict.fromkeys(sorted(self._refused)))
        self._refused.clear()
        self._services.update(dict.fromkeys(sorted(self._lacking)))

    def decide(self, store: Store, now: datetime) -> Decision:
        decision = Decision()
        for key in self._later.take(now, sys.maxsize):
            (self._services if store.services.get(key) is not None else self._waiting)[key] = None
        if self._new_networks:
            found = with_vxlan_ids(store.networks)
            decision.changes += [changes.put("networks", network) for network in found]
            self._new_networks = any(is_overlay(n) and vxlan_id(n) is None for n in store.networks) and bool(found)
        decision.changes += self._endow_services(store, now, decision.notes)
        decision.changes += self._attach_tasks(store, now)
        decision.wake = self._later.next_time()
        return decision

    def _try_again(self, key: str) -> None:
        if (again := self._walls.retry_at(key)) is not None:
            self._later.at(again, key)

    def _endow_services(self, store: Store, now: datetime, notes: list[str]) -> list[Change]:
        waiting, self._services = self._services, {}
        found: list[Change] = []
        for service_id in waiting:
            service = store.services.get(service_id)
            if service is None or not is_allocated(service):
                continue
            endow = partial(self._endow, service, store)
            nothing: list[str] = []
            endowed, lacking = self._walls.attempt(service_id, service.spec, now, endow, (service, nothing))
            self._try_again(service_id)
            if endowed is not service:
                found.append(changes.put("services", endowed))
            if lacking != self._lacking.pop(service_id, []):
                notes += [f"service {service.spec.name} has no virtual address: {why}" for why in lacking]
            if lacking:
                self._lacking[service_id] = lacking
        return found

    def _endow(self, service: Service, store: Store) -> tuple[Service, list[str]]:
        return self._book.endow(service, vip_networks(service, store))

    def _attach(self, task: Task, store: Store) -> Task | str:
        return self._book.attach(task, networks_of(task.spec.networks, store))

    def _attach_tasks(self, store: Store, now: datetime) -> list[Change]:
        waiting, self._waiting = self._waiting, {}
        found: list[Change] = []
        for task_id in waiting:
            task = store.tasks.get(task_id)
            if task is None or not self._is_due(task):
                continue
            attach = partial(self._attach, task, store)
            outcome = self._walls.attempt(task_id, task.spec, now, attach, None, task.service_id or "")
            self._try_again(task_id)
            if outcome is None:
                continue
            if isinstance(outcome, Task):
                found.append(changes.put("tasks", outcome))
                continue
            self._refused.add(task_id)
            if task.status.err != outcome:
                status = msgspec.structs.replace(task.status, err=outcome, timestamp=now)
                found.append(changes.put("tasks", msgspec.structs.replace(task, status=status)))
        return found


def _is_terminal(task: Task) -> bool:
    return task.is_terminal


def _is_due(task: Task) -> bool:
    return task.state < TaskState.ASSIGNED and task.desired <= TaskState.COMPLETE


def networks_of(configs: list[NetworkAttachmentConfig] | None, store: Store) -> list[Network]:
    """The overlay networks that are named, each once; a node's own (`host`, `bridge`) have no addresses here."""
    found: dict[str, Network] = {}
    for config in configs or []:
        network = store.networks.get(config.target or "") or store.networks.named(config.target or "")
        if network is not None and is_overlay(network) and not network.spec.ingress:
            found[network.id] = network
    return list(found.values())


def vip_networks(service: Service, store: Store) -> list[Network]:
    """Where the service has a virtual address: the ingress network first, then its own in their order."""
    if not wants_vip(service):
        return []
    endpoint = service.spec.endpoint_spec
    published = any(is_ingress(port) for port in (endpoint.ports if endpoint else None) or [])
    ingress = [network for network in store.networks if published and network.spec.ingress and has_subnet(network)]
    return [*ingress, *networks_of(task_spec(service.spec).networks, store)]


def is_settled(service: Service, store: Store) -> bool:
    """Whether the leader has allotted it all that it asks for: ports, and virtual addresses."""
    wanted = {network.id for network in vip_networks(service, store)}
    return is_allocated(service) and {virtual.network_id for virtual in virtual_ips(service)} == wanted
