"""The restart policy: whether, and when, a task that ended is started again.

- Attempts are counted per slot and service version, within the window if the policy has one. The count travels with
  the tasks themselves (`Task.restarts`), so that a new leader goes on counting and history may be cut short.
- Back-off: from the fourth time in a row that a task ends within STEADY of its start, the delay doubles, to at most
  LONGEST (or the policy's own delay, if that is longer). Swarm keeps a crash loop at its delay for ever, and each
  round costs placement, dispatch and log entries that other services wait for.

Pure: the time comes in.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

from essaim.cluster.service import RestartPolicy
from essaim.cluster.task import RestartRecord, Task, TaskState

NANOSECONDS = 1_000_000_000
DEFAULT_DELAY = timedelta(seconds=5)
STEADY = timedelta(seconds=60)
LONGEST = timedelta(seconds=60)
FREE_ATTEMPTS = 3
SHORTEST_BACKOFF = timedelta(milliseconds=250)
NEVER = timedelta(days=3650)


@dataclass(frozen=True, slots=True)
class Restart:
    """Start the replacement at `at`, and give it `record`."""

    at: datetime
    record: RestartRecord


def duration(nanoseconds: int | None, default: timedelta = timedelta(0)) -> timedelta:
    """A specification's nanoseconds; `default` for None. Absurd values are cut to ten years."""
    return default if nanoseconds is None else min(timedelta(microseconds=nanoseconds / 1000), NEVER)


def next_restart(task: Task, policy: RestartPolicy | None, now: datetime, *, job: bool = False) -> Restart | None:
    """What the policy says of a task that ended by itself, or None when it is to stay as it is."""
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
    streak = past.streak + 1 if task.running_since is None or ended - task.running_since < STEADY else 0
    kept = [*recent, now][-policy.max_attempts :] if window and policy.max_attempts else None
    record = RestartRecord(count=past.count + 1, streak=streak, recent=kept)
    return Restart(ended + delay_of(policy, streak), record)


def delay_of(policy: RestartPolicy, streak: int) -> timedelta:
    """The pause before a restart after `streak` quick ends in a row."""
    delay = duration(policy.delay, DEFAULT_DELAY)
    doublings = min(streak - FREE_ATTEMPTS, 16)
    if doublings <= 0:
        return delay
    backed_off: timedelta = max(delay, SHORTEST_BACKOFF) * (1 << doublings)
    return max(delay, min(backed_off, LONGEST))
