"""Who is alive, and for how long a silent node's tasks stay where they are.

A node that has been silent for three heartbeat periods (`wire.manager_patience`) is down: its tasks are replaced
elsewhere. Not so while its daemon has only gone and its tasks live on; then it is `away` (shown as Unknown), keeps its
tasks, gets no new ones, and is down when `grace` is over. It is taken to be away

- while a gateway on another node reaches one of its replicas (witnesses are asked from ASK_BEFORE periods before its
  time is over, each ASK_EVERY seconds): a daemon that crashed;
- or when its daemon said goodbye, unless the witnesses that were asked reach none of its replicas: those have ended, as
  when a whole host shuts down.

So a host that is lost is down after that time as ever: nothing on it answers.

A new leader has heard nobody yet. Agents may take their time to find it (they wait between attempts, and hang for a
while on the address of a manager whose host is gone), and nothing may move because of a change of leader: so it grants
every node GRACE more, but for the managers that the log cannot reach either. Those have had no word with anybody, and
the host of the old leader is usually one of them. A node that the store says is away was found so by the leader before.

A leader that was itself held up (a stalled process, a suspended machine) begins like a new one: silence that it could
not have heard through proves nothing.

Pure: times in seconds of a monotonic clock come in.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from enum import Enum

from essaim.cluster.wire import manager_patience

MISSED_BY_ALL = 2
"""Periods that a manager has after a change of leader, when the log cannot reach it either."""
GRACE = 10.0
ASK_BEFORE = 1.5
"""Heartbeat periods before its time is over that witnesses are asked about a silent node."""
LATE = 1.5
"""Periods after which a heartbeat is overdue."""
ASK_EVERY = 1.0
FRESH = 2.5
"""Seconds for which a replica that answered speaks for its node."""
REPLY = 1.5
"""Seconds that witnesses have to answer."""


class Fate(Enum):
    """What a silent node is to be called; SILENT: nothing yet."""

    SILENT = "silent"
    AWAY = "away"
    DOWN = "down"


@dataclass(slots=True)
class _Known:
    """Of one node, as times; None: never. `since`: from when on it is silent; `limit`: seconds that it may be so.
    `asked` first, and `asked_last`; `heeded`: a witness has said something, if only that it knows of no replica there.
    """

    since: float
    limit: float
    was_heard: bool = False
    left: bool = False
    asked: float | None = None
    asked_last: float = 0.0
    heeded: bool = False
    answered: float | None = None
    refused: float | None = None


class Liveness:
    """`period` in seconds; `grace`: seconds of silence after which a node that is away is down."""

    def __init__(self, period: float, grace: float) -> None:
        self.period = period
        self.grace = grace
        self._known: dict[str, _Known] = {}
        self._checked: float | None = None

    @property
    def period(self) -> float:
        return self._period

    @period.setter
    def period(self, period: float) -> None:
        self._period = period
        self.patience = manager_patience(period)

    # -- what happens -------------------------------------------------------------------------------------------

    def heard(self, node_id: str, now: float) -> None:
        known = self._known.get(node_id)
        if known is not None and known.was_heard and not known.left and known.asked is None:
            known.since, known.limit = now, self.patience  # as nearly always: every heartbeat comes here
        else:
            self._known[node_id] = _Known(now, self.patience, was_heard=True)

    def left(self, node_id: str, now: float) -> None:
        """Its daemon said goodbye, and means to come back."""
        self._known[node_id] = _Known(now, self.patience, was_heard=True, left=True)

    def forget(self, node_id: str) -> None:
        self._known.pop(node_id, None)

    def told(self, node_id: str, answers: bool | None, now: float) -> None:
        """A witness's word on a node: whether any replica there answers; None: it knows of none."""
        known = self._known.get(node_id)
        if known is not None and known.asked is not None:
            known.heeded = True
            if answers:
                known.answered = now
            elif answers is False:
                known.refused = now

    # -- what follows -------------------------------------------------------------------------------------------

    def is_heard(self, node_id: str, now: float) -> bool:
        """Its last heartbeat is not overdue."""
        known = self._known.get(node_id)
        return known is not None and known.was_heard and now < known.since + self.period * LATE

    def look(self, nodes: Mapping[str, str], now: float, unreachable: Collection[str] = ()) -> dict[str, Fate]:
        """What the silent ones among the nodes are to be called. Call it about twice a period.

        `nodes`: state in the store by id, of all that are not down. `unreachable`: managers that the log cannot reach.
        """
        held_up = self._checked is not None and now - self._checked > 2 * self.period
        self._checked = now
        if held_up:
            self._known = {i: k for i, k in self._known.items() if k.left}
        found: dict[str, Fate] = {}
        for node_id, state in nodes.items():
            known = self._known.get(node_id)
            if known is None or not known.was_heard:
                known = self._unheard(node_id, now, unreachable=node_id in unreachable)
            if not known.was_heard or known.left or now >= known.since + known.limit:
                found[node_id] = self._fate(known, now, is_away=known.left or state == "unknown")
        return found

    def to_ask(self, now: float) -> list[str]:
        """About which nodes it is time to ask witnesses."""
        soon = now + self.period * ASK_BEFORE
        silent = [(i, known) for i, known in self._known.items() if known.since + known.limit <= soon]
        return [i for i, known in silent if known.asked is None or now >= known.asked_last + ASK_EVERY]

    def asked(self, node_id: str, now: float) -> None:
        """Witnesses were asked about it."""
        known = self._known.get(node_id)
        if known is not None:
            known.asked = now if known.asked is None else known.asked
            known.asked_last = now

    def _unheard(self, node_id: str, now: float, *, unreachable: bool) -> _Known:
        """A node that this leader has not heard yet."""
        known = self._known.setdefault(node_id, _Known(now, 0.0))
        known.limit = self.period * MISSED_BY_ALL if unreachable else self.patience + GRACE
        return known

    def _fate(self, known: _Known, now: float, *, is_away: bool) -> Fate:
        """Of a node that is silent."""
        deadline = known.since + known.limit
        if now < deadline:
            return Fate.AWAY if known.left else Fate.SILENT
        if now >= max(deadline, known.since + self.grace):
            return Fate.DOWN
        if known.answered is not None and now < known.answered + FRESH:
            return Fate.AWAY
        if known.refused is not None:
            return Fate.DOWN
        if is_away:
            return Fate.AWAY
        return Fate.SILENT if self._is_pending(known, now) else Fate.DOWN

    @staticmethod
    def _is_pending(known: _Known, now: float) -> bool:
        """A witness may yet say something. A new leader waits for the first one to come."""
        if known.heeded:
            return False
        waits = not known.was_heard and now < known.since + known.limit + REPLY
        return waits or (known.asked is not None and now < known.asked + REPLY)
