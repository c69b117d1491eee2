"""Jobs: tasks that run to their end, a number of times in all (replicated) or once on every node (global).

- A job runs in iterations (`Service.job_status.job_iteration`); whoever wants it to run again raises it. Tasks of an
  older iteration are removed.
- Each completion is a slot, from 1 to the total; a slot is done when a task of it is complete. At most
  `max_concurrent` are under way at a time. Failures are repeated by the restart policy (default: on failure).

Pure: the plan brings everything.
"""

from essaim.cluster.node import Node
from essaim.cluster.shape import NO_VERSION, Version
from essaim.cluster.task import Task, TaskState
from essaim.scheduler.restart import basis_of, next_restart, why_held
from essaim.scheduler.tasks import is_gone

from .cron import REPLACE, concurrency_of, has_schedule
from .global_service import by_node, is_wanted_on, may_start
from .plan import Plan
from .slots import Slot, is_leaving, numbered, restart_policy


def iteration_of(plan: Plan) -> Version:
    status = plan.service.job_status
    return status.job_iteration if status else NO_VERSION


def current_tasks(plan: Plan, tasks: list[Task]) -> list[Task]:
    """The tasks of the present iteration; those of older ones are told to go."""
    iteration = iteration_of(plan)
    current = [task for task in tasks if (task.job_iteration or NO_VERSION) == iteration]
    for task in tasks:
        if (task.job_iteration or NO_VERSION) != iteration:
            pass_over(plan, task)
    return current


def pass_over(plan: Plan, task: Task) -> None:
    """A task of an older iteration goes; one that its schedule began stays as history, and runs on if it may."""
    if not has_schedule(plan.service):
        if task.desired != TaskState.REMOVE:
            plan.retire(task, TaskState.REMOVE)
    elif not task.is_terminal and concurrency_of(plan.service) == REPLACE:
        plan.retire(task)


def awaits_its_time(plan: Plan) -> bool:
    """A scheduled job runs only the iterations that its schedule has begun."""
    status = plan.service.job_status
    return has_schedule(plan.service) and (status is None or status.scheduled != status.job_iteration)


def is_under_way(plan: Plan, task: Task) -> bool:
    """It runs or will, on a node that can be counted on."""
    lost = bool(task.node_id) and is_gone(plan.node(task))
    return task.desired <= TaskState.COMPLETE and not task.is_terminal and not lost


def is_done(slot: Slot) -> bool:
    return any(task.state == TaskState.COMPLETE for task in slot.tasks)


def advance(plan: Plan, slot: Slot) -> bool:
    """Keep one attempt of the slot going until one completes; whether one is under way afterwards."""
    for task in slot.tasks:
        if task.desired <= TaskState.COMPLETE and not task.is_terminal and task.node_id and is_gone(plan.node(task)):
            plan.abandon(task, "the node is down")
    under_way = [task for task in slot.tasks if is_under_way(plan, task)]
    if under_way and under_way[-1].slot is not None and is_leaving(plan, under_way[-1]):
        plan.retire(under_way[-1])  # once it has stopped, another attempt begins elsewhere
        return True
    if under_way:
        release(plan, under_way[-1])
        return True
    if not slot.tasks:
        plan.create(
            slot=slot.number, node_id=slot.node_id, desired="complete", iteration=iteration_of(plan), after=slot.last
        )
        return True
    last = slot.newest
    if last.desired > TaskState.COMPLETE and last.state not in (TaskState.ORPHANED, TaskState.SHUTDOWN):
        return False  # its end has been dealt with: the policy gave up, or it is still stopping
    return repeat(plan, slot, last)


def release(plan: Plan, task: Task) -> None:
    """A delayed attempt may begin once its time has come."""
    if task.desired != TaskState.READY:
        return
    if not plan.is_early(task):
        start_after = task.start_after if task.start_after and task.start_after <= plan.now else None
        plan.change(task, desired_state=TaskState.COMPLETE.label, start_after=start_after)


def repeat(plan: Plan, slot: Slot, last: Task) -> bool:
    """Another attempt, if the policy allows; losing the node is no fault of the job and costs no attempt."""
    if last.state in (TaskState.ORPHANED, TaskState.SHUTDOWN) or not last.is_terminal:
        plan.create(
            slot=slot.number,
            node_id=slot.node_id,
            desired="complete",
            restarts=last.restarts,
            iteration=iteration_of(plan),
            after=slot.last,
        )
        return True
    restart = next_restart(last, restart_policy(plan.service), plan.now, job=True, basis=basis_of(plan.service))
    if restart is None:
        return False
    plan.create(
        slot=slot.number,
        node_id=slot.node_id,
        desired="ready" if restart.at > plan.now else "complete",
        start_after=restart.at,
        restarts=restart.record,
        iteration=iteration_of(plan),
        after=slot.last,
        why=why_held(last, restart),
    )
    plan.change(last, desired_state=TaskState.SHUTDOWN.label)
    return True


def plan_replicated_job(plan: Plan, tasks: list[Task]) -> None:
    mode = plan.service.spec.mode
    job = mode.replicated_job if mode else None
    at_once = job.max_concurrent if job and job.max_concurrent is not None else 1
    total = job.total_completions if job and job.total_completions is not None else at_once
    current = current_tasks(plan, tasks)
    if awaits_its_time(plan):
        return
    slots = numbered(current)
    for number in [n for n in slots if n > total]:
        for task in slots.pop(number).tasks:
            plan.retire(task, TaskState.REMOVE)
    room = (at_once or total) - sum(any(is_under_way(plan, t) for t in slot.tasks) for slot in slots.values())
    for number in range(1, total + 1):
        slot = slots.get(number) or Slot([], number)
        if is_done(slot):
            continue
        started = any(is_under_way(plan, t) for t in slot.tasks)
        if started or room > 0:
            room -= advance(plan, slot) and not started


def plan_global_job(plan: Plan, tasks: list[Task], nodes: list[Node]) -> None:
    current = current_tasks(plan, tasks)
    if awaits_its_time(plan):
        return
    slots = by_node(current)
    for node in nodes:
        slot = slots.pop(node.id, None) or Slot([], node_id=node.id)
        if is_done(slot) or is_gone(node):
            continue
        if node.spec.availability == "drain" or not is_wanted_on(plan, node):
            for task in slot.tasks:
                if is_under_way(plan, task):
                    plan.retire(task)
        elif slot.tasks or may_start(node, slot):
            advance(plan, slot)
    for slot in slots.values():
        for task in slot.tasks:
            if not task.is_terminal:
                plan.abandon(task, "the node was removed from the cluster")
