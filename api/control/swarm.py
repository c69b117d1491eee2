"""The cluster's own object: what a new swarm starts with, changes to its specification, rotation of join tokens.

Pure: the store and a request in, changes and a result out, or ClusterError in Docker's words.
"""

import ipaddress
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from msgspec.structs import replace

from essaim.cluster.changes import Change, put
from essaim.cluster.errors import FailedPrecondition, InvalidArgument, NotYet, OutOfSequence, Unavailable
from essaim.cluster.ids import Chance
from essaim.cluster.shape import Shape
from essaim.cluster.store import Store
from essaim.cluster.swarm import CAConfig, Cluster, JoinTokens, SwarmSpec
from essaim.secrets import tokens
from essaim.secrets.ca import read_authority
from essaim.secrets.rotation import begun
from essaim.secrets.unlock import new_unlock_key

from .networks import DEFAULT_POOL

NOT_IN_SWARM = (
    'This node is not a swarm manager. Use "docker swarm init" or "docker swarm join" to connect this node to swarm '
    "and try again."
)
WORKER = (
    "This node is not a swarm manager. Worker nodes can't be used to view or modify cluster state. Please run this "
    "command on a manager node or promote the current node to a manager."
)
LOCKED = (
    'Swarm is encrypted and needs to be unlocked before it can be used. Please use "docker swarm unlock" to unlock it.'
)
IN_SWARM = 'This node is already part of a swarm. Use "docker swarm leave" to leave this swarm and join another one.'
NOT_PART = "This node is not part of a swarm"
LEAVING = "You are attempting to leave the swarm on a node that is participating as a manager. "
LAST_MANAGER = "Removing the last manager erases all current state of the swarm. Use `--force` to ignore this message. "
RESTORE = (
    "The only way to restore a swarm that has lost consensus is to reinitialize it with `--force-new-cluster`. "
    "Use `--force` to suppress this message."
)
ZERO_IS_ABSENT = {
    "election_tick", "heartbeat_period", "heartbeat_tick", "labels", "log_entries_for_slow_followers",
    "node_cert_expiry", "snapshot_interval",
}  # fmt: skip
MIN_NODE_CERT_EXPIRY = 3600 * 10**9


@dataclass(frozen=True, slots=True)
class Rotate:
    """What is to be replaced by a new one."""

    worker: bool = False
    manager: bool = False
    unlock_key: bool = False


def update(
    store: Store, version: int, spec: SwarmSpec, rotate: Rotate, *, chance: Chance, now: datetime
) -> list[Change]:
    """What `spec` leaves out stays as it is."""
    cluster = current(store)
    if spec.name not in (None, "", cluster.spec.name):
        raise InvalidArgument(f'invalid Name "{spec.name}": swarm spec must be named "{cluster.spec.name}"')
    merged = merge(cluster.spec, spec)
    check(merged)
    if version != cluster.version.index:
        raise OutOfSequence
    changed = replace(
        cluster,
        spec=merged,
        join_tokens=_rotated(cluster.join_tokens, rotate, chance),
        unlock_key=_unlock_key(cluster.unlock_key, merged, rotate, chance),
    )
    return [put("clusters", _root_rotated(cluster, changed, now))]


def _root_rotated(old: Cluster, changed: Cluster, now: datetime) -> Cluster:
    """A root is replaced when `ForceRotate` changes, or another certificate is given to sign with."""
    before, wanted = old.spec.ca_config or CAConfig(), changed.spec.ca_config or CAConfig()
    certificate, key = wanted.signing_ca_cert or "", wanted.signing_ca_key or ""
    other = bool(certificate) and certificate.strip() != (before.signing_ca_cert or "").strip()
    if not other and (wanted.force_rotate or 0) == (before.force_rotate or 0):
        return changed
    if changed.root_ca is None:
        raise Unavailable("this cluster has no certificate authority to replace")
    if other and not key:
        raise InvalidArgument("rotating to another CA certificate needs its key as well (--ca-key)")
    given = read_authority(certificate.encode(), key.encode(), now) if other else None
    # The key is kept with the rotation, not in the specification, which clients get back.
    config = replace(wanted, signing_ca_key=None, signing_ca_cert=certificate if other else None)
    return begun(replace(changed, spec=replace(changed.spec, ca_config=config)), now, given)


def current(store: Store) -> Cluster:
    """Raises Unavailable while the node has not received the cluster yet."""
    if store.cluster is None:
        raise Unavailable("the cluster's state has not arrived at this manager yet; try again in a moment")
    return store.cluster


def merge(old: SwarmSpec, new: SwarmSpec) -> SwarmSpec:
    """`old` with what `new` says, part by part: clients send partial bodies, even `{}`, and zeros for "as it is"."""
    merged: SwarmSpec = _merge(old, new)
    return replace(merged, name=old.name)


def _merge(old: Any, new: Any) -> Any:
    if not isinstance(old, Shape) or not isinstance(new, Shape) or type(old) is not type(new):
        return old if new is None else new
    said = {name: _merge(getattr(old, name), getattr(new, name)) for name in new.__struct_fields__}
    return replace(old, **{name: value for name, value in said.items() if value or name not in ZERO_IS_ABSENT})


def check(spec: SwarmSpec) -> None:
    """Raises InvalidArgument, or NotYet for what is not supported."""
    if spec.ca_config is not None and spec.ca_config.external_cas:
        raise NotYet("external CAs are not supported: the managers sign nodes' certificates themselves")
    if spec.placement_strategy not in (None, "", "spread", "binpack"):
        raise InvalidArgument(f'invalid PlacementStrategy "{spec.placement_strategy}": use spread or binpack')
    numbers = {
        "HeartbeatPeriod": spec.dispatcher and spec.dispatcher.heartbeat_period,
        "RestartGrace": spec.dispatcher and spec.dispatcher.restart_grace,
        "SnapshotInterval": spec.raft and spec.raft.snapshot_interval,
    }
    for name, value in numbers.items():
        if isinstance(value, int) and value < 0:
            raise InvalidArgument(f"invalid {name} {value}: it cannot be negative")
    expiry = spec.ca_config.node_cert_expiry if spec.ca_config else None
    if expiry is not None and expiry < MIN_NODE_CERT_EXPIRY:
        raise InvalidArgument("minimum certificate expiry time must be 1h0m0s")


def _rotated(old: JoinTokens | None, rotate: Rotate, chance: Chance) -> JoinTokens | None:
    if old is None or not (rotate.worker or rotate.manager):
        return old
    return JoinTokens(
        worker=tokens.rotate(old.worker, chance) if rotate.worker else old.worker,
        manager=tokens.rotate(old.manager, chance) if rotate.manager else old.manager,
    )


def _unlock_key(old: str | None, spec: SwarmSpec, rotate: Rotate, chance: Chance) -> str | None:
    """There is a key exactly while managers are to be locked; a lock that was off comes back with another one."""
    if not spec.locks_managers:
        return None
    return old if old and not rotate.unlock_key else new_unlock_key(chance)


def unlock_key(cluster: Cluster) -> str:
    """Empty while managers are not locked."""
    return (cluster.unlock_key or "") if cluster.spec.locks_managers else ""


def leave_objection(managers: int, reachable: int, *, knows_cluster: bool) -> str | None:
    """Why a manager must not leave without force. `reachable` counts this node too."""
    if not knows_cluster:
        return LEAVING + "Doing so may lose the consensus of your cluster. " + RESTORE
    if managers <= 1:
        return LEAVING + LAST_MANAGER
    if (reachable - 1) < managers // 2 + 1:
        lost = (
            f"Removing this node leaves {reachable - 1} managers out of {managers}. Without a Raft quorum your swarm "
            "will be inaccessible. "
        )
        return LEAVING + lost + RESTORE
    return LEAVING + RESTORE


def check_addresses(pool: list[str], subnet_size: int, data_path_port: int = 0) -> None:
    """The default address pool of a new swarm, and the UDP port of its networks (0: the usual one). Raises
    InvalidArgument."""
    if data_path_port and not 1024 <= data_path_port <= 49151:
        raise InvalidArgument(f"invalid DataPathPort {data_path_port}: use 1024 to 49151, or 0 for 4789")
    for text in pool or DEFAULT_POOL:
        try:
            net = ipaddress.ip_network(text)
        except ValueError as error:
            raise InvalidArgument(f"invalid default address pool {text!r}: {error}") from error
        if subnet_size and not net.prefixlen <= subnet_size <= net.max_prefixlen - 2:
            raise FailedPrecondition(
                f"invalid subnet size {subnet_size} for the pool {text}: use {net.prefixlen} to {net.max_prefixlen - 2}"
            )
