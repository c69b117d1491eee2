"""How progress looks: a live bar for each service on a terminal, plain lines elsewhere.

On a terminal the bars of `bars.py` are redrawn in place. Elsewhere a line is printed when it differs
from the last one with its name.
"""

from types import TracebackType
from typing import Protocol, Self, TextIO

from .tracker import Report


class Display(Protocol):
    """Shows the reports on services, by name."""

    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...
    def show(self, name: str, report: Report) -> None:
        """The newest report on a service."""


class Silent:
    """`--quiet`."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None

    def show(self, name: str, report: Report) -> None:
        return None


class Lines(Silent):
    """Plain lines, as docker prints them; with several services each line begins with the service's name."""

    def __init__(self, out: TextIO, *, named: bool = False) -> None:
        self._out = out
        self._named = named
        self._last: dict[tuple[str, str], str] = {}

    def show(self, name: str, report: Report) -> None:
        self._line(name, "overall progress", str(report.count))
        if report.count.problem:
            self._line(name, "problem", report.count.problem)
        for key, text in report.lines:
            self._line(name, key, text)

    def _line(self, name: str, key: str, text: str) -> None:
        if self._last.get((name, key)) == text:
            return
        self._last[name, key] = text
        start = f"{name}: " if self._named else ""
        self._out.write(f"{start}{key}: {text}\n" if key else f"{start}{text}\n")
        self._out.flush()


def display_for(out: TextIO, *, quiet: bool, named: bool = False) -> Display:
    """The display that fits the output."""
    if quiet:
        return Silent()
    if not out.isatty():
        return Lines(out, named=named)
    from .bars import Bars  # rich takes 50 ms to import, and most commands draw nothing

    return Bars(out)
