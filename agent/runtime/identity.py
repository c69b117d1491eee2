"""What a task is told about itself in its environment (`essaim/whoami` and the process runtime).

Pure: no I/O, no clock.
"""

from essaim.cluster.node import Node
from essaim.cluster.task import Task

from .templates import task_name

WHOAMI = "essaim/whoami"
HOST = "host"


def identity(task: Task, node: Node) -> dict[str, str]:
    """ESSAIM_* variables."""
    return {
        "ESSAIM_SERVICE_ID": task.service_id or "",
        "ESSAIM_SERVICE_NAME": task.service_name or "",
        "ESSAIM_TASK_ID": task.id,
        "ESSAIM_TASK_NAME": task_name(task),
        "ESSAIM_TASK_SLOT": str(task.slot or ""),
        "ESSAIM_NODE_ID": node.id,
        "ESSAIM_NODE_HOSTNAME": node.hostname,
    }


def repository(image: str) -> str:
    """An image's name without tag and digest: `host:5000/a/b:1@sha256:...` is `host:5000/a/b`."""
    name = image.partition("@")[0]
    head, slash, last = name.rpartition("/")
    return head + slash + last.partition(":")[0]
