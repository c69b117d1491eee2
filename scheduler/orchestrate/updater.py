"""Rolling updates and rollbacks, decided anew each time from the tasks and the service's update status alone.

- Phases live in `Service.update_status`: none, updating, then completed, paused or rollback_started, and from the last
  rollback_completed or rollback_paused. Whoever changes the specification clears the status (or, for a rollback by
  hand, sets rollback_started); that starts or resumes an update.
- At most `parallelism` slots are being updated at a time. A slot holds its place from the moment its old task is told
  to stop (or its new one is made, start-first) until the new task is up and `delay` has passed.
- A failure is a slot whose task of the new version ended by itself within `monitor` of its start. A slot that has
  failed holds no place: the failure action decides, once failures exceed `max_failure_ratio` of the slots.
- Slots that are not up are updated first: an update that repairs a broken service must not wait for it.

Because nothing is remembered outside the store, a new leader goes on where the old one was.

Pure: the plan brings time and state.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

import msgspec

from essaim.cluster.service import Service, UpdateConfig, UpdateStatus
from essaim.cluster.task import Task, TaskState
from essaim.scheduler.restart import duration
from essaim.scheduler.tasks import is_dirty, is_gone, is_up

from .plan import Plan
from .slots import Slot, SlotKeeper, restart_policy, starts_first

MONITOR = timedelta(seconds=5)
UPDATING, PAUSED, COMPLETED = "updating", "paused", "completed"
ROLLBACK, ROLLBACK_PAUSED, ROLLBACK_COMPLETED = "rollback_started", "rollback_paused", "rollback_completed"
RUNNING_PHASES = (UPDATING, ROLLBACK)


@dataclass(frozen=True, slots=True)
class Policy:
    """An UpdateConfig with Swarm's defaults filled in. `parallelism` 0: all at once."""

    parallelism: int
    delay: timedelta
    monitor: timedelta
    action: str
    ratio: float

    @classmethod
    def of(cls, config: UpdateConfig | None) -> "Policy":
        config = config or UpdateConfig()
        return cls(
            1 if config.parallelism is None else config.parallelism,
            duration(config.delay),
            duration(config.monitor, MONITOR) or MONITOR,
            config.failure_action or "pause",
            config.max_failure_ratio or 0.0,
        )


def update(plan: Plan, keeper: SlotKeeper, slots: list[Slot]) -> None:
    """Take the service's update one step further."""
    service = plan.service
    status = service.update_status
    dirty = [slot for slot in slots if needs_update(plan, slot)]
    if status is None or status.state not in RUNNING_PHASES:
        if dirty and (status is None or status.state not in (PAUSED, ROLLBACK_PAUSED)):
            begun = UpdateStatus(state=UPDATING, started_at=plan.now, message="update in progress")
            plan.change_service(update_status=begun)
        return
    rolling_back = status.state == ROLLBACK
    policy = Policy.of(service.spec.rollback_config if rolling_back else service.spec.update_config)
    failed = [slot for slot in slots if failure(slot, service, policy, status.started_at)]
    if len(failed) > policy.ratio * max(1, len(slots)) and policy.action != "continue":
        culprit = failure(failed[0], service, policy, status.started_at)
        assert culprit is not None
        give_up(plan, culprit, policy, rolling_back=rolling_back)
        return
    if dirty:
        advance(plan, keeper, slots, dirty, policy)
    elif is_settled(plan, slots, failed, policy, status.started_at):
        done = ROLLBACK_COMPLETED if rolling_back else COMPLETED
        message = "rollback completed" if rolling_back else "update completed"
        completed = msgspec.structs.replace(status, state=done, completed_at=plan.now, message=message)
        plan.change_service(update_status=completed)


def needs_update(plan: Plan, slot: Slot) -> bool:
    """All that lives in the slot is out of date. (A slot where nothing lives is refilled with the new version.)"""
    return bool(slot.live) and all(is_dirty(plan.service, t, plan.node(t)) for t in slot.live)


def failure(slot: Slot, service: Service, policy: Policy, since: datetime | None) -> Task | None:
    """The task of the new version that ended by itself too soon, if there is one."""
    restart = restart_policy(service)
    ends = {TaskState.FAILED, TaskState.REJECTED}
    if restart is None or restart.condition in (None, "any"):
        ends.add(TaskState.COMPLETE)
    for task in slot.tasks:
        if (
            task.spec_version == service.spec_version
            and task.state in ends
            and (since is None or task.created_at >= since)
            and (task.running_since is None or ended_at(task) - task.running_since <= policy.monitor)
        ):
            return task
    return None


def ended_at(task: Task) -> datetime:
    """When a terminal task was reported so; later changes of the task can only make it later."""
    return task.updated_at


def give_up(plan: Plan, culprit: Task, policy: Policy, *, rolling_back: bool) -> None:
    service = plan.service
    why = f"due to failure or early termination of task {culprit.id}"
    status = service.update_status
    assert status is not None
    if rolling_back:
        paused = msgspec.structs.replace(status, state=ROLLBACK_PAUSED, message=f"rollback paused {why}")
        plan.change_service(update_status=paused)
    elif policy.action == "rollback" and service.previous_spec is not None:
        plan.change_service(
            spec=service.previous_spec,
            spec_version=service.previous_spec_version,
            previous_spec=None,
            previous_spec_version=None,
            spec_after=service.version,
            update_status=UpdateStatus(state=ROLLBACK, started_at=plan.now, message=f"update rolled back {why}"),
        )
    else:
        paused = msgspec.structs.replace(status, state=PAUSED, message=f"update paused {why}")
        plan.change_service(update_status=paused)


def advance(plan: Plan, keeper: SlotKeeper, slots: list[Slot], dirty: list[Slot], policy: Policy) -> None:
    """Begin with as many further slots as the parallelism leaves room for."""
    busy = sum(holds_place(plan, slot, policy) for slot in slots)
    room = len(dirty) if policy.parallelism == 0 else policy.parallelism - busy
    if room <= 0:
        return
    ready = [slot for slot in dirty if may_replace(plan, keeper, slot)]
    ready.sort(key=lambda slot: (any(is_up(t) for t in slot.live), slot.number or 0))
    for slot in ready[:room]:
        replace(plan, keeper, slot)


def may_replace(plan: Plan, keeper: SlotKeeper, slot: Slot) -> bool:
    """Not while its node is lost or a replacement that failed is to be followed by another one later."""
    if all(t.node_id and is_gone(plan.node(t)) for t in slot.live):
        return False
    last = slot.newest
    if last.is_live or not last.is_terminal or last.desired > TaskState.RUNNING:
        return True
    keeper.restart(slot, last)
    return False


def replace(plan: Plan, keeper: SlotKeeper, slot: Slot) -> None:
    if starts_first(plan.service) and any(t.desired == TaskState.RUNNING for t in slot.live):
        keeper.keep_best(slot.live)  # an earlier update may have left its own beside the old one
        keeper.fill(slot)
        return
    for task in slot.live:
        plan.retire(task)
    keeper.fill(slot, desired="ready")


def holds_place(plan: Plan, slot: Slot, policy: Policy) -> bool:
    """Whether the slot is under way from the old version to the new one."""
    service = plan.service
    fresh = [t for t in slot.live if not is_dirty(service, t, plan.node(t))]
    old = [t for t in slot.tasks if is_dirty(service, t, plan.node(t))]
    if not fresh or not old:
        return False
    if any(not t.is_terminal and not is_gone(plan.node(t)) for t in old):
        return True
    task = fresh[-1]
    started = service.update_status.started_at if service.update_status else None
    if failure(slot, service, policy, started):
        return False
    if not is_up(task):
        return True
    free_at = (task.running_since or task.updated_at) + policy.delay
    if free_at <= plan.now:
        return False
    plan.wake_at(free_at)
    return True


def is_settled(plan: Plan, slots: list[Slot], failed: list[Slot], policy: Policy, since: datetime | None) -> bool:
    """Every slot has been up for the monitoring time, or has failed within what is tolerated."""
    settled = True
    for slot in slots:
        up = [t for t in slot.live if is_up(t)]
        if slot in failed:
            continue
        if any(is_dirty(plan.service, t, plan.node(t)) for t in slot.live):
            settled = False  # start-first: the old one is still there
            continue
        if not up:
            settled = settled and not slot.live  # a slot that is to stay ended holds nothing up
            continue
        if not changed_since(slot, since):
            continue
        over = (up[-1].running_since or up[-1].updated_at) + policy.monitor
        if over > plan.now:
            plan.wake_at(over)
            settled = False
    return settled


def changed_since(slot: Slot, since: datetime | None) -> bool:
    """The update (and not something before it) made the slot's task."""
    return since is None or slot.newest.created_at >= since
