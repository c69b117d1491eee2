"""The loop around `addresses`: VXLAN ids for networks, virtual addresses for services, and addresses for tasks that
wait to be placed.

A task that names networks is not placed before it has its addresses; while there are none, its status says why. A
service gets its virtual addresses once its ports are allocated; its tasks do not wait for them.

Pure: decides only.
"""

from datetime import datetime

import msgspec

from essaim.cluster import changes
from essaim.cluster.changes import Change
from essaim.cluster.objects import Network
from essaim.cluster.service import NetworkAttachmentConfig, Service
from essaim.cluster.store import Store
from essaim.cluster.task import Task, TaskState
from essaim.cluster.watch import Event

from .addresses import Book, is_overlay, needs_addresses, subnet_of, virtual_ips, vxlan_id, wants_vip, with_vxlan_ids
from .allocator import is_allocated, is_ingress
from .loop import Decision
from .tasks import task_spec


class Addressing:
    name = "addresses"
    tables = ("networks", "services", "tasks")

    def __init__(self) -> None:
        self._book = Book()
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
        self._book = Book(tasks, services)
        self._waiting = {task.id: None for task in tasks if _is_due(task)}
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
        self._services.update(dict.fromkeys(sorted(self._lacking)))

    def decide(self, store: Store, now: datetime) -> Decision:
        decision = Decision()
        if self._new_networks:
            found = with_vxlan_ids(store.networks)
            decision.changes += [changes.put("networks", network) for network in found]
            self._new_networks = any(is_overlay(n) and vxlan_id(n) is None for n in store.networks) and bool(found)
        decision.changes += self._endow_services(store, decision.notes)
        decision.changes += self._attach_tasks(store, now)
        return decision

    def _endow_services(self, store: Store, notes: list[str]) -> list[Change]:
        waiting, self._services = self._services, {}
        found: list[Change] = []
        for service_id in waiting:
            service = store.services.get(service_id)
            if service is None or not is_allocated(service):
                continue
            endowed, lacking = self._book.endow(service, vip_networks(service, store))
            if endowed is not service:
                found.append(changes.put("services", endowed))
            if lacking != self._lacking.pop(service_id, []):
                notes += [f"service {service.spec.name} has no virtual address: {why}" for why in lacking]
            if lacking:
                self._lacking[service_id] = lacking
        return found

    def _attach_tasks(self, store: Store, now: datetime) -> list[Change]:
        waiting, self._waiting = self._waiting, {}
        found: list[Change] = []
        for task_id in waiting:
            task = store.tasks.get(task_id)
            if task is None or not _is_due(task):
                continue
            outcome = self._book.attach(task, networks_of(task.spec.networks, store))
            if isinstance(outcome, Task):
                found.append(changes.put("tasks", outcome))
                continue
            self._refused.add(task_id)
            if task.status.err != outcome:
                status = msgspec.structs.replace(task.status, err=outcome, timestamp=now)
                found.append(changes.put("tasks", msgspec.structs.replace(task, status=status)))
        return found


def _is_due(task: Task) -> bool:
    return needs_addresses(task) and task.state < TaskState.ASSIGNED and task.desired <= TaskState.COMPLETE


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
    ingress = [network for network in store.networks if published and network.spec.ingress and subnet_of(network)]
    return [*ingress, *networks_of(task_spec(service.spec).networks, store)]


def is_settled(service: Service, store: Store) -> bool:
    """Whether the leader has allotted it all that it asks for: ports, and virtual addresses."""
    wanted = {network.id for network in vip_networks(service, store)}
    return is_allocated(service) and {virtual.network_id for virtual in virtual_ips(service)} == wanted
