"""Commands and groups: click's tree with docker's flags, wording and exit codes.

A command is an async function `run(app, args, flags)`; what it returns is the exit code (None is 0).
"""

import importlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import click
from click.shell_completion import CompletionItem

from .app import App, CliError
from .flags import Flag, FlagError, Flags, parse
from .help import command_help, group_help
from .nearest import did_you_mean

PROGRAM = "essaim"
OF_THE_ENGINE = {
    "attach", "build", "compose", "container", "cp", "exec", "image", "images", "kill", "login", "logs", "ps", "pull",
    "push", "restart", "rm", "rmi", "run", "start", "stats", "stop", "system", "tag", "top", "volume",
}  # fmt: skip
"""Commands of docker that essaim leaves to it."""
Run = Callable[[App, list[str], Flags], Awaitable[int | None]]
Complete = Callable[[App, str], Awaitable[list[str]]]


@dataclass(frozen=True, slots=True)
class Arity:
    """How many arguments a command takes; `most` None is any number."""

    least: int = 0
    most: int | None = 0

    def check(self, count: int) -> str:
        """What is wrong with that many, or nothing."""
        if self.least <= count and (self.most is None or count <= self.most):
            return ""
        if self.most == 0:
            return "accepts no arguments"
        plural = "" if (self.most if self.most is not None else self.least) == 1 else "s"
        if self.most is None:
            return f"requires at least {self.least} argument{'' if self.least == 1 else 's'}"
        if self.least == self.most:
            return f"requires {self.least} argument{plural}"
        if self.least == 0:
            return f"requires at most {self.most} argument{plural}"
        return f"requires at least {self.least} and at most {self.most} arguments"


@dataclass(frozen=True, slots=True)
class Later:
    """What a command does, by the function's name in a module of `commands/` that is imported when it is run.

    Rejected: importing it with the command tree: `service ls` took 80 ms for what draws bars and reads Compose files.
    """

    module: str
    name: str

    def __call__(self, app: App, args: list[str], flags: Flags) -> Awaitable[int | None]:
        return self.function()(app, args, flags)

    def function(self) -> Run:
        found: Run = getattr(importlib.import_module(f"essaim.cli.commands.{self.module}"), self.name)
        return found


NONE, ONE, SOME, ANY = Arity(), Arity(1, 1), Arity(1, None), Arity(0, None)


class UsageError(CliError):
    """A wrong command line: the message is followed by the usage."""


def click_option(flag: Flag) -> click.Option:
    """The flag as click's completion sees it."""
    names = [f"--{flag.name}", *([f"-{flag.short}"] if flag.short else []), flag.name.replace("-", "_") + "_"]
    choices = click.Choice(flag.choices) if flag.choices else None
    return click.Option(
        names,
        help=flag.help,
        is_flag=flag.kind.is_switch,
        multiple=flag.kind.repeats,
        type=None if flag.kind.is_switch else choices,
    )


class Command(click.Command):
    """A leaf. `interspersed` false means that the first argument ends the flags (the rest is a container's command)."""

    def __init__(
        self,
        name: str,
        run: Run,
        *,
        summary: str,
        usage: str = "",
        arity: Arity = NONE,
        flags: Sequence[Flag] = (),
        interspersed: bool = True,
        complete: Complete | None = None,
        is_hidden: bool = False,
    ) -> None:
        def completer(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
            from .completion import candidates

            return candidates(ctx, complete, incomplete) if complete else []

        argument = click.Argument(["args"], nargs=-1, shell_complete=completer)
        super().__init__(
            name, params=[*map(click_option, flags), argument], short_help=summary, help=summary, hidden=is_hidden
        )
        self.run = run
        self.flags = list(flags)
        self.usage = usage
        self.arity = arity
        self.interspersed = interspersed

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        try:
            parsed = parse(self.flags, args, interspersed=self.interspersed, lenient=ctx.resilient_parsing)
        except FlagError as error:
            raise UsageError(f"{error}\n\n{self.short_usage(ctx)}", 125) from None
        ctx.params = {"args": tuple(parsed.args), "flags": parsed.flags}
        if ctx.resilient_parsing:
            return []
        if parsed.wants_help:
            click.echo(command_help(ctx.command_path, self.usage_line, self.help or "", self.flags), nl=False)
            ctx.exit()
        if problem := self.arity.check(len(parsed.args)):
            hint = "See" if self.arity.most is None else "Run"
            raise UsageError(f"{PROGRAM}: '{ctx.command_path}' {problem}\n\n{self.short_usage(ctx, hint)}")
        return []

    def short_usage(self, ctx: click.Context, hint: str = "Run") -> str:
        usage = f"Usage:  {ctx.command_path} {self.usage_line}".rstrip()
        return f"{usage}\n\n{hint} '{ctx.command_path} --help' for more information"

    @property
    def usage_line(self) -> str:
        return " ".join(part for part in ("[OPTIONS]" if self.flags else "", self.usage) if part)

    def invoke(self, ctx: click.Context) -> Awaitable[int | None]:
        app: App = ctx.obj
        return self.run(app, list(ctx.params["args"]), ctx.params["flags"])


@dataclass(frozen=True, slots=True)
class Entry:
    """A command that is imported when it is needed: `attribute` of `module`."""

    module: str
    attribute: str
    summary: str
    is_hidden: bool = False


@click.pass_context
def help_when_alone(ctx: click.Context, /, **_: Any) -> None:
    """What a group does when no command follows: it shows its help."""
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


class Group(click.Group):
    """Commands by name; aliases are accepted and not listed."""

    def __init__(
        self,
        name: str,
        *,
        summary: str,
        commands: Sequence[click.Command] = (),
        aliases: Mapping[str, str] | None = None,
        entries: Mapping[str, Entry] | None = None,
        **options: Any,
    ) -> None:
        options.setdefault("callback", help_when_alone)
        super().__init__(name, short_help=summary, help=summary, invoke_without_command=True, **options)
        self.aliases = dict(aliases or {})
        self.entries = dict(entries or {})
        for command in commands:
            self.add_command(command)

    def list_commands(self, ctx: click.Context) -> list[str]:
        shown = [name for name, entry in self.entries.items() if not entry.is_hidden]
        return sorted([*super().list_commands(ctx), *shown])

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        name = self.aliases.get(cmd_name, cmd_name)
        if entry := self.entries.get(name):
            found: click.Command = getattr(importlib.import_module(entry.module), entry.attribute)
            return found
        return super().get_command(ctx, name)

    def summaries(self, ctx: click.Context) -> list[tuple[str, str]]:
        """(name, summary) of the commands to list, without importing them."""
        own = [(name, self.commands[name].short_help or "") for name in self.commands if not self.commands[name].hidden]
        return sorted([*own, *((name, entry.summary) for name, entry in self.entries.items() if not entry.is_hidden)])

    def format_help(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        records = [param.get_help_record(ctx) for param in self.params] if ctx.parent is None else []
        options = [record for record in records if record]
        formatter.write(group_help(ctx.command_path, self.help or "", self.summaries(ctx), options))

    def hint(self, ctx: click.Context, word: str) -> str:
        """What may have been meant by a command that this group has not."""
        if ctx.parent is None and word in OF_THE_ENGINE:
            return f"`docker {word}` is about one host's containers and images; essaim's commands are about the cluster"
        return did_you_mean(word, self.list_commands(ctx))

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        command = self.get_command(ctx, args[0])
        if command is None and not ctx.resilient_parsing:
            usage = f"Usage:  {ctx.command_path}\n\n" if ctx.parent else ""
            hint = self.hint(ctx, args[0])
            raise UsageError(
                f"{PROGRAM}: unknown command: {ctx.command_path} {args[0]}{hint and f'. {hint}'}\n\n"
                f"{usage}Run '{ctx.command_path} --help' for more information"
            )
        return (command.name if command else None), command, args[1:]
