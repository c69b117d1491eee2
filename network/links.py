"""VXLAN links: the wire between one network's bridges on different nodes.

Frames to unknown addresses go to every peer (head-end replication), so no multicast is needed; what comes back is
learned. Every bridge of a network has the same gateway address and hardware address: a frame to the gateway finds the
bridge of its own node. Blocking: call it from a thread.
"""

import hashlib
import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass

from pyroute2 import IPRoute

EVERYBODY = "00:00:00:00:00:00"
IFF_UP = 1


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


@dataclass(frozen=True, slots=True)
class Seen:
    """What there is of a link: the bridge that it belongs to, itself on that bridge, and whom frames are sent to."""

    has_bridge: bool
    is_wired: bool
    peers: frozenset[str] = frozenset()


def look(wanted: Iterable[Link]) -> dict[str, Seen]:
    """By network. Raises OSError or pyroute2's NetlinkError."""
    with IPRoute() as routes:
        return {link.network_id: _look(routes, link) for link in wanted}


def _look(routes: IPRoute, link: Link) -> Seen:
    bridges = routes.link_lookup(ifname=bridge_name(link.network_id))
    found = routes.link_lookup(ifname=vxlan_name(link.vxlan))
    if not bridges or not found:
        return Seen(bool(bridges), is_wired=False)
    (shown,) = routes.link("get", index=found[0])
    entries = routes.fdb("dump", ifindex=found[0])
    peers = frozenset(e.get_attr("NDA_DST") for e in entries if e.get_attr("NDA_LLADDR") == EVERYBODY)
    return Seen(True, shown.get_attr("IFLA_MASTER") == bridges[0] and bool(shown["flags"] & IFF_UP), peers)


def mend(link: Link, seen: Seen) -> None:
    """Make of what there is what is to be; the bridge must be there. Raises OSError or pyroute2's NetlinkError."""
    if not seen.is_wired:
        lay(link)
    elif (peers := link.peers - {link.local}) != seen.peers:
        change_peers(link.vxlan, seen.peers - peers, peers - seen.peers)


def lay(link: Link) -> None:
    """Make the link anew, its peers as given. Raises OSError or pyroute2's NetlinkError."""
    name = vxlan_name(link.vxlan)
    with IPRoute() as routes:
        bridge = _index(routes, bridge_name(link.network_id))
        routes.link("set", index=bridge, address=gateway_mac(link.network_id))
        for index in routes.link_lookup(ifname=name):
            routes.link("del", index=index)
        routes.link(
            "add", ifname=name, kind="vxlan", vxlan_id=link.vxlan, vxlan_local=link.local, vxlan_port=link.port,
            vxlan_learning=True,
        )  # fmt: skip
        index = _index(routes, name)
        routes.link("set", index=index, mtu=link.mtu, master=bridge, state="up")
        for peer in sorted(link.peers - {link.local}):
            routes.fdb("append", ifindex=index, lladdr=EVERYBODY, dst=peer)


def change_peers(vxlan: int, gone: frozenset[str], new: frozenset[str]) -> None:
    with IPRoute() as routes:
        index = _index(routes, vxlan_name(vxlan))
        for peer in sorted(gone):
            routes.fdb("del", ifindex=index, lladdr=EVERYBODY, dst=peer)
        for peer in sorted(new):
            routes.fdb("append", ifindex=index, lladdr=EVERYBODY, dst=peer)


def cut(vxlan: int) -> None:
    with IPRoute() as routes:
        for index in routes.link_lookup(ifname=vxlan_name(vxlan)):
            routes.link("del", index=index)


def _index(routes: IPRoute, name: str) -> int:
    found: list[int] = routes.link_lookup(ifname=name)
    if not found:
        raise OSError(f"the network link {name} is not there (any more)")
    return found[0]
