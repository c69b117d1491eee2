"""`essaim config`: files that tasks get, kept by the cluster."""

from essaim.cli import completion
from essaim.cli.app import App, CliError
from essaim.cli.command import NONE, SOME, Arity, Command, Group
from essaim.cli.common import FILTER, FORMAT, QUIET_IDS, TEMPLATE_DRIVER
from essaim.cli.flags import LABELS, Flag, Flags
from essaim.cli.inspecting import FORMAT as INSPECT_FORMAT
from essaim.cli.inspecting import PRETTY
from essaim.cli.output.pretty import config_text
from essaim.cli.output.rows import CONFIGS, config_rows

from .files import Files, content_spec, read_content

FILES = Files("configs", CONFIGS, config_rows, config_text)


async def create(app: App, args: list[str], flags: Flags) -> None:
    try:
        data = await read_content(app, args[1])
    except CliError as error:
        raise CliError(f'Error reading content from "{args[1]}": {error}') from None
    await FILES.create(app, {"Name": args[0], **content_spec(data)}, flags)


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
