"""`essaim lb top`: the endpoints and what they do, redrawn each second."""

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from essaim.cli.app import App
from essaim.cli.flags import Flags
from essaim.cli.output.lbtop import COLUMNS, top_rows
from essaim.cli.output.tabs import align
from essaim.cli.values.durations import SECOND

from .lb import STATUS_PATH


async def top(app: App, args: list[str], flags: Flags) -> None:
    """Redraws until Ctrl-C on a terminal; elsewhere prints one look (a second long) and ends."""
    client = await app.client()
    only = args[0] if args else ""
    interval = flags.number("interval") / SECOND
    last, looked = await client.get(STATUS_PATH), app.clock()

    async def look() -> list[tuple[str, ...]]:
        nonlocal last, looked
        await app.sleep(interval)
        found, now = await client.get(STATUS_PATH), app.clock()
        rows = top_rows(last, found, now - looked, only)
        last, looked = found, now
        return rows

    if not app.out.isatty():
        app.out.write(align("\n".join("\t".join(row) for row in [COLUMNS, *await look()])) + "\n")
        return
    with Live(console=Console(file=app.out), auto_refresh=False, screen=True) as live:
        while True:
            live.update(table_of(await look()), refresh=True)


def table_of(rows: list[tuple[str, ...]]) -> Table:
    table = Table(*COLUMNS, box=None, pad_edge=False)
    for row in rows:
        colour = {"up": "green", "draining": "yellow"}.get(row[4], "red")
        table.add_row(*(Text(cell, style=colour if place == 4 else "") for place, cell in enumerate(row)))
    return table
