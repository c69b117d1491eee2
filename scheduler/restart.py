"""The restart policy: whether, and when, a task that ended is started again.

- Attempts are counted per slot and service version, within the window if the policy has one. The count travels with
  the tasks themselves (`Task.restarts`), so that a new leader goes on counting and history may be cut short.
- Back-off: from the fourth time in a row that a task ends within STEADY of its start, the delay doubles, to at most
  LONGEST (or the policy's own delay, if that is longer). Swarm keeps a crash loop at its delay for ever, and each
  round costs placement, dispatch and log entries that other services wait for.
- Early ends, those before anything ran (a node rejects the task; nothing could be started): the delay, at least
  EARLY_FIRST, doubles from the first of them on, to LONGEST. Their replacement is not even given to a node before its
  time: preparing is what fails, and it would fail at once. Who changes the service, or a node that comes or changes,
  ends the waiting (`is_released`).

Pure: the time comes in.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

from essaim.cluster.service import RestartPolicy, Service
from essaim.cluster.task import RestartRecord, Task, TaskState

NANOSECONDS = 1_000_000_000
DEFAULT_DELAY = timedelta(seconds=5)
STEADY = timedelta(seconds=60)
LONGEST = timedelta(seconds=60)
FREE_ATTEMPTS = 3
SHORTEST_BACKOFF = timedelta(milliseconds=250)
EARLY_FIRST = timedelta(seconds=2)
"""Also for a policy without delay: a registry's hiccup of a second must not use up its attempts."""
NEVER = timedelta(days=3650)


@dataclass(frozen=True, slots=True)
class Restart:
    """Start the replacement at `at`, and give it `record`."""

    at: datetime
    record: RestartRecord


def duration(nanoseconds: int | None, default: timedelta = timedelta(0)) -> timedelta:
    """A specification's nanoseconds; `default` for None. Absurd values are cut to ten years."""
    return default if nanoseconds is None else min(timedelta(microseconds=nanoseconds / 1000), NEVER)


def ended_early(task: Task) -> bool:
    """It failed before anything ran in it."""
    container = task.status.container_status
    ran = task.running_since is not None or (container is not None and container.exit_code is not None)
    return task.state in (TaskState.FAILED, TaskState.REJECTED) and not ran


def basis_of(service: Service) -> int | None:
    return service.spec_after.index if service.spec_after else None


def is_held_back(task: Task, now: datetime) -> bool:
    """No node is to get it before its time, since the one before it ended early."""
    early = task.restarts is not None and task.restarts.early > 0
    return early and task.start_after is not None and task.start_after > now


def is_released(task: Task, service: Service, since: datetime | None) -> bool:
    """Whether a task that is held back may go on at once: its service has been changed, or a node, at `since`."""
    if task.restarts is None or not task.restarts.early:
        return False
    return task.restarts.basis != basis_of(service) or (since is not None and task.created_at < since)


def next_restart(
    task: Task, policy: RestartPolicy | None, now: datetime, *, job: bool = False, basis: int | None = None
) -> Restart | None:
    """What the policy says of a task that ended by itself, or None when it is to stay as it is. `basis`: of the service
    as it is now."""
    policy = policy or RestartPolicy()
    condition = policy.condition or ("on-failure" if job else "any")
    if condition == "none" or (condition == "on-failure" and task.state == TaskState.COMPLETE):
        return None
    past = task.restarts or RestartRecord()
    window = duration(policy.window)
    recent = [at for at in past.recent or [] if now - at < window] if window else []
    made = len(recent) if window else past.count
    if policy.max_attempts and made >= policy.max_attempts:
        return None
    ended = min(task.updated_at, now)  # the manager's clock: the node's may be wrong
    same = past.basis == basis
    early = (past.early if same else 0) + 1 if ended_early(task) else 0
    streak = past.streak + 1 if task.running_since is None or ended - task.running_since < STEADY else 0
    kept = [*recent, now][-policy.max_attempts :] if window and policy.max_attempts else None
    record = RestartRecord(count=past.count + 1, streak=streak, recent=kept, early=early, basis=basis)
    return Restart(ended + (early_delay(policy, early) if early else delay_of(policy, streak)), record)


def why_held(ended: Task, restart: Restart) -> str | None:
    """What the replacement of a task that ended early shows while it is held back."""
    if not restart.record.early:
        return None
    return f"attempt {restart.record.early + 1} at {restart.at:%H:%M:%S} UTC, after: {ended.status.err or 'no reason'}"


def early_delay(policy: RestartPolicy, early: int) -> timedelta:
    """The pause before a restart after `early` ends in a row before anything ran."""
    delay = duration(policy.delay, DEFAULT_DELAY)
    backed_off: timedelta = max(delay, EARLY_FIRST) * (1 << min(early - 1, 16))
    return max(delay, min(backed_off, LONGEST))


def delay_of(policy: RestartPolicy, streak: int) -> timedelta:
    """The pause before a restart after `streak` quick ends in a row."""
    delay = duration(policy.delay, DEFAULT_DELAY)
    doublings = min(streak - FREE_ATTEMPTS, 16)
    if doublings <= 0:
        return delay
    backed_off: timedelta = max(delay, SHORTEST_BACKOFF) * (1 << doublings)
    return max(delay, min(backed_off, LONGEST))
