"""What a node needs to know of an overlay network that it has tasks on. Soft state: sent by the leader, never stored.

Pure: data only.
"""

import msgspec

DATA_PATH_PORT = 4789
MTU_OPTION = "com.docker.network.driver.mtu"
MTU = 1450
"""Unless the option says otherwise: what Ethernet's usual 1500 leave when a frame is put into a datagram."""

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
    them; `services`: what those stand for; `vxlan`: its id; `port`: the UDP port of its link; `mtu`: of containers."""

    id: str
    name: str
    subnet: str
    gateway: str
    vxlan: int
    internal: bool = False
    peers: list[str] = []
    names: dict[str, list[str]] = {}
    services: list[VirtualService] = []
    port: int = DATA_PATH_PORT
    mtu: int = MTU
