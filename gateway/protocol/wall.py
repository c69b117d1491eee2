"""A wall around each service: what is wrong with one is a word about it, never the end of a decision over all.

What labels can be expected to hold is checked where it is read, and becomes a warning. This is for what nobody
expected: a fault of the gateway that one service's labels brought to light. That service is marked with it and not
served, or served without the part; all others are served as if it were not there.

Pure: work in, its outcome or what is wrong out.
"""

from collections.abc import Callable
from typing import TypeVar

from .numbers import shown

T = TypeVar("T")
LONGEST = 1000
"""Characters of a warning."""
MOST_WARNINGS = 100


def walled(work: Callable[[], T], otherwise: Callable[[str], T]) -> T:
    """What `work` gives, or what `otherwise` makes of the reason why it cannot."""
    try:
        return work()
    except Exception as error:
        return otherwise(fault_of(error))


def fault_of(error: Exception) -> str:
    """In one line, for a user."""
    said = shown(str(error))[1:-1]
    if isinstance(error, RecursionError):
        said = "it is nested too deep"
    return f"the gateway cannot read this service ({type(error).__name__}: {said}); please report it with the labels"


def presentable(warnings: list[str]) -> list[str]:
    """Warnings fit to be shown and sent, whatever the labels that they repeat hold: so many, printable, each in one
    line."""
    found = [_line(one) for one in warnings[:MOST_WARNINGS]]
    left = len(warnings) - len(found)
    return [*found, f"and {left} warnings more"] if left else found


def _line(text: str) -> str:
    if len(text) > LONGEST:
        text = text[:LONGEST] + "..."
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in text)
