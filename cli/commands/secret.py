"""`essaim secret`: sensitive data that tasks get as files in memory."""

from typing import Any

from essaim.cli import completion
from essaim.cli.app import App, CliError
from essaim.cli.command import NONE, SOME, Arity, Command, Group
from essaim.cli.common import FILTER, FORMAT, QUIET_IDS, TEMPLATE_DRIVER
from essaim.cli.flags import LABELS, STRING, Flag, Flags
from essaim.cli.inspecting import FORMAT as INSPECT_FORMAT
from essaim.cli.inspecting import PRETTY
from essaim.cli.output.pretty import secret_text
from essaim.cli.output.rows import SECRETS, secret_rows

from .files import Files, content_spec, read_content

FILES = Files("secrets", SECRETS, secret_rows, secret_text)


async def create(app: App, args: list[str], flags: Flags) -> None:
    """`NAME FILE`, `NAME -`, and `NAME` alone when something is piped in."""
    spec: dict[str, Any] = {"Name": args[0]}
    if flags.given("driver"):
        if len(args) > 1:
            raise CliError("When using secret driver secret data must be empty")
        spec["Driver"] = {"Name": flags.text("driver")}
    elif len(args) > 1 or not app.stdin.isatty():
        spec |= content_spec(await read_content(app, args[1] if len(args) > 1 else "-"))
    else:
        raise CliError(
            "secret file is required: give a file, or pipe the secret in (echo VALUE | essaim secret create NAME -)"
        )
    await FILES.create(app, spec, flags)


GROUP = Group(
    "secret",
    summary="Manage secrets",
    aliases={"list": "ls", "remove": "rm"},
    commands=[
        Command(
            "create",
            create,
            summary="Make a secret of a file or of standard input",
            usage="SECRET [file|-]",
            arity=Arity(1, 2),
            flags=[
                Flag("driver", STRING, "Driver that keeps the secret", "d"),
                Flag("label", LABELS, "Set a label of the secret", "l"),
                TEMPLATE_DRIVER,
            ],
        ),
        Command("ls", FILES.ls, summary="List the secrets", arity=NONE, flags=[FILTER, FORMAT, QUIET_IDS]),
        Command(
            "inspect",
            FILES.inspect,
            summary="Show secrets in detail (never their content)",
            usage="SECRET [SECRET...]",
            arity=SOME,
            flags=[INSPECT_FORMAT, PRETTY],
            complete=completion.secrets,
        ),
        Command(
            "rm",
            FILES.rm,
            summary="Remove secrets",
            usage="SECRET [SECRET...]",
            arity=SOME,
            complete=completion.secrets,
        ),
    ],
)
