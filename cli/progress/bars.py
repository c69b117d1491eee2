"""Progress on a terminal: a bar for each service, which rich redraws in place."""

from types import TracebackType
from typing import Self, TextIO

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from .tracker import Report


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
