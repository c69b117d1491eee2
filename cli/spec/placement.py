"""Where replicas may run, and how many there are.

Pure: parts of a specification and flags to new parts. What does not fit raises ValueError.
"""

from typing import Any

from msgspec.structs import replace

from essaim.cli.flags import Flags
from essaim.cluster.service import Empty, Placement, PlacementPreference, Replicated, ReplicatedJob, ServiceMode

from .flagset import MODES
from .lists import added, plain, removed, touched


def change_placement(current: Placement | None, flags: Flags) -> Placement | None:
    changes: dict[str, Any] = {}
    base = current or Placement()
    if touched(flags, "constraint"):
        if "constraint" in flags.flags:
            changes["constraints"] = added(flags, "constraint")
        else:
            changes["constraints"] = plain(base.constraints, added(flags, "constraint"), removed(flags, "constraint"))
    if touched(flags, "placement-pref"):
        changes["preferences"] = preferences(base.preferences, flags)
    if flags.given("replicas-max-per-node"):
        changes["max_replicas"] = flags.number("replicas-max-per-node") or None
    return replace(base, **changes) if changes else current


def preferences(current: list[PlacementPreference] | None, flags: Flags) -> list[PlacementPreference] | None:
    """Their order counts: what is added comes last."""
    gone = flags.items("placement-pref-rm") if "placement-pref-rm" in flags.flags else []
    kept = [item for item in current or [] if item not in gone]
    return [*kept, *(item for item in added(flags, "placement-pref") if item not in kept)] or None


def new_mode(flags: Flags) -> ServiceMode:
    """The mode of a new service."""
    name = flags.text("mode")
    if name not in MODES:
        raise ValueError(f"Unknown mode: {name}, only replicated and global supported")
    is_replicated = name.startswith("replicated")
    if not is_replicated and flags.given("replicas"):
        raise ValueError("replicas can only be used with replicated or replicated-job mode")
    if not is_replicated and flags.given("replicas-max-per-node"):
        raise ValueError("replicas-max-per-node can only be used with replicated or replicated-job mode")
    if name != "replicated-job" and flags.given("max-concurrent"):
        raise ValueError("max-concurrent can only be used with replicated-job mode")
    count = flags.number("replicas") if flags.given("replicas") else None
    match name:
        case "global":
            return ServiceMode(global_=Empty())
        case "global-job":
            return ServiceMode(global_job=Empty())
        case "replicated-job":
            total = 1 if count is None else count
            concurrent = flags.number("max-concurrent") if flags.given("max-concurrent") else total
            return ServiceMode(replicated_job=ReplicatedJob(max_concurrent=concurrent, total_completions=total))
        case _:
            return ServiceMode(replicated=Replicated(replicas=count))


def change_mode(mode: ServiceMode | None, flags: Flags) -> ServiceMode | None:
    """`--replicas` and `--max-concurrent` of an existing service."""
    current = mode or ServiceMode(replicated=Replicated(replicas=1))
    if flags.given("max-concurrent"):
        if current.replicated_job is None:
            raise ValueError("max-concurrent can only be used with replicated-job mode")
        job = replace(current.replicated_job, max_concurrent=flags.number("max-concurrent"))
        current = replace(current, replicated_job=job)
    return scaled(current, flags.number("replicas")) if flags.given("replicas") else current if mode else mode


def scaled(mode: ServiceMode, replicas: int) -> ServiceMode:
    if mode.replicated is not None:
        return ServiceMode(replicated=Replicated(replicas=replicas))
    if mode.replicated_job is not None:
        return ServiceMode(replicated_job=replace(mode.replicated_job, total_completions=replicas))
    raise ValueError("replicas can only be used with replicated or replicated-job mode")
