"""Who is alive: a node that has been silent for MISSED heartbeat periods is down.

A new leader has heard nobody yet. Agents may take their time to find it (they wait between attempts, and hang for a
while on the address of a manager whose host is gone), and nothing may move because of a change of leader: so it grants
every node GRACE more, but for the managers that the log cannot reach either. Those have had no word with anybody, and
the host of the old leader is usually one of them.

A leader that was itself held up (a stalled process, a suspended machine) begins like a new one: silence that it could
not have heard through proves nothing.

Pure: times in seconds of a monotonic clock come in.
"""

from collections.abc import Collection, Iterable

MISSED = 3
MISSED_BY_ALL = 2
"""Periods that a manager has after a change of leader, when the log cannot reach it either."""
GRACE = 10.0


class Liveness:
    """`period` in seconds."""

    def __init__(self, period: float) -> None:
        self.period = period
        self._heard: dict[str, float] = {}
        self._awaited: dict[str, float] = {}
        self._checked: float | None = None

    @property
    def patience(self) -> float:
        return self.period * MISSED

    def heard(self, node_id: str, now: float) -> None:
        self._heard[node_id] = now
        self._awaited.pop(node_id, None)

    def forget(self, node_id: str) -> None:
        self._heard.pop(node_id, None)
        self._awaited.pop(node_id, None)

    def silent(self, nodes: Iterable[str], now: float, unreachable: Collection[str] = ()) -> list[str]:
        """Which of the nodes (those believed to be up) are to be called down. Call it about twice a period.

        `unreachable`: managers that the log cannot reach.
        """
        held_up = self._checked is not None and now - self._checked > 2 * self.period
        self._checked = now
        if held_up:
            self._heard.clear()
            self._awaited.clear()
        return [node_id for node_id in nodes if self._is_silent(node_id, now, node_id in unreachable)]

    def _is_silent(self, node_id: str, now: float, unreachable: bool) -> bool:
        heard = self._heard.get(node_id)
        if heard is not None:
            return now >= heard + self.patience
        since = self._awaited.setdefault(node_id, now)
        return now >= since + (self.period * MISSED_BY_ALL if unreachable else self.patience + GRACE)
