"""Addresses of tasks and services on overlay networks, and the VXLAN ids of networks.

- An address is used once on a network, cluster-wide. A task has its own from before it is placed until it has ended;
  one that was given up with its node (`orphaned`) keeps it until it is forgotten: it may still run there.
- A service of mode vip has one on each of its networks (and, as Docker shows it, on the ingress network when it
  publishes ports there) for as long as it is attached.
- Freed addresses are used again late: the search goes on after the last one given, so that a peer that still holds an
  old answer does not reach a stranger.
- The network's gateway address is not given to tasks: it is the same on every node (see docs/network.md). Rejected: one
  gateway address a node, as Swarm has, which uses up a small subnet on a big cluster (moby#37338).

Pure: networks, tasks and services in, attachments and virtual addresses out.
"""

import ipaddress
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import msgspec

from essaim.cluster.container import DriverSpec
from essaim.cluster.numerals import whole
from essaim.cluster.objects import Network
from essaim.cluster.service import Endpoint, Service, VirtualIP
from essaim.cluster.task import NetworkAttachment, Task, TaskState
from essaim.cluster.walls import Unfit, Walls, words

VXLAN_OPTION = "com.docker.network.driver.overlay.vxlanid_list"
FIRST_VXLAN, LAST_VXLAN = 4097, (1 << 24) - 1


def is_overlay(network: Network) -> bool:
    return (network.spec.driver or "overlay") == "overlay"


def vxlan_id(network: Network) -> int | None:
    """The id of the network's VXLAN, once it has one."""
    text = ((network.driver_state.options if network.driver_state else None) or {}).get(VXLAN_OPTION, "")
    number = whole(text, 8) or 0
    return number if 0 < number <= LAST_VXLAN else None


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
    """The first IPv4 subnet and its gateway. Raises Unfit for addresses that cannot be read."""
    try:
        return _subnet(network)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        name = network.spec.name or network.id
        raise Unfit(f"the addresses of network {name} cannot be read ({words(error)}): make it anew") from error


def _subnet(network: Network) -> tuple[ipaddress.IPv4Network, ipaddress.IPv4Address] | None:
    for config in (network.spec.ipam or {}).get("Config") or []:
        subnet = ipaddress.ip_network(config["Subnet"], strict=False)
        if isinstance(subnet, ipaddress.IPv4Network):
            return subnet, ipaddress.IPv4Address(config.get("Gateway") or str(subnet.network_address + 1))
    return None


def has_subnet(network: Network) -> bool:
    """Whether it has one that can be read."""
    try:
        return subnet_of(network) is not None
    except Unfit:
        return False


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


def _held_by(task: Task) -> list[tuple[str, int]]:
    return _attached(task) if holds_addresses(task) else []


def _virtual(service: Service) -> list[tuple[str, int]]:
    """Network ids and virtual addresses as numbers."""
    return [(v.network_id or "", int(ipaddress.IPv4Interface(v.addr or "").ip)) for v in virtual_ips(service)]


def virtual_ips(service: Service) -> list[VirtualIP]:
    return (service.endpoint.virtual_ips if service.endpoint else None) or []


def wants_vip(service: Service) -> bool:
    """Docker's default; a service that is about to go needs none any more."""
    mode = service.spec.endpoint_spec.mode if service.spec.endpoint_spec else None
    return (mode or "vip") == "vip" and not service.pending_delete


@dataclass
class Pool:
    """One network's addresses: who has which, and the last one given."""

    taken: dict[int, str] = field(default_factory=dict)
    last: int = 0

    def take(self, network: Network, holder: str) -> str | None:
        """A free address with the subnet's length (`10.0.1.5/24`), or None when all are taken."""
        found = subnet_of(network)
        if found is None:
            return None
        subnet, gateway = found
        first, end, reserved = _space(network, subnet)
        start = self.last + 1 if first <= self.last + 1 < end else first
        for number in (*range(start, end), *range(first, start)):
            if number not in self.taken and number != int(gateway) and number not in reserved:
                self.taken[number] = holder
                self.last = number
                return f"{ipaddress.IPv4Address(number)}/{subnet.prefixlen}"
        return None


def _space(network: Network, subnet: ipaddress.IPv4Network) -> tuple[int, int, set[int]]:
    """The first number to give and the end, within the range if one is named; those that its user has reserved."""
    first, end = int(subnet.network_address) + 1, int(subnet.broadcast_address)
    reserved: set[int] = set()
    for config in (network.spec.ipam or {}).get("Config") or []:
        if ipaddress.ip_network(config["Subnet"], strict=False) != subnet:
            continue
        if config.get("IPRange"):
            part = ipaddress.IPv4Network(config["IPRange"], strict=False)
            first, end = max(first, int(part.network_address)), min(end, int(part.broadcast_address) + 1)
        reserved |= {int(ipaddress.IPv4Address(each)) for each in (config.get("AuxiliaryAddresses") or {}).values()}
    return first, end, reserved


class Book:
    """Who has which address on which network: ids of tasks and of services. Begun anew, it goes on after the highest
    address that any task or service has or any task had."""

    def __init__(
        self, tasks: Iterable[Task] = (), services: Iterable[Service] = (), walls: Walls | None = None
    ) -> None:
        self._walls = walls or Walls("its addresses cannot be read")
        self._pools: dict[str, Pool] = {}
        self._held: dict[str, list[tuple[str, int]]] = {}
        for service in services:
            self.record_service(service)
            self._go_on_after(self._numbers_of_service(service))
        for task in tasks:
            self.record(task)
            self._go_on_after(self._guarded(task, _attached, []))

    def _go_on_after(self, addresses: list[tuple[str, int]]) -> None:
        for network_id, number in addresses:
            pool = self._pools.setdefault(network_id, Pool())
            pool.last = max(pool.last, number)

    def record(self, task: Task) -> None:
        """Take in a task as it is: its addresses are taken, or free again."""
        known = self._held.get(task.id, [])
        self._hold(task.id, self._guarded(task, _held_by, known) if task.networks_attachments else [])

    def record_service(self, service: Service) -> None:
        self._hold(service.id, self._numbers_of_service(service))

    def _guarded(
        self, task: Task, read: Callable[[Task], list[tuple[str, int]]], otherwise: list[tuple[str, int]]
    ) -> list[tuple[str, int]]:
        return self._walls.guard(task.id, task.service_id or "", read, otherwise, task)

    def _numbers_of_service(self, service: Service) -> list[tuple[str, int]]:
        return self._walls.guard(service.id, service.id, _virtual, [], service)

    def _hold(self, holder: str, addresses: list[tuple[str, int]]) -> None:
        self._release(holder)
        for network_id, number in addresses:
            self._pools.setdefault(network_id, Pool()).taken[number] = holder
            self._held.setdefault(holder, []).append((network_id, number))

    def forget(self, holder: str) -> None:
        """The task or service is gone."""
        self._walls.clear(holder)
        self._release(holder)

    def _release(self, holder: str) -> None:
        for network_id, number in self._held.pop(holder, []):
            pool = self._pools[network_id]
            if pool.taken.get(number) == holder:
                del pool.taken[number]

    def attach(self, task: Task, networks: Iterable[Network]) -> Task | str:
        """The task with an address on each network (all or none), or why it cannot have them."""
        attachments = []
        for network in networks:
            address = self._take(network, task.id)
            if address is None:
                self._release(task.id)
                return full(network)
            attachments.append(NetworkAttachment(network_id=network.id, addresses=[address]))
        return msgspec.structs.replace(task, networks_attachments=attachments)

    def endow(self, service: Service, networks: Iterable[Network]) -> tuple[Service, list[str]]:
        """The service with a virtual address on each of these networks that has room and on no other; what it lacks.
        Those that it has stay. Without one, its name stands for its tasks' addresses."""
        before = {virtual.network_id: virtual for virtual in virtual_ips(service)}
        found: list[VirtualIP] = []
        lacking: list[str] = []
        for network in networks:
            if network.id in before:
                found.append(before[network.id])
            elif (address := self._take(network, service.id)) is not None:
                found.append(VirtualIP(network_id=network.id, addr=address))
            else:
                lacking.append(full(network))
        if found == virtual_ips(service):
            return service, lacking
        endpoint = service.endpoint or Endpoint(spec=service.spec.endpoint_spec)
        endowed = msgspec.structs.replace(
            service, endpoint=msgspec.structs.replace(endpoint, virtual_ips=found or None)
        )
        self.record_service(endowed)
        return endowed, lacking

    def _take(self, network: Network, holder: str) -> str | None:
        address = self._pools.setdefault(network.id, Pool()).take(network, holder)
        if address is not None:
            self._held.setdefault(holder, []).append((network.id, int(ipaddress.IPv4Interface(address).ip)))
        return address


def full(network: Network) -> str:
    return f"no free address is left on network {network.spec.name}: give it a larger subnet"
