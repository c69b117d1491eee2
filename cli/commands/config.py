"""`essaim config`: files that tasks get, kept by the cluster."""

from .. import completion
from ..app import App
from ..command import NONE, SOME, Arity, Command, Group
from ..common import FILTER, FORMAT, QUIET_IDS, TEMPLATE_DRIVER
from ..flags import LABELS, Flag, Flags
from ..inspecting import FORMAT as INSPECT_FORMAT, PRETTY
from ..output.pretty import config_text
from ..output.rows import CONFIGS, config_rows
from .files import Files, content_spec

FILES = Files("configs", CONFIGS, config_rows, config_text)


async def create(app: App, args: list[str], flags: Flags) -> None:
    await FILES.create(app, {"Name": args[0], **content_spec(await app.read(args[1]))}, flags)


GROUP = Group(
    "config",
    summary="Manage configs",
    aliases={"list": "ls", "remove": "rm"},
    commands=[
        Command(
            "create",
            create,
            summary="Make a config of a file or of standard input",
            usage="CONFIG file|-",
            arity=Arity(2, 2),
            flags=[Flag("label", LABELS, "Set a label of the config", "l"), TEMPLATE_DRIVER],
        ),
        Command("ls", FILES.ls, summary="List the configs", arity=NONE, flags=[FILTER, FORMAT, QUIET_IDS]),
        Command(
            "inspect",
            FILES.inspect,
            summary="Show configs in detail",
            usage="CONFIG [CONFIG...]",
            arity=SOME,
            flags=[INSPECT_FORMAT, PRETTY],
            complete=completion.configs,
        ),
        Command(
            "rm",
            FILES.rm,
            summary="Remove configs",
            usage="CONFIG [CONFIG...]",
            arity=SOME,
            complete=completion.configs,
        ),
    ],
)
