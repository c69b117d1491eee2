"""Scheduled jobs: a job service with a schedule begins an iteration whenever the schedule says so.

Labels of the service:
- `essaim.schedule`: five fields of cron, or @hourly, @daily, @weekly, @monthly, @yearly.
- `essaim.schedule.timezone`: an IANA name; UTC unless set. Times that a change of clock skips or repeats are handled as
  Debian's cron does.
- `essaim.schedule.concurrency`: what to do when the last run is still under way: forbid (the default: skip this one),
  allow (run beside it) or replace (stop it).
- `essaim.schedule.deadline`: how late a run may begin that was missed because nobody led; 1h unless set. However many
  were missed, only the newest is made up for.

`job_status.last_execution` is the time up to which the schedule has been dealt with. A new service does not run until
its time comes. Its history is that of its tasks (TaskHistoryRetentionLimit per slot).

Pure: the time comes in. (Time zones are read from the system's database, once each.)
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache, partial
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec
from cronsim import CronSim, CronSimError

from essaim.cluster import changes
from essaim.cluster.durations import seconds
from essaim.cluster.errors import InvalidArgument
from essaim.cluster.service import JobStatus, Service
from essaim.cluster.shape import NO_VERSION, Version
from essaim.cluster.store import Store
from essaim.cluster.task import Task, TaskState
from essaim.cluster.walls import Faults, Unfit, Walls
from essaim.cluster.watch import Event
from essaim.scheduler.agenda import Agenda
from essaim.scheduler.loop import Decision

LABEL = "essaim.schedule"
FORBID, ALLOW, REPLACE = "forbid", "allow", "replace"
DEADLINE = timedelta(hours=1)
FINEST = timedelta(seconds=1)
NAMES = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}
SLICE = 100


@dataclass(frozen=True, slots=True)
class Schedule:
    expression: str
    zone: str
    concurrency: str
    deadline: timedelta

    def next_after(self, moment: datetime) -> datetime | None:
        """The first time after `moment`, in UTC; None when there is none (30 February)."""
        try:
            found = next(CronSim(self.expression, moment.astimezone(_zone(self.zone))))
        except StopIteration:
            return None
        return datetime.astimezone(found, UTC)

    def newest_due(self, since: datetime, now: datetime) -> datetime | None:
        """The newest time after `since` and not after `now`, nor longer ago than the deadline."""
        found = self.next_after(max(since, now - self.deadline))
        if found is None or found > now:
            return None
        later = self.next_after(found)
        if later is None or later > now:
            return found
        # Halving what is left: a schedule of minutes that nobody led for a year has half a million times.
        low, high = later, now
        while high - low > FINEST:
            middle = low + (high - low) / 2
            found = self.next_after(middle)
            if found is None or found > now:
                high = middle
            else:
                low = found
        last = self.next_after(low)
        return last if last is not None and last <= now else low


@lru_cache(maxsize=128)
def _zone(name: str) -> ZoneInfo:
    return ZoneInfo(name)


def has_schedule(service: Service) -> bool:
    return LABEL in (service.spec.labels or {})


def schedule_of(labels: dict[str, str] | None) -> Schedule | None:
    """The schedule that the labels declare. Raises InvalidArgument in words fit for the user."""
    labels = labels or {}
    text = labels.get(LABEL)
    if text is None:
        return None
    return _parsed(
        text.strip(),
        labels.get(f"{LABEL}.timezone", "UTC"),
        labels.get(f"{LABEL}.concurrency", FORBID),
        labels.get(f"{LABEL}.deadline"),
    )


@lru_cache(maxsize=1024)
def _parsed(text: str, zone: str, concurrency: str, deadline: str | None) -> Schedule:
    expression = NAMES.get(text.lower(), text)
    try:
        CronSim(expression, datetime(2000, 1, 1, tzinfo=UTC))
    except CronSimError as error:
        raise InvalidArgument(
            f'invalid schedule {text!r} ({error}): write five fields of cron, as in "0 3 * * *", or @daily and the like'
        ) from error
    try:
        _zone(zone)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise InvalidArgument(f"unknown time zone {zone!r}: write it as in Europe/Paris, or UTC") from error
    if concurrency not in (FORBID, ALLOW, REPLACE):
        raise InvalidArgument(f"invalid {LABEL}.concurrency {concurrency!r}: it is forbid, allow or replace")
    try:
        limit = DEADLINE if deadline is None else timedelta(seconds=seconds(deadline))
    except ValueError as error:
        raise InvalidArgument(f"invalid {LABEL}.deadline: {error}") from error
    return Schedule(expression, zone, concurrency, limit)


def is_job(service: Service) -> bool:
    mode = service.spec.mode
    return mode is not None and (mode.replicated_job is not None or mode.global_job is not None)


def concurrency_of(service: Service) -> str:
    """Of a schedule that cannot be read: forbid, which touches nothing."""
    try:
        schedule = schedule_of(service.spec.labels)
    except InvalidArgument:
        return FORBID
    return schedule.concurrency if schedule else REPLACE


def is_under_way(task: Task) -> bool:
    return task.desired <= TaskState.COMPLETE and not task.is_terminal


def fire(service: Service, tasks: list[Task], schedule: Schedule, now: datetime) -> Service | None:
    """The service with a further iteration begun (or a time passed over), or None when no time has come."""
    status = service.job_status or JobStatus(job_iteration=NO_VERSION)
    due = schedule.newest_due(status.last_execution or service.created_at, now)
    if due is None:
        return None
    if schedule.concurrency == FORBID and any(is_under_way(task) for task in tasks):
        return msgspec.structs.replace(service, job_status=msgspec.structs.replace(status, last_execution=due))
    iteration = Version(index=status.job_iteration.index + 1)
    begun = JobStatus(job_iteration=iteration, last_execution=due, scheduled=iteration)
    return msgspec.structs.replace(service, job_status=begun)


class Cron:
    """The loop that begins scheduled iterations."""

    name = "cron"
    tables = ("services",)

    def __init__(self, faults: Faults | None = None) -> None:
        self._walls = Walls("its schedule cannot be followed", faults)
        self._agenda = Agenda()

    def reset(self, store: Store) -> None:
        self._agenda.clear()
        self._walls.reset()
        for service in store.services:
            self._consider(service)

    def observe(self, events: list[Event]) -> None:
        for event in events:
            if event.kind == "delete":
                self._walls.clear(event.object.id)
            else:
                self._consider(event.object)

    def _consider(self, service: Service) -> None:
        if has_schedule(service):
            self._agenda.add(service.id)
        else:
            self._walls.clear(service.id)

    def decide(self, store: Store, now: datetime) -> Decision:
        decision = Decision()
        for service_id in self._agenda.take(now, SLICE):
            service = store.services.get(service_id)
            if service is not None and not service.pending_delete:
                self._walls.attempt(
                    service_id, service.spec, now, partial(self._fire, service, store, now, decision), None
                )
                if (again := self._walls.retry_at(service_id)) is not None:
                    self._agenda.at(again, service_id)
        decision.wake = self._agenda.next_time()
        decision.more = self._agenda.has_due
        return decision

    def _fire(self, service: Service, store: Store, now: datetime, decision: Decision) -> None:
        schedule = schedule_of(service.spec.labels)
        if schedule is None:
            return
        if not is_job(service):
            raise Unfit("only jobs can be scheduled: create the service with --mode replicated-job")
        fired = fire(service, store.tasks.by("service", service.id), schedule, now)
        following = schedule.next_after(now)
        if fired is not None:
            decision.changes.append(changes.put("services", fired))
        if following is not None:
            self._agenda.at(following, service.id)
