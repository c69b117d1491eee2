"""Which node has to know what of which overlay network: its peers there, the names of services and tasks, and what
virtual addresses stand for.

- A network concerns the nodes that have a task on it which has not ended.
- A task's own name stands for itself while it runs; `tasks.NAME` (and aliases so) for a service's tasks that are fit
  (`is_up`), on a node that is not lost, and not about to stop. The service's name and aliases stand for its virtual
  address, as long as it has one, and else for the same tasks.
- A virtual address stays a name's answer while no task is up: what is refused can be tried again at once, while
  "no such name" is remembered by resolvers.

Pure: the store in, tables out.
"""

import ipaddress
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache, partial

from essaim.cluster.node import Node
from essaim.cluster.numerals import whole
from essaim.cluster.objects import Network
from essaim.cluster.overlay import DATA_PATH_PORT, MTU, MTU_OPTION, OverlayNetwork, VirtualService
from essaim.cluster.service import NetworkAttachmentConfig, Service
from essaim.cluster.store import Store
from essaim.cluster.task import Task, TaskState
from essaim.cluster.walls import Walls
from essaim.cluster.watch import Event
from essaim.scheduler.allocate.addresses import subnet_of, virtual_ips, vxlan_id
from essaim.scheduler.tasks import is_gone, is_up, task_spec


@dataclass
class _Members:
    """Who is on a network: tasks with their addresses, and services with their virtual ones."""

    tasks: list[tuple[Task, str]] = field(default_factory=list)
    services: list[tuple[Service, str]] = field(default_factory=list)


def concerns_networks(event: Event) -> bool:
    """Whether any node's tables may have changed by it."""
    old, new = event.old, event.object
    if event.table == "tasks":
        return bool(new.networks_attachments or (old is not None and old.networks_attachments))
    if event.table == "services":
        was = virtual_ips(old) if old is not None else []
        return bool(was) if event.kind == "delete" else was != virtual_ips(new) or _renamed(old, new)
    if event.table == "nodes":
        return old is None or event.kind == "delete" or _seen(old) != _seen(new)
    return event.table == "networks"


def _renamed(old: Service | None, new: Service) -> bool:
    """Names are answered by virtual addresses as the service's present specification says."""
    return bool(virtual_ips(new)) and (old is None or _configs(old) != _configs(new))


def _seen(node: Node) -> tuple[object, ...]:
    return _data_address(node), is_gone(node)


def overlays(
    store: Store, walls: Walls | None = None, before: Mapping[str, OverlayNetwork] | None = None
) -> dict[str, list[OverlayNetwork]]:
    """By node id, in order of the networks' ids. A network whose table cannot be made keeps that of `before`."""
    walls = walls or Walls("its addresses and names cannot be told to nodes")
    walls.begin()
    members = _members(store, walls)
    found: dict[str, list[OverlayNetwork]] = defaultdict(list)
    for network_id in sorted(members):
        network = store.networks.get(network_id)
        if network is None:
            continue
        make = partial(_table, store, network, members[network_id])
        last = before.get(network_id) if before else None
        table = walls.guard(network_id, f"network {network.spec.name}", make, last)
        if table is not None:
            for node_id in sorted({task.node_id or "" for task, _ in members[network_id].tasks}):
                found[node_id].append(table)
    walls.end()
    return dict(found)


def _members(store: Store, walls: Walls) -> dict[str, _Members]:
    """By network id."""
    members: dict[str, _Members] = defaultdict(_Members)
    for task in store.tasks:
        if not (task.networks_attachments and task.node_id):
            continue
        for network_id, address in walls.guard(task.id, task.service_id or "", _places_of, (), task):
            members[network_id].tasks.append((task, address))
    for service in store.services:
        for network_id, address in walls.guard(service.id, service.id, _virtual_places_of, (), service):
            if network_id in members:
                members[network_id].services.append((service, address))
    return members


def _places_of(task: Task) -> list[tuple[str, str]]:
    """Network ids and addresses of a task that is on its node. Raises ValueError for what is no address, and KeyError
    for a state that is none: what comes after this reads neither for the first time."""
    if task.state < TaskState.ASSIGNED or task.is_terminal or task.desired > TaskState.ORPHANED:
        return []
    return [
        (attachment.network_id or "", _plain(address))
        for attachment in task.networks_attachments or []
        for address in attachment.addresses or []
    ]


def _virtual_places_of(service: Service) -> list[tuple[str, str]]:
    return [(virtual.network_id or "", _plain(virtual.addr)) for virtual in virtual_ips(service) if virtual.addr]


def _plain(address: str) -> str:
    plain = address.partition("/")[0]
    _number(plain)
    return plain


def _table(store: Store, network: Network, members: _Members) -> OverlayNetwork | None:
    subnet, number = subnet_of(network), vxlan_id(network)
    if subnet is None or number is None:
        return None
    nodes = [store.nodes.get(node_id) for node_id in sorted({task.node_id or "" for task, _ in members.tasks})]
    return OverlayNetwork(
        id=network.id,
        name=network.spec.name or network.id,
        subnet=str(subnet[0]),
        gateway=str(subnet[1]),
        vxlan=number,
        internal=bool(network.spec.internal),
        peers=sorted({reached for node in nodes if node and (reached := _data_address(node))}),
        names=_names(store, network, members),
        services=_services(store, members),
        port=(store.cluster.data_path_port if store.cluster else None) or DATA_PATH_PORT,
        mtu=_mtu(network),
    )


def _mtu(network: Network) -> int:
    return whole((network.spec.options or {}).get(MTU_OPTION) or "", 5) or MTU


def _data_address(node: Node) -> str | None:
    return (node.description.data_addr if node.description else None) or node.status.addr


def _is_fit(task: Task, store: Store) -> bool:
    """New traffic may go to it."""
    return is_up(task) and task.desired <= TaskState.RUNNING and not is_gone(store.nodes.get(task.node_id or ""))


def _services(store: Store, members: _Members) -> list[VirtualService]:
    of_service: dict[str, list[tuple[Task, str]]] = defaultdict(list)
    for task, address in members.tasks:
        of_service[task.service_id or ""].append((task, address))
    found = []
    for service, vip in members.services:
        up = {address for task, address in of_service[service.id] if _is_fit(task, store)}
        leaving = {address for _, address in of_service[service.id]} - up
        found.append(VirtualService(vip, _in_order(up), _in_order(leaving)))
    return sorted(found, key=lambda virtual: _number(virtual.vip))


def _names(store: Store, network: Network, members: _Members) -> dict[str, list[str]]:
    names: dict[str, set[str]] = defaultdict(set)
    virtual = {service.id for service, _ in members.services}
    for service, vip in members.services:
        for name in _called(service.spec.name, _configs(service), network):
            names[name].add(vip)
    for task, address in members.tasks:
        if task.name and task.state == TaskState.RUNNING:
            names[task.name.lower()].add(address)
        if _is_fit(task, store):
            for name in _called(task.service_name, task.spec.networks, network):
                names[f"tasks.{name}"].add(address)
                if task.service_id not in virtual:
                    names[name].add(address)
    return {name: _in_order(addresses) for name, addresses in sorted(names.items())}


def _in_order(addresses: Iterable[str]) -> list[str]:
    return sorted(addresses, key=_number)


@lru_cache(maxsize=1 << 16)
def _number(address: str) -> int:
    """Half of the time that tables take was spent on reading addresses anew."""
    return int(ipaddress.IPv4Address(address))


def _configs(service: Service) -> list[NetworkAttachmentConfig] | None:
    return task_spec(service.spec).networks


def _called(name: str | None, configs: list[NetworkAttachmentConfig] | None, network: Network) -> set[str]:
    """A service's names on the network: its own and its aliases there."""
    found = {name or ""}
    for config in configs or []:
        if config.target in (network.id, network.spec.name):
            found |= set(config.aliases or [])
    return {each.lower() for each in found if each}
