"""What a name stands for, for the container that asks.

- A container knows the names of all networks that it is on: the one it asks by comes first, then the others in order.
- It is given a virtual address only when its own rules know it; else the replicas that the address stands for. So names
  work before a container's rules are loaded, where they cannot be, and for containers that nobody balances.
- Who is not known is on the network that it asks by.

Pure: tables in, addresses out.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from essaim.cluster.overlay import OverlayNetwork


@dataclass(frozen=True, slots=True)
class Client:
    """A container on this node: its address by network, and the virtual addresses that its rules know there."""

    addresses: Mapping[str, str]
    vips: Mapping[str, frozenset[str]] = field(default_factory=dict)


class Directory:
    """Its content may be replaced at any time."""

    def __init__(self) -> None:
        self._tables: dict[str, OverlayNetwork] = {}
        self._up: dict[str, dict[str, list[str]]] = {}
        self._clients: dict[tuple[str, str], Client] = {}

    def replace(self, networks: Iterable[OverlayNetwork], clients: Iterable[Client]) -> None:
        self._tables = {network.id: network for network in networks}
        self._up = {
            network.id: {service.vip: service.up for service in network.services} for network in self._tables.values()
        }
        self._clients = {
            (network_id, address): client for client in clients for network_id, address in client.addresses.items()
        }

    def lookup(self, network_id: str, asking: str, name: str) -> list[str] | None:
        """The addresses (none, when nobody is up), or None for an unknown name. `asking`: the client's address."""
        client = self._clients.get((network_id, asking))
        others = [other for other in client.addresses if other != network_id] if client else []
        for each in (network_id, *others):
            table = self._tables.get(each)
            if table is not None and (found := table.names.get(name)) is not None:
                known = client.vips.get(each, frozenset()) if client else frozenset()
                return [address for one in found for address in self._stands_for(each, one, known)]
        return None

    def _stands_for(self, network_id: str, address: str, known: frozenset[str]) -> list[str]:
        return [address] if address in known else self._up[network_id].get(address, [address])
