"""What secrets and configs have in common."""

import base64
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from essaim.api.client import path_of
from essaim.cli.app import App, CliError
from essaim.cli.common import query
from essaim.cli.flags import Flags
from essaim.cli.inspecting import inspect
from essaim.cli.output.listing import Listing, Row
from essaim.cli.values.pairs import to_map

Object = Mapping[str, Any]


async def read_content(app: App, path: str) -> bytes:
    """A file's content, or standard input's for `-`."""
    try:
        return await app.read(path)
    except CliError as error:
        raise CliError(f"error reading from {path}: {error}") from None


def content_spec(data: bytes) -> dict[str, str]:
    return {"Data": base64.b64encode(data).decode()}


@dataclass(frozen=True, slots=True)
class Files:
    """The commands of one of the two; `plural` is the end-point's name."""

    plural: str
    listing: Listing
    rows: Callable[[Iterable[Object], datetime], list[Row]]
    text: Callable[[Object, datetime], str]

    async def create(self, app: App, spec: dict[str, Any], flags: Flags) -> None:
        spec["Labels"] = to_map(flags.items("label"))
        if flags.given("template-driver"):
            spec["Templating"] = {"Name": flags.text("template-driver")}
        made = await (await app.client()).post(f"/{self.plural}/create", spec)
        app.print(made["ID"])

    async def ls(self, app: App, args: list[str], flags: Flags) -> None:
        found = await (await app.client()).get(f"/{self.plural}", query(flags.filters()))
        rows = self.rows(found, app.now())
        app.out.write(self.listing.render(rows, flags.text("format"), quiet="ID" if flags.on("quiet") else ""))

    async def inspect(self, app: App, args: list[str], flags: Flags) -> None:
        client = await app.client()
        if flags.on("pretty"):
            for name in args:
                app.out.write(self.text(await client.get(path_of(self.plural, name)), app.now()))
            return
        await inspect(app, args, lambda name: client.get_raw(path_of(self.plural, name)), flags.text("format"))

    async def rm(self, app: App, args: list[str], flags: Flags) -> None:
        client = await app.client()

        async def remove(name: str) -> str:
            await client.delete(path_of(self.plural, name))
            return name

        await app.each(args, remove)
