"""What this gateway checks itself, and what it knows from the others' checks.

It checks
- what is assigned to it (`assignment.py`);
- what traffic failed at here, for KEPT_IN_DOUBT seconds, and for as long as it finds it down: a failure that only this
  gateway sees stays its own affair;
- what nobody has told a verdict of for GRACE seconds: a new endpoint whose checkers are silent, or every endpoint once
  there has been no session with the leader for that long. Until its own check has an outcome, the last shared verdict
  holds.

Pure: times in seconds of a monotonic clock come in.
"""

from collections.abc import Callable, Iterable
from typing import NamedTuple

from .assignment import Assignment

GRACE = 5.0
KEPT_IN_DOUBT = 60.0


class Found(NamedTuple):
    """A verdict, why, and the id of the node whose gateway found it ("" when nobody has checked yet)."""

    up: bool
    reason: str
    by: str


class Share:
    def __init__(self, node_id: str, now: float) -> None:
        self._node_id = node_id
        self.assigned: set[str] = set()
        self._others: set[str] = set()
        # What others check and nobody has told of, with the time since when.
        self._unknown: dict[str, float] = {}
        self._shared: dict[str, Found] = {}
        # What traffic failed at, with the time until when that is followed.
        self._doubted: dict[str, float] = {}
        self._lost: float | None = now

    def put(self, assignment: Assignment, key: str, node_id: str, now: float) -> None:
        """An endpoint of that node, which may be new or have other checkers than before."""
        if assignment.is_checked_by(self._node_id, key, node_id):
            self.assigned.add(key)
            self._others.discard(key)
            self._unknown.pop(key, None)
            return
        self.assigned.discard(key)
        self._others.add(key)
        # A verdict may have come before the table that has its endpoint.
        if key not in self._shared:
            self._unknown.setdefault(key, now)

    def drop(self, key: str) -> None:
        """The endpoint has left."""
        self.assigned.discard(key)
        self._others.discard(key)
        for known in (self._unknown, self._shared, self._doubted):
            known.pop(key, None)

    def take_verdicts(
        self, full: bool, found: dict[str, dict[str, str]], unknown: Iterable[str], now: float
    ) -> list[str]:
        """The leader's word: by node that found it, endpoints with the reason why they are down, or "" if up.

        With `full` there are no others. Returns the endpoints whose shared verdict may have changed.
        """
        fresh = {
            key: Found(not reason, reason or "check passed", node)
            for node, reasons in found.items()
            for key, reason in reasons.items()
        }
        self._shared |= fresh
        for key in fresh:
            self._unknown.pop(key, None)
        for key in (self._others - fresh.keys()) if full else self._others.intersection(unknown):
            self._unknown.setdefault(key, now)
        return list(fresh)

    def session(self, is_open: bool, now: float) -> None:
        """The session with the leader has begun or ended."""
        self._lost = None if is_open else now

    def trouble(self, key: str, now: float) -> None:
        """Traffic failed there."""
        if key in self._others:
            self._doubted[key] = now + KEPT_IN_DOUBT

    def beyond(self, is_down: Callable[[str], bool], now: float) -> set[str]:
        """What to check beyond what is assigned. `is_down`: by this gateway's own checks."""
        if self._lost is not None and now - self._lost >= GRACE:
            return set(self._others)
        self._doubted = {key: until for key, until in self._doubted.items() if now < until or is_down(key)}
        overdue = {key for key, since in self._unknown.items() if now - since >= GRACE}
        return overdue | (self._doubted.keys() & self._others)

    def shared(self, key: str) -> Found | None:
        """The last verdict that the leader told of."""
        return self._shared.get(key)
