"""The verdict of a HEALTHCHECK from its results, by Docker's rules.

- Starting until the first success, or until `retries` failures in a row after the start period.
- Within the start period failures do not count, unless a success came before; checks are then `start_interval` apart.

Pure: no I/O, no clock; the time comes in as seconds of any monotonic clock.
"""

from .durations import HealthPlan
from .interface import Health


class HealthJudge:
    def __init__(self, plan: HealthPlan, started: float) -> None:
        self._plan = plan
        self._started = started
        self._failures = 0
        self.verdict = Health.STARTING

    def pause(self, now: float) -> float:
        """Seconds until the next check is due."""
        starting = self.verdict is Health.STARTING and now - self._started < self._plan.start_period
        return min(self._plan.start_interval, self._plan.interval) if starting else self._plan.interval

    def take(self, succeeded: bool, now: float) -> Health:
        """One more result; the verdict."""
        if succeeded:
            self._failures = 0
            self.verdict = Health.HEALTHY
        elif self.verdict is not Health.STARTING or now - self._started >= self._plan.start_period:
            self._failures += 1
            if self._failures >= self._plan.retries:
                self.verdict = Health.UNHEALTHY
        return self.verdict
