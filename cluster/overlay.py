"""What a node needs to know of an overlay network that it has tasks on. Soft state: sent by the leader, never stored.

Pure: data only.
"""

import msgspec

BRIDGE_LABEL = "essaim.network"
"""Of an Engine's bridge that is its node's part of an overlay network; the value is the network's name."""


class OverlayNetwork(msgspec.Struct, frozen=True):
    """`peers`: data addresses of all nodes with tasks on it; `names`: addresses by lower-case name; `vxlan`: its id."""

    id: str
    name: str
    subnet: str
    gateway: str
    vxlan: int
    internal: bool = False
    peers: list[str] = []
    names: dict[str, list[str]] = {}
