"""VXLAN links: the wire between one network's bridges on different nodes.

Frames to unknown addresses go to every peer (head-end replication), so no multicast is needed; what comes back is
learned. Every bridge of a network has the same gateway address and hardware address: a frame to the gateway finds the
bridge of its own node. Blocking: call it from a thread.
"""

import hashlib
import ipaddress
from dataclasses import dataclass, replace

from pyroute2 import IPRoute

EVERYBODY = "00:00:00:00:00:00"


def bridge_name(network_id: str) -> str:
    return f"es{network_id[:12]}"


def vxlan_name(vxlan: int) -> str:
    return f"esvx{vxlan}"


def gateway_mac(network_id: str) -> str:
    """Locally administered, the same on every node."""
    digest = hashlib.sha256(network_id.encode()).digest()
    return ":".join(f"{byte:02x}" for byte in (0x02, *digest[:5]))


@dataclass(frozen=True, slots=True)
class Link:
    """One network's wire as this node is to have it."""

    network_id: str
    vxlan: int
    local: str
    peers: frozenset[str]
    port: int
    mtu: int

    @property
    def is_needed(self) -> bool:
        """Nodes that share a machine (and its Engine) by loopback addresses share the bridge too."""
        return not ipaddress.ip_address(self.local).is_loopback

    def only_peers_differ(self, other: "Link") -> bool:
        return replace(self, peers=other.peers) == other


def lay(link: Link) -> None:
    """Make the link anew, its peers as given. Raises OSError or pyroute2's NetlinkError."""
    name = vxlan_name(link.vxlan)
    with IPRoute() as routes:
        bridge = routes.link_lookup(ifname=bridge_name(link.network_id))[0]
        routes.link("set", index=bridge, address=gateway_mac(link.network_id))
        for index in routes.link_lookup(ifname=name):
            routes.link("del", index=index)
        routes.link(
            "add", ifname=name, kind="vxlan", vxlan_id=link.vxlan, vxlan_local=link.local, vxlan_port=link.port,
            vxlan_learning=True,
        )  # fmt: skip
        index = routes.link_lookup(ifname=name)[0]
        routes.link("set", index=index, mtu=link.mtu, master=bridge, state="up")
        for peer in sorted(link.peers - {link.local}):
            routes.fdb("append", ifindex=index, lladdr=EVERYBODY, dst=peer)


def change_peers(vxlan: int, gone: frozenset[str], new: frozenset[str]) -> None:
    with IPRoute() as routes:
        index = routes.link_lookup(ifname=vxlan_name(vxlan))[0]
        for peer in sorted(gone):
            routes.fdb("del", ifindex=index, lladdr=EVERYBODY, dst=peer)
        for peer in sorted(new):
            routes.fdb("append", ifindex=index, lladdr=EVERYBODY, dst=peer)


def cut(vxlan: int) -> None:
    with IPRoute() as routes:
        for index in routes.link_lookup(ifname=vxlan_name(vxlan)):
            routes.link("del", index=index)
