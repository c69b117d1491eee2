"""Addresses of tasks on overlay networks, and the VXLAN ids of networks.

- An address is used once on a network, cluster-wide. A task has its own from before it is placed until it has ended;
  one that was given up with its node (`orphaned`) keeps it until it is forgotten: it may still run there.
- Freed addresses are used again late: the search goes on after the last one given, so that a peer that still holds an
  old answer does not reach a stranger.
- The network's gateway address is not given to tasks: it is the same on every node (see docs/network.md). Rejected: one
  gateway address a node, as Swarm has, which uses up a small subnet on a big cluster (moby#37338).

Pure: networks and tasks in, attachments out.
"""

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass, field

import msgspec

from essaim.cluster.container import DriverSpec
from essaim.cluster.objects import Network
from essaim.cluster.task import NetworkAttachment, Task, TaskState

VXLAN_OPTION = "com.docker.network.driver.overlay.vxlanid_list"
FIRST_VXLAN, LAST_VXLAN = 4097, (1 << 24) - 1


def is_overlay(network: Network) -> bool:
    return (network.spec.driver or "overlay") == "overlay"


def vxlan_id(network: Network) -> int | None:
    """The id of the network's VXLAN, once it has one."""
    options = (network.driver_state.options if network.driver_state else None) or {}
    return int(options[VXLAN_OPTION]) if VXLAN_OPTION in options else None


def with_vxlan_ids(networks: Iterable[Network]) -> list[Network]:
    """The overlay networks that had no id, each with the lowest free one. Those that find none are left out."""
    networks = list(networks)
    taken = {vxlan_id(network) for network in networks}
    found = []
    candidate = FIRST_VXLAN
    for network in networks:
        if not is_overlay(network) or vxlan_id(network) is not None:
            continue
        while candidate in taken:
            candidate += 1
        if candidate > LAST_VXLAN:
            break
        taken.add(candidate)
        state = DriverSpec(name="overlay", options={VXLAN_OPTION: str(candidate)})
        found.append(msgspec.structs.replace(network, driver_state=state))
    return found


def subnet_of(network: Network) -> tuple[ipaddress.IPv4Network, ipaddress.IPv4Address] | None:
    """The first IPv4 subnet and its gateway."""
    for config in (network.spec.ipam or {}).get("Config") or []:
        subnet = ipaddress.ip_network(config["Subnet"], strict=False)
        if isinstance(subnet, ipaddress.IPv4Network):
            return subnet, ipaddress.IPv4Address(config.get("Gateway") or str(subnet.network_address + 1))
    return None


def needs_addresses(task: Task) -> bool:
    """It names networks and has not been given its addresses yet."""
    return bool(task.spec.networks) and task.networks_attachments is None


def holds_addresses(task: Task) -> bool:
    return bool(task.networks_attachments) and (not task.is_terminal or task.state == TaskState.ORPHANED)


def _attached(task: Task) -> list[tuple[str, int]]:
    """Network ids and addresses as numbers."""
    return [
        (attachment.network_id or "", int(ipaddress.IPv4Interface(address).ip))
        for attachment in task.networks_attachments or []
        for address in attachment.addresses or []
    ]


@dataclass
class Pool:
    """One network's addresses: who has which, and the last one given."""

    taken: dict[int, str] = field(default_factory=dict)
    last: int = 0

    def take(self, network: Network, task_id: str) -> str | None:
        """A free address with the subnet's length (`10.0.1.5/24`), or None when all are taken."""
        found = subnet_of(network)
        if found is None:
            return None
        subnet, gateway = found
        first, end = int(subnet.network_address) + 1, int(subnet.broadcast_address)
        start = self.last + 1 if first <= self.last + 1 < end else first
        for number in (*range(start, end), *range(first, start)):
            if number not in self.taken and number != int(gateway):
                self.taken[number] = task_id
                self.last = number
                return f"{ipaddress.IPv4Address(number)}/{subnet.prefixlen}"
        return None


class Book:
    """Who has which address on which network. Begun anew, it goes on after the highest one that any task has or had."""

    def __init__(self, tasks: Iterable[Task] = ()) -> None:
        self._pools: dict[str, Pool] = {}
        self._held: dict[str, list[tuple[str, int]]] = {}
        for task in tasks:
            self.record(task)
            for network_id, number in _attached(task):
                pool = self._pools.setdefault(network_id, Pool())
                pool.last = max(pool.last, number)

    def record(self, task: Task) -> None:
        """Take in a task as it is: its addresses are taken, or free again."""
        self.forget(task.id)
        if holds_addresses(task):
            for network_id, number in _attached(task):
                self._pools.setdefault(network_id, Pool()).taken[number] = task.id
                self._held.setdefault(task.id, []).append((network_id, number))

    def forget(self, task_id: str) -> None:
        for network_id, number in self._held.pop(task_id, []):
            pool = self._pools[network_id]
            if pool.taken.get(number) == task_id:
                del pool.taken[number]

    def attach(self, task: Task, networks: Iterable[Network]) -> Task | str:
        """The task with an address on each network (all or none), or why it cannot have them."""
        attachments = []
        for network in networks:
            pool = self._pools.setdefault(network.id, Pool())
            address = pool.take(network, task.id)
            if address is None:
                self.forget(task.id)
                return f"no free address is left on network {network.spec.name}: give it a larger subnet"
            self._held.setdefault(task.id, []).append((network.id, int(ipaddress.IPv4Interface(address).ip)))
            attachments.append(NetworkAttachment(network_id=network.id, addresses=[address]))
        return msgspec.structs.replace(task, networks_attachments=attachments)
