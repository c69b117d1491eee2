"""ServiceSpec, TaskSpec and Service (Engine API definitions of the same names)."""

from datetime import datetime
from typing import Any

from .container import ContainerSpec, DriverSpec
from .shape import Shape, StoredObject, Version


class DiscreteResource(Shape):
    kind: str
    value: int


class NamedResource(Shape):
    kind: str
    value: str


class GenericResource(Shape):
    named_resource_spec: NamedResource | None = None
    discrete_resource_spec: DiscreteResource | None = None


class Resources(Shape):
    """CPU in billionths of a core, memory in bytes; as a limit also a number of processes."""

    nano_cpus: int | None = None
    memory_bytes: int | None = None
    pids: int | None = None
    generic_resources: list[GenericResource] | None = None


class ResourceRequirements(Shape):
    limits: Resources | None = None
    reservations: Resources | None = None
    swap_bytes: int | None = None
    memory_swappiness: int | None = None


class RestartPolicy(Shape):
    """`condition` is none, on-failure or any (the default); delay and window in nanoseconds."""

    condition: str | None = None
    delay: int | None = None
    max_attempts: int | None = None
    window: int | None = None


class SpreadOver(Shape):
    spread_descriptor: str


class PlacementPreference(Shape):
    spread: SpreadOver | None = None


class Platform(Shape):
    architecture: str | None = None
    os: str | None = None


class Placement(Shape):
    constraints: list[str] | None = None
    preferences: list[PlacementPreference] | None = None
    max_replicas: int | None = None
    platforms: list[Platform] | None = None


class NetworkAttachmentConfig(Shape):
    target: str | None = None
    aliases: list[str] | None = None
    driver_opts: dict[str, str] | None = None


class TaskSpec(Shape):
    container_spec: ContainerSpec | None = None
    plugin_spec: dict[str, Any] | None = None
    network_attachment_spec: dict[str, Any] | None = None
    resources: ResourceRequirements | None = None
    restart_policy: RestartPolicy | None = None
    placement: Placement | None = None
    networks: list[NetworkAttachmentConfig] | None = None
    log_driver: DriverSpec | None = None
    force_update: int | None = None
    runtime: str | None = None


class Replicated(Shape):
    replicas: int | None = None


class Empty(Shape):
    """A mode without parameters (`{}`)."""


class ReplicatedJob(Shape):
    max_concurrent: int | None = None
    total_completions: int | None = None


class ServiceMode(Shape):
    """Exactly one is set."""

    replicated: Replicated | None = None
    global_: Empty | None = None
    replicated_job: ReplicatedJob | None = None
    global_job: Empty | None = None


class UpdateConfig(Shape):
    """`parallelism` 0 is all at once; durations in nanoseconds; `order` is stop-first or start-first."""

    parallelism: int | None = None
    delay: int | None = None
    failure_action: str | None = None
    monitor: int | None = None
    max_failure_ratio: float | None = None
    order: str | None = None


class PortConfig(Shape):
    """EndpointPortConfig. `app_protocol` (tcp by default, http for L7) and `host_ip` (publish on this address of
    each node only; moby#26696) are essaim's own and absent unless given."""

    name: str | None = None
    protocol: str | None = None
    target_port: int | None = None
    published_port: int | None = None
    publish_mode: str | None = None
    app_protocol: str | None = None
    host_ip: str | None = None


class EndpointSpec(Shape):
    mode: str | None = None
    ports: list[PortConfig] | None = None


class ServiceSpec(Shape):
    name: str | None = None
    labels: dict[str, str] | None = None
    task_template: TaskSpec | None = None
    mode: ServiceMode | None = None
    update_config: UpdateConfig | None = None
    rollback_config: UpdateConfig | None = None
    networks: list[NetworkAttachmentConfig] | None = None
    endpoint_spec: EndpointSpec | None = None


class VirtualIP(Shape):
    network_id: str | None = None
    addr: str | None = None


class Endpoint(Shape):
    spec: EndpointSpec | None = None
    ports: list[PortConfig] | None = None
    virtual_ips: list[VirtualIP] | None = None


class UpdateStatus(Shape):
    """`state`: updating, paused, completed, rollback_started, rollback_paused, rollback_completed."""

    state: str
    started_at: datetime | None = None
    completed_at: datetime | None = None
    message: str | None = None


class ServiceStatus(Shape):
    """Counted when asked for (`?status=true`), never stored."""

    running_tasks: int
    desired_tasks: int
    completed_tasks: int


class JobStatus(Shape):
    """`scheduled` is the last iteration that the job's schedule began; of a job with one, no other iteration runs."""

    job_iteration: Version
    last_execution: datetime | None = None
    scheduled: Version | None = None


class Service(StoredObject, kw_only=True):
    """`spec_version` grows whenever `spec` changes in a way that needs new tasks, and never otherwise (so neither a
    scale, nor new labels, nor an unchanged redeploy touches it); a value is never used for two specs of one service.
    Whoever changes the spec sets it, to one more than the store's version that the decision was made from.
    `previous_spec_version` is that of `previous_spec`, and a rollback exchanges both pairs. A task is up to date when
    its own spec version equals the service's; where either has none, when its spec equals `spec.task_template`.

    `spec_after` is the service's version (for a new one the store's) that the change of `spec` was made upon: whoever
    has read the service in a later version has seen the present spec. Whoever changes the spec sets it.

    `rebalance` is set by whoever wants the replicas spread anew, and cleared by the scheduler when that is done.

    `registry_auth` is the X-Registry-Auth header that came with `spec` (base64 of what a registry wants to know), with
    which nodes pull its image; `previous_registry_auth` that of `previous_spec`. Never shown to anybody.

    `asked_ports`: target ports that other services' labels have gateways ask at it; the scheduler keeps them.

    `fault` is why the leader cannot do what the specification says, while that is so; the scheduler keeps it."""

    spec: ServiceSpec
    previous_spec: ServiceSpec | None = None
    endpoint: Endpoint | None = None
    update_status: UpdateStatus | None = None
    service_status: ServiceStatus | None = None
    job_status: JobStatus | None = None
    spec_version: Version | None = None
    previous_spec_version: Version | None = None
    spec_after: Version | None = None
    pending_delete: bool | None = None
    rebalance: bool | None = None
    asked_ports: list[int] | None = None
    registry_auth: str | None = None
    previous_registry_auth: str | None = None
    fault: str | None = None
