"""What a node needs to know of an overlay network that it has tasks on. Soft state: sent by the leader, never stored.

Pure: data only.
"""

import msgspec

BRIDGE_LABEL = "essaim.network"
"""Of an Engine's bridge that is its node's part of an overlay network; the value is the network's name."""


class VirtualService(msgspec.Struct, frozen=True):
    """A service's virtual address on a network. `up`: replicas that new flows may go to; `leaving`: those that only
    keep the flows that they have. Any other replica has ended."""

    vip: str
    up: list[str] = []
    leaving: list[str] = []


class OverlayNetwork(msgspec.Struct, frozen=True):
    """`peers`: data addresses of all nodes with tasks on it; `names`: addresses by lower-case name, virtual ones among
    them; `services`: what those stand for; `vxlan`: its id."""

    id: str
    name: str
    subnet: str
    gateway: str
    vxlan: int
    internal: bool = False
    peers: list[str] = []
    names: dict[str, list[str]] = {}
    services: list[VirtualService] = []
