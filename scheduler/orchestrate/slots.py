"""Slots: the places of a service's replicas, and what each needs to hold exactly one sound task.

A slot is a number (replicated) or a node (global). Its tasks, oldest first, are past, live, or stopping. Rules:
- One live task a slot. A second one exists only while it takes over: start-first (update or move), or in place of a
  task whose node is lost. A lost task is given up (ORPHANED) once its replacement has a node; should its node return
  before that, the replacement goes and the task stays: nothing that is right is killed.
- A task with desired state `ready` waits for its start time and for its predecessor's end, then becomes `running`.
- Tasks that ended by themselves are replaced as the restart policy says; a slot whose policy says no stays as it is.

Rejected: marking all tasks of a lost node as ended at once; it kills what still runs there when the node comes back
a moment later, and global services have nowhere else to go anyway.

Pure: everything comes in through the plan.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from essaim.cluster.service import RestartPolicy, Service
from essaim.cluster.task import Task, TaskState
from essaim.scheduler.constraints import satisfies
from essaim.scheduler.restart import basis_of, next_restart, why_held
from essaim.scheduler.tasks import Template, current_template, is_dirty, is_gone, is_stateless, is_up, task_spec

from .plan import Plan

LOST = "the node is down"
REMOVED = "the node was removed from the cluster"


def by_age(task: Task) -> tuple[object, ...]:
    iteration = task.job_iteration.index if task.job_iteration else 0
    return (iteration, task.generation or 0, task.created_at, task.id)


@dataclass
class Slot:
    """`tasks` oldest first. `number` for replicated services, `node_id` for global ones."""

    tasks: list[Task]
    number: int | None = None
    node_id: str | None = None

    _live: list[Task] | None = None

    @property
    def live(self) -> list[Task]:
        """Looked up once the slot is complete. (functools.cached_property locks, at three times the cost.)"""
        if self._live is None:
            self._live = [t for t in self.tasks if t.is_live]
        return self._live

    @property
    def newest(self) -> Task:
        return self.tasks[-1]

    @property
    def last(self) -> Task | None:
        return self.tasks[-1] if self.tasks else None

    @property
    def is_vacated(self) -> bool:
        """Scaled away: nothing is to be there any more."""
        return not self.live and self.newest.desired >= TaskState.REMOVE


def numbered(tasks: Iterable[Task]) -> dict[int, Slot]:
    """Tasks by slot number."""
    found: dict[int, Slot] = {}
    for task in sorted(tasks, key=by_age):
        number = task.slot or 0
        found.setdefault(number, Slot([], number)).tasks.append(task)
    return found


def restart_policy(service: Service) -> RestartPolicy | None:
    return service.spec.task_template.restart_policy if service.spec.task_template else None


def is_stopping(plan: Plan, task: Task) -> bool:
    """Told to stop and not known to have stopped, on a node that will say so."""
    return task.desired > TaskState.RUNNING and not task.is_terminal and not is_gone(plan.node(task))


def is_leaving(plan: Plan, task: Task) -> bool:
    """Its node is drained, only a gateway by now, or no longer what the service asks for."""
    node = plan.node(task)
    if node is None or is_gone(node):
        return False
    placement = task.spec.placement
    constraints = (placement.constraints if placement else None) or []
    return node.spec.availability == "drain" or not node.runs_tasks or not satisfies(node, constraints)


def starts_first(service: Service, *, move: bool = False) -> bool:
    """Whether a replacement comes up before the old task goes. A move does so also where no state is at stake."""
    rolling_back = (service.update_status.state if service.update_status else "").startswith("rollback")
    config = service.spec.rollback_config if rolling_back else service.spec.update_config
    return (config is not None and config.order == "start-first") or (move and is_stateless(service.spec))


class SlotKeeper:
    """Brings one service's slots towards one sound task each; everything it wants goes into the plan."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.service = plan.service

    def keep(self, slot: Slot) -> None:
        """Decide about one slot that is to be there."""
        for task in slot.live:
            self._adopt(task)
        self._close_the_past(slot)
        if not slot.live:
            self._refill(slot)
        elif len(slot.live) == 1:
            self._tend(slot, slot.live[0])
        else:
            self._hand_over(slot)

    def fill(self, slot: Slot, *, desired: str = "running", template: Template | None = None) -> Task:
        """A new task for the slot, with no history to heed."""
        return self.plan.create(
            slot=slot.number, node_id=slot.node_id, desired=desired, template=template, after=slot.last
        )

    # -- one slot -----------------------------------------------------------------------------------------------

    def _adopt(self, task: Task) -> None:
        """A change of the service that does not concern the task: it is up to date as it is."""
        service = self.service
        if task.spec_version != service.spec_version and not is_dirty(service, task, self.plan.node(task)):
            self.plan.change(task, spec_version=service.spec_version, spec=task_spec(service.spec))

    def _close_the_past(self, slot: Slot) -> None:
        """Ends that nothing is to follow any more: others came after, or the service has changed meanwhile."""
        for task in slot.tasks:
            if task.is_terminal and task.desired <= TaskState.RUNNING:
                followed = task is not slot.newest
                if followed or (slot.live and self._is_outdated(task)):
                    self.plan.change(task, desired_state=TaskState.SHUTDOWN.label)

    def _refill(self, slot: Slot) -> None:
        """No task lives here: after an end of its own, by the restart policy; after a stop, when that is over."""
        if not slot.tasks:
            self.fill(slot)
            return
        last = slot.newest
        if last.is_terminal and last.desired <= TaskState.RUNNING and not self._is_outdated(last):
            self.restart(slot, last)
        elif any(is_stopping(self.plan, t) for t in slot.tasks):
            self.fill(slot, desired="ready")
        else:
            self.plan.change(last, desired_state=max(last.desired, TaskState.SHUTDOWN).label)
            self.fill(slot)

    def restart(self, slot: Slot, ended: Task) -> bool:
        """Replace a task that ended by itself, if the policy wants it; whether it does."""
        plan = self.plan
        restart = next_restart(ended, restart_policy(self.service), plan.now, basis=basis_of(self.service))
        if restart is None:
            return False
        delayed = restart.at > plan.now
        waits = delayed or any(is_stopping(plan, task) for task in slot.tasks)
        plan.create(
            template=self._template_after(ended),
            slot=slot.number,
            node_id=slot.node_id,
            desired="ready" if waits else "running",
            start_after=restart.at if delayed else None,
            restarts=restart.record,
            after=slot.last,
            why=why_held(ended, restart),
        )
        plan.change(ended, desired_state=TaskState.SHUTDOWN.label)
        return True

    def _is_outdated(self, ended: Task) -> bool:
        """The service has changed since, and that change is to reach the slot now."""
        version = self._template_after(ended).version
        return version != ended.spec_version and is_dirty(self.service, ended, self.plan.node(ended))

    def _template_after(self, ended: Task) -> Template:
        """A paused update changes nothing more: what fails meanwhile comes back as it was."""
        service = self.service
        paused = service.update_status is not None and service.update_status.state in ("paused", "rollback_paused")
        previous = service.previous_spec
        if paused and previous is not None and ended.spec_version == service.previous_spec_version:
            return Template(previous, service.previous_spec_version)
        return current_template(service)

    def _tend(self, slot: Slot, task: Task) -> None:
        plan = self.plan
        if task.node_id and is_gone(plan.node(task)):
            self._replace_lost(slot, task)
        elif is_leaving(plan, task):
            self._move(slot, task)
        elif task.desired == TaskState.READY:
            self._promote(slot, task)

    def _replace_lost(self, slot: Slot, task: Task) -> None:
        if is_removed(self.plan, task):
            self.plan.abandon(task, REMOVED)
        if slot.number is not None:
            self.fill(slot)

    def _move(self, slot: Slot, task: Task) -> None:
        """Off a node that it must leave. A global task has no other place."""
        if slot.number is None:
            self.plan.retire(task)
        elif task.desired == TaskState.READY or not starts_first(self.service, move=True):
            self.plan.retire(task)
            self.fill(slot, desired="ready")
        elif not self._failed_since(slot, task):
            self.fill(slot)

    def _failed_since(self, slot: Slot, task: Task) -> bool:
        """A replacement came after the live task and ended; the restart policy's delay holds for the next one."""
        last = slot.newest
        if last is task or not last.is_terminal or last.desired > TaskState.RUNNING:
            return False
        self.restart(slot, last)
        return True

    def _promote(self, slot: Slot, task: Task) -> None:
        """Let a waiting task start, once its time has come and its predecessor has ended."""
        plan = self.plan
        if any(is_stopping(plan, other) for other in slot.tasks):
            return
        if not plan.is_early(task):
            start_after = task.start_after if task.start_after and task.start_after <= plan.now else None
            plan.change(task, desired_state=TaskState.RUNNING.label, start_after=start_after)

    # -- two live tasks -----------------------------------------------------------------------------------------

    def _hand_over(self, slot: Slot) -> None:
        plan = self.plan
        lost = [t for t in slot.live if t.node_id and is_gone(plan.node(t))]
        sound = [t for t in slot.live if t not in lost]
        if not sound:
            if slot.live[-1].node_id:
                self._replace_lost(slot, slot.live[-1])
            return
        placed = any(t.state >= TaskState.ASSIGNED for t in sound)
        for task in lost:
            if placed or is_removed(plan, task):
                plan.abandon(task, REMOVED if is_removed(plan, task) else LOST)
        if len(sound) == 1 and sound[0].desired == TaskState.READY:
            self._promote(slot, sound[0])
        if len(sound) > 1:
            self._choose(slot, sound)

    def _choose(self, slot: Slot, sound: list[Task]) -> None:
        """Between two or more tasks that could each hold the slot."""
        plan = self.plan
        successor = sound[-1]
        incumbents = sound[:-1]
        departing = [
            t
            for t in incumbents
            if successor.replaces == t.id or is_leaving(plan, t) or is_dirty(self.service, t, plan.node(t))
        ]
        if len(departing) == len(incumbents) and not is_leaving(plan, successor):
            waits = successor.desired == TaskState.READY
            cannot_place = not waits and successor.state < TaskState.ASSIGNED and bool(successor.status.err)
            drained = all(is_leaving(plan, t) for t in departing)
            first = starts_first(self.service, move=drained) and any(is_up(t) for t in departing)
            if waits and first:
                self._promote(slot, successor)  # what runs well goes on until another try has come up
                return
            over = is_up(successor) or waits or (cannot_place and drained)
            if over or all(task.desired == TaskState.READY for task in departing):
                for task in departing:  # (what has not even started serves nobody meanwhile)
                    plan.retire(task)
            elif len(departing) > 1:
                self.keep_best(departing)
            return
        self.keep_best(sound)

    def keep_best(self, tasks: list[Task]) -> None:
        """One stays: not one that has to go, rather up than not, rather far on its way, rather old."""
        plan = self.plan

        def worth(task: Task) -> tuple[bool, bool, int]:
            has_to_go = is_leaving(plan, task) or is_dirty(self.service, task, plan.node(task))
            return (not has_to_go, is_up(task), int(task.state))

        best = max(tasks, key=worth)  # of equals, the first: the oldest
        for task in tasks:
            if task is not best:
                plan.retire(task)


def is_removed(plan: Plan, task: Task) -> bool:
    """Its node will not come back."""
    return bool(task.node_id) and plan.nodes(task.node_id or "") is None
