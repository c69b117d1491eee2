"""Tasks: one attempt to run one replica, and the states it goes through (Engine API: Task, TaskState).

Pure: data and the order of states.
"""

from datetime import datetime
from enum import IntEnum
from typing import Any

from .container import DriverSpec
from .service import GenericResource, PortConfig, TaskSpec
from .shape import Shape, StoredObject, Version, always


class TaskState(IntEnum):
    """The life cycle in order; a task's observed state never goes back. The values order states and are not stored.

    Terminal states are those from COMPLETE on. ORPHANED is given by the manager to tasks of a node that has been
    down too long.
    """

    NEW = 0
    PENDING = 64
    ASSIGNED = 192
    ACCEPTED = 256
    PREPARING = 320
    READY = 384
    STARTING = 448
    RUNNING = 512
    COMPLETE = 576
    SHUTDOWN = 640
    FAILED = 704
    REJECTED = 768
    REMOVE = 800
    ORPHANED = 832

    @property
    def label(self) -> str:
        """The name in the API: `running`."""
        return self.name.lower()

    @classmethod
    def of(cls, label: str) -> "TaskState":
        """Raises KeyError for an unknown name."""
        return _BY_LABEL[label]


_BY_LABEL = {state.label: state for state in TaskState}


class ContainerStatus(Shape):
    container_id: str | None = None
    pid: int | None = None
    exit_code: int | None = None


class PortStatus(Shape):
    """Ports published in host mode, as they came out."""

    ports: list[PortConfig] | None = None


class TaskStatus(Shape):
    """`err` is what went wrong, fit for a user; `healthy` is the container's own HEALTHCHECK (None: it has none).
    `reachable` is what the checks of its node's gateway say (None: they say nothing of it); the dispatcher sets it."""

    timestamp: datetime | None = None
    state: str = always("new")
    message: str | None = None
    err: str | None = None
    container_status: ContainerStatus | None = None
    port_status: PortStatus | None = None
    healthy: bool | None = None
    reachable: bool | None = None

    @property
    def progress(self) -> TaskState:
        return _BY_LABEL[self.state]


class TaskEndpoint(Shape):
    """Where one target port of a running task can be reached: an address and port of its node."""

    protocol: str
    target_port: int
    address: str
    port: int


class NetworkAttachment(Shape):
    """`network` is for the API's clients alone, in place of `network_id`: the network as Docker describes it there."""

    network_id: str | None = None
    addresses: list[str] | None = None
    network: dict[str, Any] | None = None


class RestartRecord(Shape):
    """What the restart policy needs to know of a slot's past, handed from each task to its replacement.

    `count`: restarts since the service's last change; `recent`: when the last ones were (kept only for a policy with a
    window); `streak`: ends in a row that came soon after the start; `early`: ends in a row before anything ran.
    `basis` is the service's `spec_after` when it was made: another one means that its user has changed something since.
    """

    count: int = 0
    streak: int = 0
    recent: list[datetime] | None = None
    early: int = 0
    basis: int | None = None


class Task(StoredObject, kw_only=True):
    """`slot` is set for replicated services, 0 or None for global ones. `spec_version` is the service's
    `spec_version` that the task was made from. `desired_state` is a TaskState label: ready (start-first and delayed
    restarts), running, complete (jobs), shutdown, or remove. `start_after` delays the start of a restarted task.
    `running_since` is when it was first reported running; the store sets it.
    `generation` counts the tasks of a slot, so that their order needs no clock.
    `log_driver` is the cluster's default when the task was made, for specs that name none.
    `replaces` is the task, right as it is, that this one takes over from elsewhere (rebalancing).
    """

    name: str | None = None
    labels: dict[str, str] | None = None
    spec: TaskSpec
    service_id: str | None = None
    service_name: str | None = None
    slot: int | None = None
    node_id: str | None = None
    assigned_generic_resources: list[GenericResource] | None = None
    status: TaskStatus
    desired_state: str = always("running")
    networks_attachments: list[NetworkAttachment] | None = None
    job_iteration: Version | None = None
    spec_version: Version | None = None
    ports: list[PortConfig] | None = None
    endpoints: list[TaskEndpoint] | None = None
    start_after: datetime | None = None
    service_labels: dict[str, str] | None = None
    running_since: datetime | None = None
    restarts: RestartRecord | None = None
    generation: int | None = None
    replaces: str | None = None
    log_driver: DriverSpec | None = None

    @property
    def state(self) -> TaskState:
        """The observed state."""
        return _BY_LABEL[self.status.state]

    @property
    def logging(self) -> DriverSpec | None:
        """The log driver that it runs with, and its options; the runtime's own choice where nobody said."""
        return self.spec.log_driver or self.log_driver

    @property
    def desired(self) -> TaskState:
        return _BY_LABEL[self.desired_state]

    @property
    def is_terminal(self) -> bool:
        """It has stopped for good (whatever was asked for)."""
        return self.state >= TaskState.COMPLETE

    @property
    def is_live(self) -> bool:
        """It runs or is meant to, and has not ended."""
        return self.desired <= TaskState.RUNNING and not self.is_terminal
