"""Which format the replicated state may have, so that managers of two releases hold the same store.

`FORMAT` is the newest format of change sets and objects that this version understands. A release raises it when it adds
a kind of change or a table, or changes what a change does. Of a field that is merely added to an object older versions
need no understanding: they keep it as it is (`kept.py`).

- Every manager says its format in its node's description; the cluster object holds the one that is agreed: the lowest
  of all managers, raised by the leader when the last of them has it, and never lowered.
- What needs a newer format than the agreed one is not proposed.
- A manager that is too old for the agreed format is not let in. One that meets what it cannot apply all the same takes
  no part any more, and says so.

Pure: numbers.
"""

from collections.abc import Iterable

from essaim.raft.interface import CannotApply

FORMAT = 1
FIRST = 1
"""That of versions which say none."""


def newer(what: str, needed: object) -> CannotApply:
    return CannotApply(
        f"{what} {needed}, which this version of essaim does not understand (it knows formats up to {FORMAT}): a newer "
        "version wrote it. Upgrade essaim on this node and start it again; the state on its disk is in order"
    )


def require(found: int, what: str) -> None:
    """Raises CannotApply."""
    if found > FORMAT:
        raise newer(what, f"is of format {found}")


def agreed(managers: Iterable[int | None], now: int | None) -> int:
    """The format that the cluster can have, by what its managers understand and by what it has."""
    lowest = min((known or FIRST for known in managers), default=FIRST)
    return max(lowest, now or FIRST)
