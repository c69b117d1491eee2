"""How replicas are restarted, updated and rolled back.

When any flag of a policy is given the policy is sent whole, with Swarm's defaults for the rest.

Pure: a policy and flags to a policy. What does not fit raises ValueError.
"""

from typing import Any

from msgspec.structs import replace

from essaim.cli.flags import Flags
from essaim.cluster.durations import SECOND
from essaim.cluster.service import RestartPolicy, UpdateConfig

from .flagset import CONDITIONS, FAILURE, ORDERS

RESTART_NUMBERS = {
    "restart-delay": "delay",
    "restart-max-attempts": "max_attempts",
    "restart-window": "window",
}
ROLLOUT_NUMBERS = {"parallelism": "parallelism", "delay": "delay", "monitor": "monitor"}


def chosen(flags: Flags, flag: str, choices: tuple[str, ...]) -> str:
    value = flags.text(flag)
    if value not in choices:
        raise ValueError(f'invalid --{flag} "{value}": must be one of {", ".join(choices)}')
    return value


def change_restart(current: RestartPolicy | None, flags: Flags) -> RestartPolicy | None:
    if not flags.given("restart-condition", *RESTART_NUMBERS):
        return current
    base = current or RestartPolicy(condition="any", delay=5 * SECOND, max_attempts=0)
    changes: dict[str, Any] = {key: flags.number(flag) for flag, key in RESTART_NUMBERS.items() if flags.given(flag)}
    if flags.given("restart-condition"):
        changes["condition"] = chosen(flags, "restart-condition", CONDITIONS)
    return replace(base, **changes)


def change_rollout(current: UpdateConfig | None, flags: Flags, kind: str) -> UpdateConfig | None:
    """`kind` is update or rollback."""
    names = [f"{kind}-{name}" for name in (*ROLLOUT_NUMBERS, "failure-action", "max-failure-ratio", "order")]
    if not flags.given(*names):
        return current
    base = current or UpdateConfig(
        parallelism=1, failure_action="pause", monitor=5 * SECOND, max_failure_ratio=0.0, order="stop-first"
    )
    changes: dict[str, Any] = {
        key: flags.number(f"{kind}-{name}") for name, key in ROLLOUT_NUMBERS.items() if flags.given(f"{kind}-{name}")
    }
    if flags.given(f"{kind}-failure-action"):
        actions = FAILURE if kind == "update" else FAILURE[:2]
        changes["failure_action"] = chosen(flags, f"{kind}-failure-action", actions)
    if flags.given(f"{kind}-order"):
        changes["order"] = chosen(flags, f"{kind}-order", ORDERS)
    if flags.given(f"{kind}-max-failure-ratio"):
        changes["max_failure_ratio"] = flags.ratio(f"{kind}-max-failure-ratio")
    return replace(base, **changes)
