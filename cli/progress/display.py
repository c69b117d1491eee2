"""How progress looks: a live bar for each service on a terminal, plain lines elsewhere.

On a terminal rich redraws in place. Elsewhere a line is printed when it differs from the last one with its name.
"""

from types import TracebackType
from typing import Protocol, Self, TextIO

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

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


class Bars:
    """A bar for each service: tasks that run, and what the others are doing."""

    def __init__(self, out: TextIO) -> None:
        self._progress = Progress(
            TextColumn("[bold]{task.description}"),
            BarColumn(bar_width=30),
            TextColumn("{task.fields[count]}"),
            TimeElapsedColumn(),
            TextColumn("{task.fields[state]}"),
            console=Console(file=out),
        )
        self._rows: dict[str, TaskID] = {}

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def show(self, name: str, report: Report) -> None:
        count = report.count
        if name not in self._rows:
            self._rows[name] = self._progress.add_task(escape(name), total=None, count="", state="")
        words = f"{count.done}/{count.total}" if count.total >= 0 else "waiting"
        self._progress.update(
            self._rows[name],
            total=max(count.total, 0) or None,
            completed=count.done,
            count=words,
            state=escape(doing(report)),
        )
        if report.is_finished:
            self._progress.update(self._rows[name], total=1, completed=1)
            self._progress.stop_task(self._rows[name])


def doing(report: Report) -> str:
    """What to say beside the bar."""
    others = ", ".join(f"{number} {state}" for state, number in report.count.others.items())
    news = report.lines[-1][1] if report.lines else ""
    parts = [part for part in (report.count.problem, others) if part] or [news]
    return "; ".join(parts)


def display_for(out: TextIO, *, quiet: bool, named: bool = False) -> Display:
    """The display that fits the output."""
    if quiet:
        return Silent()
    return Bars(out) if out.isatty() else Lines(out, named=named)
