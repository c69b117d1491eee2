"""Which node has to know what of which overlay network: its peers there, and the names of services and tasks.

- A network concerns the nodes that have a task on it which has not ended.
- A service's name and aliases, and `tasks.` before them, stand for its tasks that are fit (`is_up`) and not about to
  stop; a task's own name for itself while it runs.

Pure: the store in, tables out.
"""

import ipaddress
from collections import defaultdict

from essaim.cluster.node import Node
from essaim.cluster.objects import Network
from essaim.cluster.overlay import OverlayNetwork
from essaim.cluster.store import Store
from essaim.cluster.task import Task, TaskState

from .addresses import subnet_of, vxlan_id
from .tasks import is_up

Members = dict[str, list[tuple[Task, str]]]


def overlays(store: Store) -> dict[str, list[OverlayNetwork]]:
    """By node id, in order of the networks' ids."""
    members: Members = defaultdict(list)
    for task in store.tasks:
        if task.is_terminal or not task.node_id or task.state < TaskState.ASSIGNED:
            continue
        for attachment in task.networks_attachments or []:
            for address in attachment.addresses or []:
                members[attachment.network_id or ""].append((task, str(ipaddress.ip_interface(address).ip)))
    found: dict[str, list[OverlayNetwork]] = defaultdict(list)
    for network_id in sorted(members):
        network = store.networks.get(network_id)
        table = _table(store, network, members[network_id]) if network else None
        if table is not None:
            for node_id in sorted({task.node_id or "" for task, _ in members[network_id]}):
                found[node_id].append(table)
    return dict(found)


def _table(store: Store, network: Network, members: list[tuple[Task, str]]) -> OverlayNetwork | None:
    subnet, number = subnet_of(network), vxlan_id(network)
    if subnet is None or number is None:
        return None
    nodes = [store.nodes.get(node_id) for node_id in sorted({task.node_id or "" for task, _ in members})]
    names: dict[str, set[str]] = defaultdict(set)
    for task, address in members:
        for name in _names(task, network):
            names[name].add(address)
    return OverlayNetwork(
        id=network.id,
        name=network.spec.name or network.id,
        subnet=str(subnet[0]),
        gateway=str(subnet[1]),
        vxlan=number,
        internal=bool(network.spec.internal),
        peers=sorted({reached for node in nodes if node and (reached := _data_address(node))}),
        names={name: sorted(addresses) for name, addresses in sorted(names.items())},
    )


def _data_address(node: Node) -> str | None:
    return (node.description.data_addr if node.description else None) or node.status.addr


def _names(task: Task, network: Network) -> set[str]:
    found = {task.name.lower()} if task.name and task.state == TaskState.RUNNING else set()
    if is_up(task) and task.desired <= TaskState.RUNNING:
        own = {task.service_name or ""}
        for config in task.spec.networks or []:
            if config.target in (network.id, network.spec.name):
                own |= set(config.aliases or [])
        for name in own - {""}:
            found |= {name.lower(), f"tasks.{name.lower()}"}
    return found
