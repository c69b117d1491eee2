"""`essaim lb top`: the endpoints and what they do, redrawn each second."""

import asyncio
from collections.abc import Awaitable, Callable

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from essaim.cli.app import App, CliError
from essaim.cli.flags import Flags
from essaim.cli.keys import pressed
from essaim.cli.output.lbstatus import STATUS_PATH, status_rows, unknown
from essaim.cli.output.lbtop import COLUMNS, fitting, top_rows
from essaim.cli.output.tabs import align
from essaim.cluster.durations import SECOND

Look = Callable[[], Awaitable[list[tuple[str, ...]]]]
VERDICT = COLUMNS.index("VERDICT")


async def top(app: App, args: list[str], flags: Flags) -> None:
    """Redraws until q or Ctrl-C on a terminal; elsewhere prints one look (a second long) and ends."""
    client = await app.client()
    only = args[0] if args else ""
    interval = flags.number("interval") / SECOND
    last, looked = await client.get(STATUS_PATH), app.clock()
    if only and not status_rows(last, only):
        raise CliError(unknown(only))

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
    console = Console(file=app.out)
    with pressed(app.stdin, "q") as quitting, Live(console=console, auto_refresh=False, screen=True) as live:
        await draw(live, look, quitting)


async def draw(live: Live, look: Look, quitting: asyncio.Event) -> None:
    """Until the event is set."""
    ending = asyncio.create_task(quitting.wait())
    try:
        while not ending.done():
            looking = asyncio.ensure_future(look())
            try:
                await asyncio.wait((looking, ending), return_when=asyncio.FIRST_COMPLETED)
            finally:
                if not looking.done():
                    looking.cancel()
            if looking.done() and not looking.cancelled():
                live.update(table_of(looking.result(), live.console.width), refresh=True)
    finally:
        ending.cancel()


def table_of(rows: list[tuple[str, ...]], width: int) -> Table:
    kept = fitting(rows, width)
    table = Table(box=None, pad_edge=False)
    for place in kept:
        table.add_column(COLUMNS[place], overflow="fold")
    for row in rows:
        colour = {"up": "green", "draining": "yellow"}.get(row[VERDICT], "red")
        table.add_row(*(Text(row[place], style=colour if place == VERDICT else "") for place in kept))
    return table
