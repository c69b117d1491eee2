"""Replicated services: as many slots as declared, each kept by `slots`.

Scaling up takes the lowest free numbers; scaling down keeps the slots that are up and best spread over the nodes.

Pure: the plan brings everything.
"""

from collections import Counter

from essaim.cluster.task import Task, TaskState
from essaim.scheduler.tasks import is_gone, is_up

from .plan import Plan
from .slots import Slot, SlotKeeper, by_age, numbered
from .updater import update


def plan_replicated(plan: Plan, tasks: list[Task]) -> None:
    mode = plan.service.spec.mode
    wanted = mode.replicated.replicas if mode and mode.replicated else None
    wanted = 1 if wanted is None else wanted
    slots = numbered(tasks)
    active = [slot for slot in slots.values() if not slot.is_vacated]
    if len(active) > wanted:
        kept, dropped = choose(plan, active, wanted)
        for slot in dropped:
            vacate(plan, slot)
        active = kept
    keeper = SlotKeeper(plan)
    for slot in active:
        keeper.keep(slot)
    update(plan, keeper, active)
    for number in free_numbers(slots, wanted - len(active)):
        keeper.fill(Slot([], number))


def free_numbers(slots: dict[int, Slot], count: int) -> list[int]:
    """The lowest numbers where nothing is or is still stopping."""
    taken = {n for n, slot in slots.items() if not slot.is_vacated or any(not t.is_terminal for t in slot.tasks)}
    found: list[int] = []
    number = 0
    while len(found) < count:
        number += 1
        if number not in taken:
            found.append(number)
    return found


def choose(plan: Plan, slots: list[Slot], count: int) -> tuple[list[Slot], list[Slot]]:
    """Which slots to keep and which to give up: first those that are up, evenly over the nodes, lowest first."""
    on_node: Counter[str] = Counter()
    ranked: list[tuple[tuple[bool, int, int], Slot]] = []
    for slot in sorted(slots, key=lambda s: s.number or 0):
        task = max(slot.live, key=by_age) if slot.live else None
        sound = task is not None and is_up(task) and not is_gone(plan.node(task))
        index = 0
        if task is not None and task.node_id:
            on_node[task.node_id] += 1
            index = on_node[task.node_id]
        ranked.append(((not sound, index, slot.number or 0), slot))
    ranked.sort(key=lambda pair: pair[0])
    ordered = [slot for _, slot in ranked]
    return ordered[:count], ordered[count:]


def vacate(plan: Plan, slot: Slot) -> None:
    """Nothing shall be left of the slot, its history included."""
    for task in slot.tasks:
        plan.retire(task, TaskState.REMOVE)
