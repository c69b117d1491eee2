"""Traefik's circuit breaker: when a service does badly it is left alone for a while, then tried carefully.

States, as in Traefik: closed (requests go through; after each, at most every `checkPeriod`, the expression is asked),
open (for `fallbackDuration` every request is answered with `responseCode`), recovering (over `recoveryDuration` a
share of the requests that grows from none to all goes through; if the expression holds again it is open again). The
past is forgotten when the breaker opens and when it closes.

- Each worker has a breaker of its own, for each router that uses it: half the traffic shows the same ratios.
- The past is ten buckets of a second: bounded memory, and no request is looked at twice. Latencies are counted in
  buckets that grow by an eighth; a quantile is exact to 12.5 %.
- Which requests go through during recovery is counted, not drawn: as many as the share says, no streaks by chance.

Pure: outcomes and times in, verdicts out.
"""

from bisect import bisect_left
from collections import Counter
from itertools import accumulate, repeat

from .breaker_expression import Condition

SECONDS = 10
NETWORK_ERRORS = (502, 504)
"""What the gateway answers when a replica cannot be reached or does not answer; Traefik counts the same."""
BOUNDS = list(accumulate(repeat(1.125, 140), lambda bound, factor: bound * factor, initial=0.1))
"""Upper bounds of the latency buckets, milliseconds: 0.1 ms to 24 min."""


class Window:
    """What happened in the last ten seconds."""

    def __init__(self) -> None:
        self._codes: dict[int, Counter[int]] = {}
        self._latencies: dict[int, Counter[int]] = {}

    def add(self, status: int, seconds: float, now: float) -> None:
        second = int(now)
        if second not in self._codes:
            for old in [one for one in self._codes if one <= second - SECONDS]:
                del self._codes[old], self._latencies[old]
            self._codes[second], self._latencies[second] = Counter(), Counter()
        self._codes[second][status] += 1
        self._latencies[second][min(bisect_left(BOUNDS, seconds * 1000), len(BOUNDS) - 1)] += 1

    def clear(self) -> None:
        self._codes.clear()
        self._latencies.clear()

    def _count(self, low: int, high: int) -> int:
        return sum(n for codes in self._codes.values() for code, n in codes.items() if low <= code < high)

    def network_error_ratio(self) -> float:
        total = self._count(0, 1000)
        errors = sum(codes[status] for codes in self._codes.values() for status in NETWORK_ERRORS)
        return errors / total if total else 0.0

    def response_code_ratio(self, low: int, high: int, by_low: int, by_high: int) -> float:
        """Answers with a status from `low` up to but not `high`, as a share of those of the other range."""
        base = self._count(by_low, by_high)
        return self._count(low, high) / base if base else 0.0

    def latency_at_quantile_ms(self, quantile: float) -> float:
        total: Counter[int] = Counter()
        for latencies in self._latencies.values():
            total.update(latencies)
        wanted = total.total() * quantile / 100
        seen = 0
        for bucket in sorted(total):
            seen += total[bucket]
            if seen >= wanted:
                return BOUNDS[bucket]
        return 0.0


class Breaker:
    """Times in seconds; `now` never goes back."""

    def __init__(self, condition: Condition, check_period: float, fallback: float, recovery: float) -> None:
        self._condition = condition
        self._check_period, self._fallback, self._recovery = check_period, fallback, recovery
        self._window = Window()
        self._next_check = 0.0
        # When the open state ends, and when recovery does; None: closed.
        self._open_until: float | None = None
        self._asked = self._admitted = 0

    def admits(self, now: float) -> bool:
        """Whether a request may go through."""
        if self._open_until is None:
            return True
        if now < self._open_until:
            return False
        if now >= self._open_until + self._recovery:
            self._open_until = None
            self._window.clear()
            return True
        share = (now - self._open_until) / self._recovery
        self._asked += 1
        if self._admitted + 1 > share * self._asked:
            return False
        self._admitted += 1
        return True

    def saw(self, status: int, seconds: float, now: float) -> None:
        """A request that went through was answered with `status` after so many seconds."""
        if self._open_until is not None and now < self._open_until:
            # Admitted before it opened: says nothing about the service's recovery.
            return
        self._window.add(status, seconds, now)
        if now < self._next_check:
            return
        self._next_check = now + self._check_period
        if self._condition(self._window):
            self._open_until = now + self._fallback
            self._asked = self._admitted = 0
            self._window.clear()
