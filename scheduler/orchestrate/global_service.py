"""Global services: one task on every node that is active, up and satisfies the constraints.

- A node that is down keeps its task: it has no other place, and is found right when the node returns.
- A paused node keeps what it has and gets nothing new; a drained node, or one that no longer satisfies the
  constraints, loses its task.

Pure: the plan brings everything.
"""

from essaim.cluster.node import Node
from essaim.cluster.task import Task, TaskState
from essaim.scheduler.constraints import satisfies
from essaim.scheduler.place.filters import platform_matches
from essaim.scheduler.tasks import is_gone

from .plan import Plan
from .slots import Slot, SlotKeeper, by_age
from .updater import update


def by_node(tasks: list[Task]) -> dict[str, Slot]:
    found: dict[str, Slot] = {}
    for task in sorted(tasks, key=by_age):
        if task.node_id:
            found.setdefault(task.node_id, Slot([], node_id=task.node_id)).tasks.append(task)
    return found


def is_wanted_on(plan: Plan, node: Node) -> bool:
    """Whether the service's declaration covers the node at all, whatever its state."""
    if not node.runs_tasks:
        return False
    template = plan.service.spec.task_template
    placement = template.placement if template else None
    if placement is None:
        return True
    return satisfies(node, placement.constraints or []) and platform_matches(node, placement.platforms)


def plan_global(plan: Plan, tasks: list[Task], nodes: list[Node]) -> None:
    slots = by_node(tasks)
    keeper = SlotKeeper(plan)
    kept: list[Slot] = []
    for node in nodes:
        slot = slots.pop(node.id, None) or Slot([], node_id=node.id)
        if node.spec.availability == "drain" or not is_wanted_on(plan, node):
            for task in slot.live:
                plan.retire(task)
        elif slot.live or may_start(node, slot):
            kept.append(slot)
    for slot in kept:
        keeper.keep(slot)
    update(plan, keeper, [slot for slot in kept if slot.tasks and not is_gone(plan.nodes(slot.node_id or ""))])
    for slot in slots.values():
        for task in slot.live:
            plan.abandon(task, "the node was removed from the cluster")


def may_start(node: Node, slot: Slot) -> bool:
    """A new task may come: the node takes work, and what was there is not one that was told to go for good."""
    return (
        node.is_ready
        and node.spec.availability == "active"
        and not (slot.tasks and slot.newest.desired == TaskState.REMOVE and not slot.newest.is_terminal)
    )
