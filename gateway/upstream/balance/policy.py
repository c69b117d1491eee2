"""What all balancing policies have in common, and which there are.

Pure: no I/O; counters and chance are handed in.
"""

from collections.abc import Sequence
from typing import Protocol, TypeVar


class Loaded(Protocol):
    """What the policies read of an endpoint.

    `open`: requests in progress; `load`: moving average of its response times, seconds; `weight`: at least 1.
    """

    key: str
    open: int
    load: float
    weight: int


T = TypeVar("T", bound=Loaded)


class Policy(Protocol[T]):
    def update(self, ready: Sequence[T]) -> None:
        """The endpoints to choose from, in an order that all workers share."""

    def pick(self, key: int) -> T:
        """One of them; `key` is the request's hash, for policies that use one. There is at least one."""
