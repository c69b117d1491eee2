"""`essaim lb`: the live load balancer, and configurations for external ones."""

import shutil

from essaim.api.client import path_of
from essaim.cli import completion
from essaim.cli.app import App, CliError
from essaim.cli.command import ONE, Arity, Command, Group, Later
from essaim.cli.common import FORMAT, NO_TRUNC
from essaim.cli.flags import POSITIVE, STRING, Flag, Flags
from essaim.cli.output.lbstatus import STATUS, STATUS_PATH, status_rows, status_text, unknown
from essaim.cluster.durations import SECOND

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
    if args and not rows:
        raise CliError(unknown(args[0]))
    form = flags.text("format")
    if form:
        app.out.write(STATUS.render(rows, form))
    else:
        width = shutil.get_terminal_size().columns if app.out.isatty() and not flags.on("no-trunc") else None
        app.out.write(status_text(rows, width))


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
            Later("lb_top", "top"),
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
            flags=[FORMAT, NO_TRUNC],
            complete=completion.services,
        ),
    ],
)
