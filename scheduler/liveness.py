"""Who is alive: a node that has been silent for MISSED heartbeat periods is down.

A new leader has heard nobody yet and grants every node that time and GRACE more. So does one that was itself held up
(a stalled process, a suspended machine): silence that it could not have heard through proves nothing.

Pure: times in seconds of a monotonic clock come in.
"""

from collections.abc import Iterable

MISSED = 3
GRACE = 1.0


class Liveness:
    """`period` in seconds."""

    def __init__(self, period: float) -> None:
        self.period = period
        self._deadlines: dict[str, float] = {}
        self._checked: float | None = None

    @property
    def patience(self) -> float:
        return self.period * MISSED

    def heard(self, node_id: str, now: float) -> None:
        self._deadlines[node_id] = max(now + self.patience, self._deadlines.get(node_id, 0))

    def forget(self, node_id: str) -> None:
        self._deadlines.pop(node_id, None)

    def silent(self, nodes: Iterable[str], now: float) -> list[str]:
        """Which of the nodes (those believed to be up) are to be called down. Call it about twice a period."""
        late = 0.0 if self._checked is None else max(0.0, now - self._checked - self.period)
        self._checked = now
        if late:
            for node_id in self._deadlines:
                self._deadlines[node_id] += late + GRACE
        silent: list[str] = []
        for node_id in nodes:
            deadline = self._deadlines.setdefault(node_id, now + self.patience + GRACE)
            if deadline <= now:
                silent.append(node_id)
        return silent
