"""Networks of swarm scope: creating, finding, removing, and the subnet that each one gets.

Pure: the store and a request in, changes and a result out, or ClusterError in Docker's words.
"""

import ipaddress
from collections.abc import Iterable
from typing import Any

import msgspec

from essaim.cluster.changes import Change, Delete, put
from essaim.cluster.errors import AlreadyExists, FailedPrecondition, Forbidden, InvalidArgument
from essaim.cluster.ids import Chance, new_id
from essaim.cluster.numerals import whole
from essaim.cluster.objects import Network, NetworkSpec
from essaim.cluster.overlay import MTU_OPTION
from essaim.cluster.shape import Shape
from essaim.cluster.store import Store
from essaim.cluster.swarm import Cluster

from . import lookup, references
from .errors import precondition

PREDEFINED = {"bridge", "host", "none"}
DEFAULT_POOL = ["10.0.0.0/8"]
DEFAULT_SUBNET_SIZE = 24


class NetworkRequest(Shape):
    """The body of `POST /networks/create`."""

    name: str | None = None
    driver: str | None = None
    scope: str | None = None
    internal: bool | None = None
    attachable: bool | None = None
    ingress: bool | None = None
    config_only: bool | None = None
    config_from: dict[str, Any] | None = None
    enable_ipv4: bool | None = None
    enable_ipv6: bool | None = None
    ipam: dict[str, Any] | None = None
    options: dict[str, str] | None = None
    labels: dict[str, str] | None = None


class NetworkCreated(msgspec.Struct, rename={"id": "Id", "warning": "Warning"}):
    id: str
    warning: str = ""


def is_swarm_scoped(request: NetworkRequest) -> bool:
    """Whether the cluster keeps it; otherwise it belongs to one node's Engine."""
    return request.driver == "overlay" or request.scope == "swarm" or bool(request.ingress)


def create(store: Store, request: NetworkRequest, *, chance: Chance) -> tuple[list[Change], NetworkCreated]:
    name = request.name or ""
    if not name.strip() or name != name.strip() or "/" in name:
        raise InvalidArgument(f"invalid network name: {name!r}: it must not be empty, padded, or hold a slash")
    if name in PREDEFINED:
        raise Forbidden(f"operation is not permitted on predefined {name} network")
    if lookup.is_taken(store.networks, name):
        raise AlreadyExists(f"network with name {name} already exists")
    present = next((n for n in store.networks if n.spec.ingress), None)
    if request.ingress and present is not None:
        raise AlreadyExists(f"ingress network ({present.id}) is already present")
    if request.scope == "local":
        raise Forbidden("cannot downgrade network scope for overlay networks")
    _check_options(request)
    spec = NetworkSpec(
        name=name,
        labels=request.labels or {},
        driver=request.driver or "overlay",
        internal=bool(request.internal),
        attachable=bool(request.attachable),
        ingress=bool(request.ingress),
        enable_ipv6=bool(request.enable_ipv6),
        ipam=with_subnet(store.cluster, store.networks, request.ipam),
        options=request.options or {},
    )
    network = Network(id=new_id(chance), spec=spec)
    if not any(subnet.version == 4 for subnet in network.subnets):
        raise InvalidArgument("invalid IPAM.Config: a subnet of IPv4 is needed; networks have no IPv6 yet")
    warning = "IPv6 has no effect yet: containers on the network have addresses of IPv4" if request.enable_ipv6 else ""
    return [put("networks", network, new=True)], NetworkCreated(network.id, warning)


def _check_options(request: NetworkRequest) -> None:
    """What would be taken for done and is not is refused."""
    options = request.options or {}
    if "encrypted" in options and options["encrypted"].lower() not in ("0", "false"):
        raise InvalidArgument(
            "encrypted overlay networks are not supported: leave out the option `encrypted`, and keep the traffic "
            "between nodes on a network that you trust, or encrypt it in the services"
        )
    mtu = options.get(MTU_OPTION)
    if mtu is not None and not 576 <= (whole(mtu, 5) or 0) <= 65000:
        raise InvalidArgument(f"invalid {MTU_OPTION} {mtu[:40]!r}: use 576 to 65000")


def first_ingress(cluster: Cluster, *, chance: Chance) -> Network:
    """The ingress network of a cluster that is made now."""
    spec = NetworkSpec(
        name="ingress", labels={}, driver="overlay", ingress=True, ipam=with_subnet(cluster, [], None), options={}
    )
    return Network(id=new_id(chance), spec=spec)


def ensure_ingress(store: Store, *, chance: Chance) -> list[Change]:
    """The network that every new swarm has."""
    if any(n.spec.ingress for n in store.networks) or store.networks.named("ingress") is not None:
        return []
    return create(store, NetworkRequest(name="ingress", driver="overlay", ingress=True), chance=chance)[0]


def remove(store: Store, reference: str) -> list[Change]:
    network = lookup.network(store, reference)
    users = references.users_of_network(store, network.id)
    if network.spec.ingress and not users:
        users = [s.id for s in store.services if any(p.publish_mode == "ingress" for p in _ports(s))]
    if users:
        raise precondition(f"network {network.id} is in use by service {users[0]}")
    return [Delete("networks", network.id, network.version.index)]


def unused(store: Store) -> list[Network]:
    """What `network prune` may remove."""
    return [n for n in store.networks if not n.spec.ingress and not references.users_of_network(store, n.id)]


def _ports(service: Any) -> list[Any]:
    spec = service.spec.endpoint_spec
    return (spec.ports if spec else None) or []


# -- addresses ------------------------------------------------------------------------------------------------------


def with_subnet(cluster: Cluster | None, networks: Iterable[Network], ipam: dict[str, Any] | None) -> dict[str, Any]:
    """The address management as it will be shown: every network gets a subnet and a gateway of its own."""
    ipam = {key.lower(): value for key, value in (ipam or {}).items()}
    configs = ipam.get("config") or []
    if not isinstance(configs, list) or not all(isinstance(c, dict) for c in configs):
        raise InvalidArgument("invalid IPAM.Config: a list of objects with Subnet and Gateway is expected")
    if (driver := ipam.get("driver") or "default") != "default":
        raise InvalidArgument(f"invalid IPAM.Driver {driver!r}: the cluster gives out the addresses itself (default)")
    wanted = [{str(k).lower(): v for k, v in c.items()} for c in configs]
    taken = [net for network in networks for net in network.subnets]
    if not any(c.get("subnet") for c in wanted):
        wanted = [{"subnet": str(_free(cluster, taken))}]
    return {
        "Driver": driver,
        "Options": ipam.get("options") or None,
        "Config": [_config(c, taken) for c in wanted],
    }


def _config(config: dict[str, Any], taken: list[Any]) -> dict[str, Any]:
    subnet = _parse(config.get("subnet"))
    for other in taken:
        if subnet.version == other.version and subnet.overlaps(other):
            raise Forbidden(f"Pool overlaps with other one on this address space: {subnet} and {other}")
    gateway = config.get("gateway") or str(next(subnet.hosts()))
    try:
        inside = ipaddress.ip_address(gateway) in subnet
    except ValueError as error:
        raise InvalidArgument(f"invalid gateway {gateway!r}: {error}") from error
    if not inside:
        raise InvalidArgument(f"no matching subnet for gateway {gateway}")
    shown: dict[str, Any] = {"Subnet": str(subnet), "Gateway": gateway}
    if config.get("iprange"):
        part = _parse(config["iprange"])
        if part.version != subnet.version or not part.subnet_of(subnet):
            raise InvalidArgument(f"no matching subnet for range {part}")
        shown["IPRange"] = str(part)
    if auxiliary := config.get("auxiliaryaddresses"):
        shown["AuxiliaryAddresses"] = _auxiliary(auxiliary, subnet)
    return shown


def _auxiliary(found: Any, subnet: Any) -> dict[str, str]:
    """Addresses that no task gets."""
    if not isinstance(found, dict):
        raise InvalidArgument("invalid IPAM.Config: AuxiliaryAddresses is an object of names and addresses")
    for name, text in found.items():
        try:
            inside = ipaddress.ip_address(str(text)) in subnet
        except ValueError as error:
            raise InvalidArgument(f"invalid auxiliary address {name}={text!r}: {error}") from error
        if not inside:
            raise InvalidArgument(f"no matching subnet for aux-address {text}")
    return {str(name): str(text) for name, text in found.items()}


def _parse(text: Any) -> Any:
    try:
        return ipaddress.ip_network(str(text), strict=False)
    except ValueError as error:
        raise InvalidArgument(f"invalid subnet {text!r}: {error}") from error


def _free(cluster: Cluster | None, taken: list[Any]) -> Any:
    """The first free subnet of the cluster's address pools, without walking over taken ones one by one."""
    pools = (cluster.default_addr_pool if cluster else None) or DEFAULT_POOL
    size = (cluster.subnet_size if cluster else None) or DEFAULT_SUBNET_SIZE
    for pool in pools:
        net = ipaddress.ip_network(pool, strict=False)
        size_here = max(size, net.prefixlen)
        step = 1 << (net.max_prefixlen - size_here)
        candidate = int(net.network_address)
        busy = sorted((int(t.network_address), int(t.broadcast_address)) for t in taken if t.version == net.version)
        for first, last in busy:
            if first < candidate + step and last >= candidate:
                candidate = (last // step + 1) * step
        if candidate + step - 1 <= int(net.broadcast_address):
            return ipaddress.ip_network((candidate, size_here))
    raise FailedPrecondition(f"no free subnet is left in the address pools {', '.join(pools)}; remove unused networks")


def shown(network: Network) -> dict[str, Any]:
    """The network as an Engine lists it (definition Network)."""
    spec = network.spec
    return {
        "Name": spec.name,
        "Id": network.id,
        "Created": network.created_at,
        "Scope": "swarm",
        "Driver": spec.driver or "overlay",
        "EnableIPv4": True,
        "EnableIPv6": bool(spec.enable_ipv6),
        "IPAM": spec.ipam or {"Driver": "default", "Options": None, "Config": []},
        "Internal": bool(spec.internal),
        "Attachable": bool(spec.attachable),
        "Ingress": bool(spec.ingress),
        "ConfigFrom": {"Network": ""},
        "ConfigOnly": False,
        "Containers": None,
        "Options": {**(spec.options or {}), **((network.driver_state.options if network.driver_state else None) or {})},
        "Labels": spec.labels or {},
    }
