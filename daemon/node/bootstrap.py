"""The first objects of a new cluster.

Pure: identifiers and chance come in as arguments.
"""

from collections.abc import Sequence

import msgspec

from essaim.api.control.networks import first_ingress
from essaim.cluster.changes import Change, put
from essaim.cluster.ids import Chance
from essaim.cluster.node import ManagerStatus, Node, NodeDescription, NodeSpec, NodeStatus
from essaim.cluster.shape import Shape, Version
from essaim.cluster.swarm import Cluster, JoinTokens, RootCA, SwarmSpec, default_spec
from essaim.secrets.ca import tls_info

DEFAULT_POOL = "10.0.0.0/8"


def merged_spec(wanted: SwarmSpec) -> SwarmSpec:
    """The defaults with what the user gave, merged field by field, as Swarm does at init."""
    merged = _merge(default_spec(), wanted)
    assert isinstance(merged, SwarmSpec)
    return merged


def _merge(base: Shape, wanted: Shape) -> Shape:
    changed = {}
    for name in wanted.__struct_fields__:
        value = getattr(wanted, name)
        if value is None or value == "":
            continue
        old = getattr(base, name)
        changed[name] = _merge(old, value) if isinstance(old, Shape) and isinstance(value, Shape) else value
    return msgspec.structs.replace(base, **changed)


def pool_of(asked: list[str], subnet_size: int) -> list[str]:
    """What is shown as the pool of networks' addresses. As Docker does it, the default is shown only to who asks for
    neither a pool nor a size: the SDK does not, the command always names a size."""
    return asked or ([] if subnet_size else [DEFAULT_POOL])


def first_objects(
    *,
    cluster_id: str,
    spec: SwarmSpec,
    tokens: JoinTokens,
    node_id: str,
    authority: RootCA,
    description: NodeDescription,
    availability: str,
    advertise: str,
    ip: str,
    raft_id: int,
    chance: Chance,
    address_pool: list[str] | None = None,
    subnet_size: int = 24,
    data_path_port: int = 4789,
    unlock_key: str | None = None,
) -> Sequence[Change]:
    """The cluster, its first manager, and the ingress network."""
    cluster = Cluster(
        id=cluster_id,
        spec=merged_spec(spec),
        join_tokens=tokens,
        root_ca=authority,
        tls_info=tls_info(authority.certificate.encode(), authority.certificate.encode()),
        unlock_key=unlock_key,
        root_rotation_in_progress=False,
        default_addr_pool=address_pool or None,
        subnet_size=subnet_size,
        data_path_port=data_path_port,
    )
    node = Node(
        id=node_id,
        spec=NodeSpec(labels={}, role="manager", availability=availability),
        description=description,
        status=NodeStatus(state="ready", addr=ip),
        manager_status=ManagerStatus(addr=advertise, raft_id=raft_id),
        spec_after=Version(index=0),
    )
    ingress = first_ingress(cluster, chance=chance)
    return [put("clusters", cluster, new=True), put("nodes", node, new=True), put("networks", ingress, new=True)]
