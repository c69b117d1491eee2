"""Weights of endpoints: shares of the service's versions (canary), and the ramp of new endpoints (slow start).

Pure: numbers in, numbers out.
"""

from collections.abc import Sequence
from typing import Protocol, TypeVar

SCALE = 100
RAMP_FLOOR = 0.1
"""A new endpoint begins with this share of its weight."""


class Aged(Protocol):
    """`version`: of the service's spec; `since`: when it appeared, on the clock that `now` is read from."""

    version: int
    since: float


E = TypeVar("E", bound=Aged)


def by_version(endpoints: Sequence[E], shares: dict[str, int]) -> list[list[E]]:
    """The endpoints of each version that has a share; of all versions if none has."""
    groups: dict[str, list[E]] = {}
    for endpoint, name in zip(endpoints, _names(endpoints, shares) if endpoints else (), strict=True):
        groups.setdefault(name, []).append(endpoint)
    return [group for name, group in groups.items() if shares.get(name)] or list(groups.values())


def weigh(endpoints: Sequence[Aged], shares: dict[str, int], slow_start: float, now: float) -> tuple[list[int], bool]:
    """A weight (at least 0) for each endpoint, and whether any is still on its ramp.

    `shares`: percent by version: `latest` (the newest one here), `previous` (all older ones together), or a version's
    number. Versions that have no share get none, unless nobody would get any.
    """
    weights = [float(SCALE)] * len(endpoints)
    if shares and endpoints:
        names = _names(endpoints, shares)
        sizes = {name: names.count(name) for name in names}
        weights = [SCALE * shares.get(name, 0) / sizes[name] for name in names]
        if not any(weights):
            weights = [float(SCALE)] * len(endpoints)
    ramping = False
    if slow_start > 0:
        for number, endpoint in enumerate(endpoints):
            age = now - endpoint.since
            if age < slow_start:
                ramping = True
                weights[number] *= max(RAMP_FLOOR, age / slow_start)
    return [ceil_positive(weight) for weight in weights], ramping


def ceil_positive(weight: float) -> int:
    """Rounded, but never to nothing if it was something."""
    return max(1, round(weight)) if weight > 0 else 0


def _names(endpoints: Sequence[Aged], shares: dict[str, int]) -> list[str]:
    newest = max(endpoint.version for endpoint in endpoints)
    return [
        str(endpoint.version)
        if str(endpoint.version) in shares
        else ("latest" if endpoint.version == newest else "previous")
        for endpoint in endpoints
    ]
