"""What a node needs to know of an overlay network that it has tasks on. Soft state: sent by the leader, never stored.

Pure: data only.
"""

import msgspec


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
