"""`essaim secret`: sensitive data that tasks get as files in memory."""

from typing import Any

from .. import completion
from ..app import App, CliError
from ..command import NONE, SOME, Arity, Command, Group
from ..common import FILTER, FORMAT, QUIET_IDS, TEMPLATE_DRIVER
from ..flags import LABELS, STRING, Flag, Flags
from ..inspecting import FORMAT as INSPECT_FORMAT, PRETTY
from ..output.pretty import secret_text
from ..output.rows import SECRETS, secret_rows
from .files import Files, content_spec

FILES = Files("secrets", SECRETS, secret_rows, secret_text)


async def create(app: App, args: list[str], flags: Flags) -> None:
    """`NAME FILE`, `NAME -`, and `NAME` alone when something is piped in."""
    spec: dict[str, Any] = {"Name": args[0]}
    if flags.given("driver"):
        if len(args) > 1:
            raise CliError("When using secret driver secret data must be empty")
        spec["Driver"] = {"Name": flags.text("driver")}
    elif len(args) > 1 or not app.stdin.isatty():
        spec |= content_spec(await app.read(args[1] if len(args) > 1 else "-"))
    else:
        raise CliError(
            "secret create needs a file, or - and the secret on standard input: echo VALUE | essaim secret create NAME -"
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
