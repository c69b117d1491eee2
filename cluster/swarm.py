"""The cluster object (Engine API: Swarm, SwarmSpec) and what lives in it: join tokens, defaults."""

from typing import Any

from .container import DriverSpec
from .node import TLSInfo
from .shape import Shape, StoredObject

SECOND = 1_000_000_000


class OrchestrationConfig(Shape):
    task_history_retention_limit: int | None = None


class RaftConfig(Shape):
    snapshot_interval: int | None = None
    keep_old_snapshots: int | None = None
    log_entries_for_slow_followers: int | None = None
    election_tick: int | None = None
    heartbeat_tick: int | None = None


class DispatcherConfig(Shape):
    """In nanoseconds. `restart_grace` is essaim's own: for how long a node's tasks stay where they are while its daemon
    starts again."""

    heartbeat_period: int | None = None
    restart_grace: int | None = None


class CAConfig(Shape):
    node_cert_expiry: int | None = None
    external_cas: list[dict[str, Any]] | None = None
    signing_ca_cert: str | None = None
    signing_ca_key: str | None = None
    force_rotate: int | None = None


class TaskDefaults(Shape):
    log_driver: DriverSpec | None = None


class EncryptionConfig(Shape):
    auto_lock_managers: bool | None = None


class SwarmSpec(Shape):
    """`placement_strategy` (spread or binpack) is essaim's own."""

    name: str | None = None
    labels: dict[str, str] | None = None
    orchestration: OrchestrationConfig | None = None
    raft: RaftConfig | None = None
    dispatcher: DispatcherConfig | None = None
    ca_config: CAConfig | None = None
    task_defaults: TaskDefaults | None = None
    encryption_config: EncryptionConfig | None = None
    placement_strategy: str | None = None

    @property
    def log_driver(self) -> DriverSpec | None:
        """Of tasks whose services name none."""
        return self.task_defaults.log_driver if self.task_defaults else None

    @property
    def locks_managers(self) -> bool:
        """Whether managers need the unlock key after a restart."""
        return self.encryption_config is not None and bool(self.encryption_config.auto_lock_managers)


class JoinTokens(Shape):
    worker: str
    manager: str


class RootCA(Shape):
    """The certificate authority of the cluster: certificate and private key, PEM."""

    certificate: str
    key: str


class RootRotation(Shape):
    """A new authority that takes over; `cross_signed` is its certificate by the old one (PEM)."""

    root: RootCA
    cross_signed: str


class Cluster(StoredObject, kw_only=True):
    """There is one. `join_tokens` are shown only by the swarm end-points, `unlock_key` by its own; `root_ca` and
    `root_rotation` by none.

    `unlock_key` is set while managers are to be locked when they stop (`spec.encryption_config`). `format` is the one
    that all managers have agreed on (`formats.py`).
    """

    spec: SwarmSpec
    tls_info: TLSInfo | None = None
    root_rotation_in_progress: bool | None = None
    default_addr_pool: list[str] | None = None
    subnet_size: int | None = None
    data_path_port: int | None = None
    join_tokens: JoinTokens | None = None
    root_ca: RootCA | None = None
    root_rotation: RootRotation | None = None
    unlock_key: str | None = None
    format: int | None = None


def default_spec() -> SwarmSpec:
    """A new cluster's specification: Swarm's figures, but for the heartbeat, which is shorter so that a lost host
    is noticed within seconds (Swarm: 5 s)."""
    return SwarmSpec(
        name="default",
        labels={},
        orchestration=OrchestrationConfig(task_history_retention_limit=5),
        raft=RaftConfig(
            snapshot_interval=10000,
            keep_old_snapshots=0,
            log_entries_for_slow_followers=500,
            election_tick=10,
            heartbeat_tick=1,
        ),
        dispatcher=DispatcherConfig(heartbeat_period=1 * SECOND),
        ca_config=CAConfig(node_cert_expiry=90 * 24 * 3600 * SECOND),
        task_defaults=TaskDefaults(),
        encryption_config=EncryptionConfig(auto_lock_managers=False),
    )
