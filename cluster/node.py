"""Nodes (Engine API: Node, NodeSpec, NodeDescription, NodeStatus, ManagerStatus)."""

from .service import Platform, Resources
from .shape import Shape, StoredObject, Version, always

GATEWAY_RUNTIME = "gateway"
"""The `runtime` of a node that serves the mesh and runs no tasks."""


class NodeSpec(Shape):
    """`role` is worker or manager, `availability` active, pause or drain."""

    name: str | None = None
    labels: dict[str, str] | None = None
    role: str = always("worker")
    availability: str = always("active")


class EnginePlugin(Shape):
    type: str
    name: str


class EngineDescription(Shape):
    engine_version: str | None = None
    labels: dict[str, str] | None = None
    plugins: list[EnginePlugin] | None = None


class TLSInfo(Shape):
    trust_root: str | None = None
    cert_issuer_subject: str | None = None
    cert_issuer_public_key: str | None = None


class NodeDescription(Shape):
    """What a node says of itself.

    `runtime` is docker, process or gateway; `data_addr` is where its tasks' ports are reached; `format` is the newest
    of the replicated state that its version of essaim understands.
    """

    hostname: str | None = None
    platform: Platform | None = None
    resources: Resources | None = None
    engine: EngineDescription | None = None
    tls_info: TLSInfo | None = None
    runtime: str | None = None
    data_addr: str | None = None
    format: int | None = None


class NodeStatus(Shape):
    """`state` is unknown, down, ready or disconnected."""

    state: str = always("unknown")
    message: str | None = None
    addr: str | None = None


class ManagerStatus(Shape):
    """`reachability` is unknown, unreachable or reachable; `raft_id` is the member's number in the log."""

    leader: bool | None = None
    reachability: str | None = None
    addr: str | None = None
    raft_id: int | None = None


class Node(StoredObject, kw_only=True):
    """`spec_after` as in `Service`: the version that the change of `spec` was made upon."""

    spec: NodeSpec
    description: NodeDescription | None = None
    status: NodeStatus = NodeStatus()
    manager_status: ManagerStatus | None = None
    spec_after: Version | None = None

    @property
    def hostname(self) -> str:
        return (self.description.hostname if self.description else None) or ""

    @property
    def runs_tasks(self) -> bool:
        """False for a gateway-only node, whatever its availability."""
        return self.description is None or self.description.runtime != GATEWAY_RUNTIME

    @property
    def is_ready(self) -> bool:
        return self.status.state == "ready"
