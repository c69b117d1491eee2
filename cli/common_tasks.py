"""The list that every `ps` prints.

Pure: tasks and flags to text.
"""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from essaim.cli.output.listing import is_table
from essaim.cli.output.tasks import TASKS, Names, task_rows

from .flags import Flags


def task_list(tasks: Iterable[Mapping[str, Any]], names: Names, flags: Flags, now: datetime) -> str:
    """Tasks laid out by `--format`, `--quiet` and `--no-trunc`."""
    quiet, layout = flags.on("quiet"), flags.text("format")
    truncate = not flags.on("no-trunc") and not quiet
    rows = task_rows(tasks, names, now, truncate=truncate, indent=is_table(layout))
    return TASKS.render(rows, layout, quiet="ID" if quiet else "")
