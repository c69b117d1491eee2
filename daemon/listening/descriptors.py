"""How many descriptors this process may have: as many as it is allowed, since every connection takes one.

Services get 1,024 from systemd by default (the soft limit), which programs raise themselves if they can use more. Tasks
of the process runtime get what the daemon was started with. A hard limit below `ENOUGH` is raised where that is
permitted; one that is higher is the operator's word (`LimitNOFILE=`) and stays.
"""

import contextlib
import resource
from collections.abc import Callable

ENOUGH = 65_536
Bounds = tuple[int, int]
"""Soft and hard."""


def wanted(bounds: Bounds) -> list[Bounds]:
    """What to ask the kernel for, best first; it refuses what is not permitted. Empty when there is enough."""
    soft, hard = bounds
    unlimited = resource.RLIM_INFINITY
    steps = []
    if hard != unlimited and hard < ENOUGH:
        steps.append((ENOUGH, ENOUGH))
    if hard != unlimited and soft < hard:
        steps.append((hard, hard))
    if hard == unlimited and soft != unlimited and soft < ENOUGH:
        steps.append((ENOUGH, hard))
    return steps


def raise_limit(
    get: Callable[[int], Bounds] = resource.getrlimit, put: Callable[[int, Bounds], None] = resource.setrlimit
) -> tuple[Bounds, Bounds]:
    """The limits before, and now."""
    before = get(resource.RLIMIT_NOFILE)
    for bounds in wanted(before):
        with contextlib.suppress(OSError, ValueError):
            put(resource.RLIMIT_NOFILE, bounds)
            break
    return before, get(resource.RLIMIT_NOFILE)
