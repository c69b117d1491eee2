"""What placeholders stand for in one task on one node; their language is that of `cluster/templates.py`.

Pure: no I/O, no clock.
"""

from typing import Any

from essaim.cluster.node import Node
from essaim.cluster.task import Task


def task_name(task: Task) -> str:
    """`web.1.ID`, and for global services the node in place of the slot: the name of the container."""
    return f"{task.service_name or task.service_id or 'task'}.{task.slot or task.node_id}.{task.id}"


def context(task: Task, node: Node) -> dict[str, Any]:
    """What placeholders may refer to. As in Swarm, a task of a global service has its node for a slot."""
    platform = node.description.platform if node.description else None
    return {
        "Service": {"ID": task.service_id or "", "Name": task.service_name or "", "Labels": task.service_labels or {}},
        "Node": {
            "ID": node.id,
            "Hostname": node.hostname,
            "Platform": {
                "Architecture": (platform and platform.architecture) or "",
                "OS": (platform and platform.os) or "",
            },
        },
        "Task": {"ID": task.id, "Name": task_name(task), "Slot": str(task.slot or task.node_id or node.id)},
    }
