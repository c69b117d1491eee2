"""`essaim version`, `info` and `events`."""

import platform

from essaim.api.client import Unreachable
from essaim.cli.app import App, CliError
from essaim.cli.command import NONE, Command
from essaim.cli.common import FILTER, query
from essaim.cli.flags import STRING, Flag, Flags
from essaim.cli.inspecting import FORMAT, print_objects
from essaim.cli.output.events import event_line
from essaim.cli.output.info import info_text
from essaim.cli.template.evaluate import Template
from essaim.cli.template.json_text import dumps
from essaim.cli.values.durations import since_parameter
from essaim.cli.version import VERSION


async def version(app: App, args: list[str], flags: Flags) -> None:
    """The client's part is printed even when no daemon answers; the exit code tells."""
    client = {
        "Version": VERSION,
        "PythonVersion": platform.python_version(),
        "Os": platform.system().lower(),
        "Arch": {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine()),
    }
    server, problem = None, ""
    try:
        server = await (await app.client()).get("/version")
    except Unreachable as error:
        problem = str(error)
    layout = flags.text("format")
    if layout:
        both = {"Client": client, "Server": server}
        app.print(dumps(both) if layout == "json" else Template(layout).render(both))
    else:
        app.print("Client:", f" Version:           {VERSION}", f" Python version:    {client['PythonVersion']}")
        app.print(f" OS/Arch:           {client['Os']}/{client['Arch']}")
        if server:
            app.print("", "Server:", f" Version:           {server.get('Version', '')}")
            app.print(f" API version:       {server.get('ApiVersion', '')} (minimum {server.get('MinAPIVersion', '')})")
            app.print(f" OS/Arch:           {server.get('Os', '')}/{server.get('Arch', '')}")
    if problem:
        raise CliError(problem)


async def info(app: App, args: list[str], flags: Flags) -> None:
    client = await app.client()
    layout = flags.text("format")
    if layout:
        raw = (await client.get_raw("/info")).decode().strip()
        if layout == "json":
            app.print(raw)
        else:
            print_objects(app, [raw], layout)
        return
    app.out.write(info_text(await client.get("/info")))


async def events(app: App, args: list[str], flags: Flags) -> None:
    """One line for each event, until `--until` or Ctrl-C."""
    parameters = {}
    for name in ("since", "until"):
        try:
            if found := since_parameter(flags.text(name), app.now()):
                parameters[name] = found
        except ValueError as error:
            raise CliError(f'invalid value for "{name}": {error}') from None
    buffer = b""
    layout = flags.text("format")
    client = await app.client()
    async for chunk in client.stream("/events", query(flags.filters(), **parameters)):
        *lines, buffer = (buffer + chunk).split(b"\n")
        for line in lines:
            if line.strip():
                app.print(event_line(line.decode(), layout))
                app.out.flush()


VERSION_FORMAT = Flag("format", STRING, "Print JSON ('json') or what a Go template makes of it", "f")
EVENTS = Command(
    "events",
    events,
    summary="Follow what happens in the cluster",
    arity=NONE,
    flags=[
        FILTER,
        Flag("format", STRING, "Print JSON ('json') or what a Go template makes of each event"),
        Flag("since", STRING, "Also events since a time, or for a duration (10m)"),
        Flag("until", STRING, "Stop at a time"),
    ],
)
INFO = Command("info", info, summary="Show what the daemon knows of itself and its swarm", arity=NONE, flags=[FORMAT])
VERSION_COMMAND = Command(
    "version", version, summary="Show the versions of command and daemon", arity=NONE, flags=[VERSION_FORMAT]
)
