"""A manager as certificate authority: who gets which certificate, and who is whom by the cluster's state.

Every manager has the authority's key in its log, so any of them signs, without a write and without the leader.
"""

from collections.abc import Callable
from datetime import datetime, timedelta

from essaim.cluster.errors import Forbidden, Unauthorized, Unavailable
from essaim.cluster.node import Node
from essaim.cluster.store import Store
from essaim.cluster.swarm import SECOND, Cluster
from essaim.secrets import rotation
from essaim.secrets.ca import NODE_LIFETIME, issue
from essaim.secrets.holder import Holder, Role

from .joins import Issued

NOT_YET = "this manager has not received the cluster's state yet; try again in a moment"


class Issuer:
    """Decides from the store of the moment. `now` is the wall clock in UTC."""

    def __init__(self, store: Store, cluster_id: str, now: Callable[[], datetime]) -> None:
        self._store = store
        self._cluster_id = cluster_id
        self._now = now

    def root(self) -> bytes:
        """The root certificate that join tokens name (PEM). Raises Unavailable."""
        root = self._cluster().root_ca
        assert root is not None
        return root.certificate.encode()

    def issue(self, request: bytes, node_id: str, role: Role, raft_id: int = 0) -> Issued:
        """A certificate for the key of the request. Raises ClusterError."""
        cluster = self._cluster()
        expiry = cluster.spec.ca_config.node_cert_expiry if cluster.spec.ca_config else None
        lifetime = timedelta(seconds=expiry / SECOND) if expiry else NODE_LIFETIME
        holder = Holder(node_id, role, self._cluster_id, raft_id)
        certificate = issue(rotation.signer(cluster), request, holder, self._now(), lifetime)
        return Issued(certificate + rotation.chain(cluster), rotation.roots(cluster))

    def renew(self, node_id: str, request: bytes) -> Issued:
        """A certificate for what the node is now: a manager for as long as it is a member. Raises ClusterError."""
        raft_id = self.member_of(node_id)
        return self.issue(request, node_id, "manager" if raft_id else "worker", raft_id)

    def member_of(self, node_id: str) -> int:
        """The node's member number, 0 for a worker's. Raises ClusterError."""
        status = self.require_node(node_id).manager_status
        return (status and status.raft_id) or 0

    def require_node(self, node_id: str) -> Node:
        """Raises Unauthorized for a node that is not in the cluster (any more)."""
        self._cluster()
        node = self._store.nodes.get(node_id)
        if node is None:
            raise Unauthorized(f"node {node_id} is not of this cluster (any more)")
        return node

    def require_manager(self, holder: Holder) -> None:
        """Both the certificate and the cluster's state must say so: a demoted node keeps its old certificate."""
        if holder.role != "manager" or self.require_node(holder.node_id).spec.role != "manager":
            raise Forbidden(f"node {holder.node_id} is not a manager")

    def _cluster(self) -> Cluster:
        cluster = self._store.cluster
        if cluster is None or cluster.root_ca is None:
            raise Unavailable(NOT_YET)
        return cluster
