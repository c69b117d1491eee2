"""The health check of a service.

Pure: a HealthConfig and flags to a HealthConfig. What does not fit raises ValueError.
"""

from typing import Any

from msgspec.structs import replace

from essaim.cli.flags import Flags
from essaim.cluster.container import HealthConfig

NUMBERS = {
    "health-interval": "interval",
    "health-timeout": "timeout",
    "health-start-period": "start_period",
    "health-start-interval": "start_interval",
    "health-retries": "retries",
}


def change_health(current: HealthConfig | None, flags: Flags) -> HealthConfig | None:
    """`--no-healthcheck` excludes the others; setting one of them undoes an earlier `--no-healthcheck`."""
    given = [name for name in (*NUMBERS, "health-cmd") if flags.given(name)]
    if flags.given("no-healthcheck") and flags.on("no-healthcheck"):
        if given:
            raise ValueError("--no-healthcheck conflicts with --health-* options")
        return HealthConfig(test=["NONE"])
    if not given:
        return current
    if flags.given("health-retries") and flags.number("health-retries") < 0:
        raise ValueError("--health-retries cannot be negative")
    base = current or HealthConfig()
    if base.test == ["NONE"]:
        base = replace(base, test=None)
    changes: dict[str, Any] = {
        attribute: flags.number(flag) for flag, attribute in NUMBERS.items() if flags.given(flag)
    }
    if flags.given("health-cmd"):
        command = flags.text("health-cmd")
        changes["test"] = ["CMD-SHELL", command] if command else None
    return replace(base, **changes)
