"""What the manager wants of this node: the sum of its `Assignments` messages.

Pure: no I/O, no clock.
"""

from dataclasses import dataclass, field

from essaim.agent.runtime.interface import Work
from essaim.cluster.node import Node
from essaim.cluster.objects import Config, Secret
from essaim.cluster.task import Task
from essaim.cluster.wire import Assignments


@dataclass(frozen=True, slots=True)
class Difference:
    """Tasks that are new or changed, and ids to forget, both in the order they came."""

    tasks: list[Task] = field(default_factory=list)
    forget: list[str] = field(default_factory=list)


class Assigned:
    def __init__(self) -> None:
        self.tasks: dict[str, Task] = {}
        self.secrets: dict[str, Secret] = {}
        self.configs: dict[str, Config] = {}
        self.registry_auth: dict[str, str] = {}

    def apply(self, message: Assignments) -> Difference:
        """A full message forgets what it does not name; any other adds, changes, and forgets what it names."""
        forget = list(message.removed)
        if message.full:
            kept = {task.id for task in message.tasks}
            forget += [task_id for task_id in self.tasks if task_id not in kept and task_id not in forget]
            self.secrets, self.configs, self.registry_auth = {}, {}, {}
        self.secrets |= {secret.id: secret for secret in message.secrets}
        self.configs |= {config.id: config for config in message.configs}
        self.registry_auth |= message.registry_auth
        for task_id in forget:
            self.tasks.pop(task_id, None)
        self.tasks |= {task.id: task for task in message.tasks}
        if forget:
            self._drop_unused()
        return Difference(list(message.tasks), forget)

    def work(self, task: Task, node: Node) -> Work:
        """The task with exactly the secrets and configs that it refers to, as far as they have come."""
        secret_ids, config_ids = _references(task)
        return Work(
            task,
            node,
            {i: self.secrets[i] for i in secret_ids if i in self.secrets},
            {i: self.configs[i] for i in config_ids if i in self.configs},
            self.registry_auth.get(task.service_id or "", ""),
        )

    def _drop_unused(self) -> None:
        """Secrets stay on a node only as long as a task there uses them."""
        used = [_references(task) for task in self.tasks.values()]
        secrets = {i for ids, _ in used for i in ids}
        configs = {i for _, ids in used for i in ids}
        self.secrets = {i: secret for i, secret in self.secrets.items() if i in secrets}
        self.configs = {i: config for i, config in self.configs.items() if i in configs}
        services = {task.service_id for task in self.tasks.values()}
        self.registry_auth = {i: auth for i, auth in self.registry_auth.items() if i in services}


def _references(task: Task) -> tuple[list[str], list[str]]:
    """Ids of the secrets and of the configs that a task uses."""
    container = task.spec.container_spec
    if container is None:
        return [], []
    secrets = [r.secret_id for r in container.secrets or [] if r.secret_id]
    configs = [r.config_id for r in container.configs or [] if r.config_id]
    return secrets, configs
