"""What a runtime does for the agent: it prepares, starts, watches, stops and removes what runs in a task.

Rules every runtime keeps:
- Tasks are known by their id. Every method may be repeated: preparing what is prepared, starting what runs, stopping
  what has ended and removing what is gone do nothing.
- What it started lives on when the agent ends, however it ends; `recover` finds it again.
- Cancelling a call leaves nothing that `stop` and `remove` would not find.
- `watch` is the only source of truth about what runs: it yields the present view first, then every change, and ends
  after the first view that says EXITED.
"""

from collections.abc import AsyncGenerator, Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Protocol

from essaim.cluster.node import Node, NodeDescription
from essaim.cluster.objects import Config, Secret
from essaim.cluster.service import PortConfig
from essaim.cluster.task import Task, TaskEndpoint
from essaim.cluster.wire import LogRequest


class RuntimeProblem(Exception):
    """The base of what a runtime raises; the message is shown to users as the task's error."""


class Rejected(RuntimeProblem):
    """This node cannot run the task as it is specified (no such image, an unsupported option)."""


class StartFailed(RuntimeProblem):
    """It could be prepared but not started."""


class Unprepared(RuntimeProblem):
    """What was prepared is gone or cannot be trusted; nothing of it runs or will. The task is to be prepared anew."""


class UnknownTask(RuntimeProblem):
    """The runtime has nothing of that id (any more)."""


class RuntimeUnavailable(RuntimeProblem):
    """The runtime does not answer (a stopped Engine), refuses what has to be done (a stop), or leaves open whether it
    was done; the agent tries again and keeps the task's state."""


class Phase(Enum):
    CREATED = "created"
    RUNNING = "running"
    EXITED = "exited"


class Health(Enum):
    """The verdict of the container's own HEALTHCHECK; NONE: it has none."""

    NONE = "none"
    STARTING = "starting"
    HEALTHY = "healthy"
    UNHEALTHY = "unhealthy"

    @property
    def verdict(self) -> bool | None:
        """As in TaskStatus.healthy: None without a check."""
        return None if self is Health.NONE else self is Health.HEALTHY


@dataclass(frozen=True, slots=True)
class View:
    """What a runtime sees of a task. `error` is why it could not go on, beyond its exit code."""

    phase: Phase
    health: Health = Health.NONE
    exit_code: int | None = None
    error: str = ""
    container_id: str | None = None
    pid: int | None = None
    endpoints: tuple[TaskEndpoint, ...] = ()
    host_ports: tuple[PortConfig, ...] = ()

    @property
    def is_up(self) -> bool:
        """It runs, and is healthy as far as anybody checks."""
        return self.phase is Phase.RUNNING and self.health in (Health.NONE, Health.HEALTHY)


@dataclass(frozen=True, slots=True)
class Work:
    """A task with the secrets and configs (by id) that it uses, and the node it runs on.

    `registry_auth` is for pulling its image, as an Engine takes it in X-Registry-Auth.
    """

    task: Task
    node: Node
    secrets: Mapping[str, Secret] = field(default_factory=dict)
    configs: Mapping[str, Config] = field(default_factory=dict)
    registry_auth: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class LogLine:
    """`stream`: 1 stdout, 2 stderr; `timestamp` is RFC 3339 with nanoseconds; `line` has no line feed."""

    stream: int
    timestamp: str
    line: bytes


class Runtime(Protocol):
    async def describe(self) -> NodeDescription:
        """The node, as placement needs to know it. Raises RuntimeUnavailable."""

    async def recover(self, node_id: str) -> dict[str, View]:
        """Take charge again of what this node ran before; the view of each task by id. Raises RuntimeUnavailable."""

    async def prepare(self, work: Work, say: Callable[[str], None]) -> list[str]:
        """Make everything ready to start (image, container, files); what of the specification is left out, and why.

        `say` hears, now and then, how far it is when it takes long (an image that is pulled).

        Raises Rejected, RuntimeUnavailable.
        """

    async def start(self, task_id: str) -> None:
        """Raises StartFailed, Unprepared, RuntimeUnavailable."""

    def watch(self, task_id: str) -> AsyncGenerator[View, None]:
        """See above. Raises UnknownTask when there is nothing to watch."""

    async def revived(self, task_id: str) -> None:
        """Return when the task runs; for tasks that have ended."""

    async def stop(self, task_id: str) -> None:
        """Ask to stop (stop signal), kill after the grace period; returns once nothing of it runs, nor can come to run
        by an earlier call. Raises RuntimeUnavailable."""

    async def remove(self, task_id: str) -> None:
        """Remove everything of the task, killing it if it runs: secrets and logs too. Raises RuntimeUnavailable."""

    def logs(self, request: LogRequest) -> AsyncGenerator[LogLine, None]:
        """The task's output; with `follow` until it has ended. Raises UnknownTask, RuntimeUnavailable."""

    async def close(self) -> None:
        """Let go of everything, leave what runs running."""
