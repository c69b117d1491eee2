"""Stop signals and health check timings as numbers, with Docker's defaults.

Pure: no I/O, no clock.
"""

import signal
from dataclasses import dataclass

from essaim.cluster.container import DEFAULT_STOP_GRACE_PERIOD, NANOSECONDS, ContainerSpec, HealthConfig
from essaim.cluster.numerals import whole


@dataclass(frozen=True, slots=True)
class HealthPlan:
    """A HEALTHCHECK in force. Times in seconds."""

    test: list[str]
    interval: float
    timeout: float
    retries: int
    start_period: float
    start_interval: float

    @property
    def argv(self) -> list[str]:
        """What to run: `CMD-SHELL` goes through the shell."""
        if self.test[0] == "CMD-SHELL":
            return ["/bin/sh", "-c", *self.test[1:]]
        return self.test[1:]


def stop_grace(spec: ContainerSpec) -> float:
    """Seconds between the stop signal and SIGKILL."""
    period = spec.stop_grace_period
    return (DEFAULT_STOP_GRACE_PERIOD if period is None else period) / NANOSECONDS


def stop_signal(spec: ContainerSpec) -> int:
    """The number of `SIGINT`, `INT` or `2`. Raises ValueError."""
    given = spec.stop_signal or "SIGTERM"
    number = whole(given, 3)
    if number is not None:
        return int(signal.Signals(number))
    name = given.upper()
    try:
        return int(signal.Signals[name if name.startswith("SIG") else f"SIG{name}"])
    except KeyError:
        raise ValueError(f"unknown stop signal {given}; give a name such as SIGINT, or a number") from None


def health_plan(config: HealthConfig | None) -> HealthPlan | None:
    """None when there is nothing to run (no test, or NONE). Zero and absent mean Docker's default."""
    if config is None or not config.test or config.test[0] == "NONE" or len(config.test) < 2:
        return None
    test = config.test if config.test[0] in ("CMD", "CMD-SHELL") else ["CMD", *config.test]
    return HealthPlan(
        test=test,
        interval=(config.interval or 30 * NANOSECONDS) / NANOSECONDS,
        timeout=(config.timeout or 30 * NANOSECONDS) / NANOSECONDS,
        retries=config.retries or 3,
        start_period=(config.start_period or 0) / NANOSECONDS,
        start_interval=(config.start_interval or 5 * NANOSECONDS) / NANOSECONDS,
    )
