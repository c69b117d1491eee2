"""`essaim inspect`: an object of whatever kind by its ID or name, as `docker inspect` shows it."""

from collections.abc import Mapping

from essaim.api.client import ApiError, path_of
from essaim.cli.app import App, CliError
from essaim.cli.command import SOME, Command
from essaim.cli.flags import STRING, Flag, Flags
from essaim.cli.inspecting import FORMAT, inspect
from essaim.cli.resolve import node_reference

KINDS: Mapping[str, tuple[str, Mapping[str, str]]] = {
    "node": ("nodes", {}),
    "network": ("networks", {"scope": "swarm"}),
    "service": ("services", {"insertDefaults": "true"}),
    "task": ("tasks", {}),
    "secret": ("secrets", {}),
    "config": ("configs", {}),
}
"""Kinds in the order in which they are looked for, with their path and query."""


async def inspect_any(app: App, args: list[str], flags: Flags) -> None:
    client = await app.client()
    asked = flags.text("type")
    if asked and asked not in KINDS:
        raise CliError(f'"{asked}" is not a valid value for --type: it is one of {", ".join(KINDS)}')

    async def fetch(name: str) -> bytes:
        for kind, (path, query) in KINDS.items():
            if asked and kind != asked:
                continue
            try:
                wanted = await node_reference(app, name) if kind == "node" else name
                return await client.get_raw(path_of(path, wanted), query)
            except ApiError as error:
                if error.status != 404:
                    raise
        raise CliError(f"Error: No such {asked or 'object'}: {name}. Containers are shown by docker inspect")

    await inspect(app, args, fetch, flags.text("format"))


INSPECT = Command(
    "inspect",
    inspect_any,
    summary="Show tasks and other objects of the cluster in detail",
    usage="NAME|ID [NAME|ID...]",
    arity=SOME,
    flags=[FORMAT, Flag("type", STRING, f"Look for this kind only ({', '.join(KINDS)})")],
)
