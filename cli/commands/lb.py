"""`essaim lb`: the live load balancer, and configurations for external ones."""

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from essaim.api.client import path_of
from essaim.cli import completion
from essaim.cli.app import App, CliError
from essaim.cli.command import ONE, Arity, Command, Group
from essaim.cli.flags import POSITIVE, STRING, Flag, Flags
from essaim.cli.output.lbstatus import STATUS, status_rows
from essaim.cli.output.lbtop import COLUMNS, top_rows
from essaim.cli.output.tabs import align
from essaim.cli.values.durations import SECOND

STATUS_PATH = "/essaim/v1/lb/status"
KINDS = ("haproxy", "nginx", "traefik", "traefik-static")


async def render(app: App, args: list[str], flags: Flags) -> None:
    kind = args[0]
    if kind not in KINDS:
        raise CliError(f'unknown kind of load balancer "{kind}": expected one of {", ".join(KINDS)}')
    query = {"bind": bind} if (bind := flags.text("bind")) else {}
    text = (await (await app.client()).get_raw(path_of("essaim", "v1", "lb", "config", kind), query)).decode()
    app.out.write(text if text.endswith("\n") else text + "\n")


async def status(app: App, args: list[str], flags: Flags) -> None:
    found = await (await app.client()).get(STATUS_PATH)
    rows = status_rows(found, args[0] if args else "")
    app.out.write(STATUS.render(rows, flags.text("format")))


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


GROUP = Group(
    "lb",
    summary="Look at the load balancer, and configure external ones",
    commands=[
        Command(
            "render",
            render,
            summary="Print a configuration that makes HAProxy, NGINX or Traefik balance over the nodes",
            usage="(haproxy|nginx|traefik|traefik-static)",
            arity=ONE,
            flags=[Flag("bind", STRING, "The one address that it is to listen at; all by default")],
            complete=completion.words(*KINDS),
        ),
        Command(
            "top",
            top,
            summary="Watch the endpoints: connections, requests and failures a second",
            usage="[SERVICE]",
            arity=Arity(0, 1),
            flags=[Flag("interval", POSITIVE, "Time between two looks", default=SECOND, shown_default="1s")],
            complete=completion.services,
        ),
        Command(
            "status",
            status,
            summary="Show listeners and endpoints, healthy or not and why",
            usage="[SERVICE]",
            arity=Arity(0, 1),
            flags=[Flag("format", STRING, "Lay out each row: 'table', 'table TEMPLATE', 'json' or a Go template")],
            complete=completion.services,
        ),
    ],
)
