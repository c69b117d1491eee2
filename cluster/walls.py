"""Walls: a decision about many objects is made about each by itself, so that one that cannot be decided about does not
stop the others.

- A loop has one `Walls`. What it does for one object goes through `attempt` (decisions that are made again and again)
  or `guard` (steps of a whole that is made anew anyway). An exception there becomes a fault of the object's service.
- `attempt` leaves an object alone that failed, for pauses that double from FIRST to MOST seconds, unless its subject
  (mostly its specification) has changed: a broken service costs an exception a minute, and its repair counts at once.
- `Faults` collects what all walls of a process found. One loop writes it into the services (`Service.fault`), where
  every manager and client sees it, and the log hears of each fault once.

Rejected: a wall around the loop only (it starts anew and meets the same object again), and a list of the exceptions
that are expected (what nobody foresaw is what stops a cluster).

Pure: times come in.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, TypeVar, TypeVarTuple

from .errors import ClusterError

Args = TypeVarTuple("Args")
T = TypeVar("T")
Otherwise = TypeVar("Otherwise")

FIRST = timedelta(seconds=1)
MOST = timedelta(seconds=60)
LONGEST_TEXT = 300
"""Characters of a reason: it is a cell of a table."""


class Unfit(ClusterError):
    """A specification that cannot be carried out, found by a decision; the message is shown to users as it is."""

    status = 400


def words(error: BaseException) -> str:
    """What went wrong, in one printable line."""
    text = str(error) if isinstance(error, ClusterError) else f"{type(error).__name__}: {error}".removesuffix(": ")
    plain = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text[: LONGEST_TEXT + 1])
    return plain if len(plain) <= LONGEST_TEXT else plain[:LONGEST_TEXT] + "..."


def place_of(error: BaseException) -> str:
    """Where it was raised, as `tasks.py:83 in routed_ports`, for the log."""
    trace = error.__traceback__
    if trace is None:
        return ""
    while trace.tb_next is not None:
        trace = trace.tb_next
    code = trace.tb_frame.f_code
    return f"{code.co_filename.rpartition('/')[2]}:{trace.tb_lineno} in {code.co_name}"


@dataclass(frozen=True, slots=True)
class Fault:
    """`reason` is for users; `place` in the code for the log."""

    reason: str
    place: str


class Faults:
    """By service, what each wall found. `changed` holds the ids that whoever tells users has yet to look at."""

    def __init__(self) -> None:
        self._found: dict[str, dict[tuple[str, str], Fault]] = {}
        self.changed: set[str] = set()

    def put(self, service_id: str, where: str, key: str, fault: Fault) -> None:
        known = self._found.setdefault(service_id, {})
        if known.get((where, key)) != fault:
            known[where, key] = fault
            self.changed.add(service_id)

    def clear(self, service_id: str, where: str, key: str) -> None:
        known = self._found.get(service_id)
        if known is not None and known.pop((where, key), None) is not None:
            self.changed.add(service_id)
            if not known:
                del self._found[service_id]

    def of(self, service_id: str) -> Fault | None:
        """One of its faults, always the same one of several."""
        known = self._found.get(service_id)
        return known[min(known)] if known else None

    def forget(self) -> None:
        """Of everything: whoever found it begins anew."""
        self.changed |= self._found.keys()
        self._found.clear()

    def get(self, service_id: str, where: str, key: str) -> Fault | None:
        return self._found.get(service_id, {}).get((where, key))

    def known(self) -> Collection[str]:
        return self._found.keys()


@dataclass(slots=True)
class _Failed:
    service_id: str
    subject: Any
    pause: timedelta
    retry_at: datetime | None


class Walls:
    """`where` begins the reasons, and says what cannot be done ("it cannot be placed"). Without `faults` nobody is told
    of them."""

    def __init__(self, where: str, faults: Faults | None = None) -> None:
        self._where = where
        self._faults = faults if faults is not None else Faults()
        self._failed: dict[str, _Failed] = {}
        self._unseen: set[str] = set()

    def attempt(
        self,
        key: str,
        subject: Any,
        now: datetime,
        act: Callable[[], T],
        otherwise: Otherwise,
        service_id: str | None = None,
    ) -> T | Otherwise:
        """What `act` returns; `otherwise` when it raises, and while the object is left alone after that.

        `service_id` is whose fault it is, where `key` is not a service's id.
        """
        failed = self._failed.get(key)
        if failed is not None and failed.retry_at is not None and now < failed.retry_at and failed.subject == subject:
            return otherwise
        try:
            result = act()
        except Exception as error:
            again = failed is not None and failed.subject == subject and failed.retry_at is not None
            pause = min(failed.pause * 2, MOST) if failed is not None and again else FIRST
            self._note(key, service_id or key, error, subject, pause, now + pause)
            return otherwise
        if failed is not None:
            self.clear(key)
        return result

    def guard(
        self, key: str, service_id: str, act: Callable[[*Args], T], otherwise: Otherwise, *args: *Args
    ) -> T | Otherwise:
        """What `act` returns for these arguments, or `otherwise` when it raises."""
        try:
            result = act(*args)
        except Exception as error:
            self._note(key, service_id, error, None, FIRST, None)
            return otherwise
        if self._failed and key in self._failed:
            self.clear(key)
        return result

    def reason(self, key: str) -> str | None:
        """Why an object fails."""
        failed = self._failed.get(key)
        fault = self._faults.get(failed.service_id, self._where, key) if failed is not None else None
        return fault.reason if fault is not None else None

    def retry_at(self, key: str) -> datetime | None:
        """When an object that failed is to be tried again."""
        failed = self._failed.get(key)
        return failed.retry_at if failed is not None else None

    def clear(self, key: str) -> None:
        """The object is well, or gone."""
        failed = self._failed.pop(key, None)
        if failed is not None:
            self._faults.clear(failed.service_id, self._where, key)

    def begin(self) -> None:
        """A whole is made anew: faults that do not come again until `end` are over."""
        self._unseen = set(self._failed)

    def end(self) -> None:
        unseen, self._unseen = self._unseen, set()
        for key in unseen:
            self.clear(key)

    def reset(self) -> None:
        """The loop starts anew: everything is tried again."""
        for failed in self._failed.values():
            failed.retry_at = None

    def _note(
        self, key: str, service_id: str, error: Exception, subject: Any, pause: timedelta, retry_at: datetime | None
    ) -> None:
        self._unseen.discard(key)
        before = self._failed.get(key)
        if before is not None and before.service_id != service_id:
            self._faults.clear(before.service_id, self._where, key)
        self._failed[key] = _Failed(service_id, subject, pause, retry_at)
        self._faults.put(service_id, self._where, key, Fault(f"{self._where}: {words(error)}", place_of(error)))
