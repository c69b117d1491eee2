"""What can be wrong with a stack file: a list of problems, each with its place, so that one run names them all."""

import difflib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple


class Place(NamedTuple):
    """A position in a source; lines and columns count from 1. Line 0: the source as a whole."""

    file: str
    line: int = 0
    column: int = 0

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}" if self.line else self.file


@dataclass(frozen=True, slots=True)
class Problem:
    """`path` is the dotted key path (`services.web.ports[0]`), empty for the whole file. `allowed` is what may stand
    there, where that is a closed list; `suggestion` its nearest member."""

    place: Place
    path: str
    message: str
    allowed: tuple[str, ...] = ()
    suggestion: str | None = None

    def __str__(self) -> str:
        text = f"{self.place}: {self.path}: {self.message}" if self.path else f"{self.place}: {self.message}"
        if self.suggestion:
            return f'{text}; did you mean "{self.suggestion}"?'
        if self.allowed:
            return f"{text}; allowed: {', '.join(self.allowed)}"
        return text


class StackError(Exception):
    """The file cannot be used. `problems` is never empty and stands in the order of the sources."""

    def __init__(self, problems: list[Problem]) -> None:
        self.problems = problems
        super().__init__("\n".join(str(problem) for problem in problems))


type_name = {
    dict: "a mapping",
    list: "a list",
    str: "a string",
    int: "an integer",
    float: "a number",
    bool: "a boolean",
    type(None): "nothing (null)",
}
"""How a value's type is called in messages."""


def closest(word: str, allowed: Iterable[str]) -> str | None:
    """The allowed word that `word` most likely misspells."""
    allowed = list(allowed)
    matches = difflib.get_close_matches(word.lower(), allowed, n=1, cutoff=0.7)
    # Two letters of a short word swapped are far apart for difflib.
    matches += [other for other in allowed if sorted(other) == sorted(word.lower())]
    return matches[0] if matches else None
