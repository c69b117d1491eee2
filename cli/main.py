"""The `essaim` command: global options, the command tree, and how a run ends.

Exit codes are docker's: 0, 1 for what failed or was refused, 125 for wrong flags, 130 for Ctrl-C.
"""

import asyncio
import contextlib
import os
import sys
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import click

from essaim.api.client import ClientError, Unreachable
from essaim.cli.template.syntax import TemplateError

from .app import App, CliError, app_of, explain
from .command import PROGRAM, Entry, Group, help_when_alone

COMMANDS = "essaim.cli.commands"
ENTRIES = {
    "certificate": Entry(f"{COMMANDS}.certificate", "GROUP", "Manage the certificates of services"),
    "completion": Entry(f"{COMMANDS}.completion", "GROUP", "Print a shell's completion script"),
    "config": Entry(f"{COMMANDS}.config", "GROUP", "Manage configs"),
    "events": Entry(f"{COMMANDS}.system", "EVENTS", "Follow what happens in the cluster"),
    "info": Entry(f"{COMMANDS}.system", "INFO", "Show what the daemon knows of itself and its swarm"),
    "inspect": Entry(f"{COMMANDS}.inspect", "INSPECT", "Show tasks and other objects of the cluster in detail"),
    "lb": Entry(f"{COMMANDS}.lb", "GROUP", "Look at the load balancer, and configure external ones"),
    "network": Entry(f"{COMMANDS}.network", "GROUP", "Manage networks"),
    "node": Entry(f"{COMMANDS}.node", "GROUP", "Manage nodes"),
    "secret": Entry(f"{COMMANDS}.secret", "GROUP", "Manage secrets"),
    "service": Entry(f"{COMMANDS}.service", "GROUP", "Manage services"),
    "stack": Entry(f"{COMMANDS}.stack", "GROUP", "Manage stacks"),
    "swarm": Entry(f"{COMMANDS}.swarm", "GROUP", "Manage the swarm"),
    "version": Entry(f"{COMMANDS}.system", "VERSION_COMMAND", "Show the versions of command and daemon"),
}


def root() -> Group:
    """The command tree."""
    options = [
        click.Option(["--host", "-H"], help="Where essaimd listens (unix:///path, tcp://host:port)", metavar="HOST"),
        click.Option(["--tls"], is_flag=True, help="Use TLS without checking the daemon's certificate"),
        click.Option(["--tlsverify"], is_flag=True, help="Use TLS and check the daemon's certificate"),
        click.Option(["--tlscacert"], help="Trust certificates of this CA only", metavar="FILE"),
        click.Option(["--tlscert"], help="The client's certificate", metavar="FILE"),
        click.Option(["--tlskey"], help="The key of the client's certificate", metavar="FILE"),
        click.Option(["--version", "-v"], is_flag=True, help="Print the version and quit"),
    ]
    return Group(
        PROGRAM,
        summary="Containers on many hosts, behind a load balancer on each of them",
        entries=ENTRIES,
        params=options,
        callback=begin,
        context_settings={"help_option_names": ["--help", "-h"]},
    )


@click.pass_context
def begin(ctx: click.Context, /, **params: Any) -> None:
    if params["version"]:
        from .version import VERSION

        click.echo(f"essaim version {VERSION}")
        ctx.exit()
    if ctx.obj is None:
        ctx.obj = app_of(params)
    ctx.invoke(help_when_alone)


def prepare(argv: Sequence[str], app: App | None = None) -> Callable[[], Awaitable[int | None]]:
    """Read the command line; the result runs it. Raises CliError, click's exceptions or click.exceptions.Exit."""
    group = root()
    context = group.make_context(PROGRAM, list(argv), obj=app)
    pending: Awaitable[int | None] | None = group.invoke(context)
    owner = app or context.obj

    async def run() -> int | None:
        try:
            return await pending if pending is not None else 0
        finally:
            if owner is not None:
                await owner.close()

    return run


async def execute(argv: Sequence[str], app: App) -> int:
    """Run a command line in a running event loop; the exit code."""
    try:
        run = await asyncio.to_thread(prepare, argv, app)
        return await run() or 0
    except Exception as error:
        return ending(error, app)


def ending(error: Exception, app: App | None = None) -> int:
    """The exit code for what ended a run; the message goes to the error stream. Raises what is a bug."""
    code, message = 1, ""
    match error:
        case click.exceptions.Exit():
            return error.exit_code
        case CliError():
            code, message = error.code, str(error)
        case Unreachable() | ClientError():
            message = explain(error)
        case TemplateError():
            message = f"template parsing error: {error}"
        case click.NoSuchOption():
            usage = f"Usage:  {PROGRAM} [OPTIONS] COMMAND\n\nRun '{PROGRAM} --help' for more information"
            code, message = 125, f"unknown flag: {error.option_name}\n\n{usage}"
        case OSError():
            message = f"{PROGRAM}: {error}"
        case UnicodeEncodeError():  # bytes of the command line or the environment, which Python keeps as surrogates
            message = f"{PROGRAM}: not UTF-8 text: {error.object!a}"
        case click.ClickException():
            code, message = 125, error.format_message()
        case _:
            raise error
    if message:
        print(message, file=app.err if app else sys.stderr)
    return code


def main() -> None:
    """Entry point of the `essaim` script."""
    sys.exit(run(sys.argv[1:]))


def run(argv: Sequence[str]) -> int:
    """One run in a process of its own; the exit code."""
    if completing := os.environ.get("_ESSAIM_COMPLETE"):
        from click.shell_completion import shell_complete

        return shell_complete(root(), {}, PROGRAM, "_ESSAIM_COMPLETE", completing)
    try:
        code = asyncio.run(start(prepare(argv))) or 0
        sys.stdout.flush()  # a full disk or a closed pipe shows here, not in the interpreter's last breath
        return code
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # The reader went away (`| head`): what is left must not complain while the interpreter shuts down.
        with contextlib.suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:
        return last_words(error)


def last_words(error: Exception) -> int:
    """`ending`, and one line for what is a bug: no traceback reaches a user who has not asked for it."""
    try:
        return ending(error)
    except Exception as bug:
        if os.environ.get("ESSAIM_DEBUG"):
            raise
        what = f"{PROGRAM} failed unexpectedly ({type(bug).__name__}: {bug})"
        print(f"{what}. ESSAIM_DEBUG=1 shows where; please report it.", file=sys.stderr)
        return 1


async def start(prepared: Callable[[], Awaitable[int | None]]) -> int | None:
    return await prepared()
