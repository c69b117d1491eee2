"""Parses a command that the pages show, with the program's own parser, without running it.

Programs that are not ours and that a test cannot ask are listed with the words that the pages may give them.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import click

from essaim.cli.command import Command, Group
from essaim.cli.flags import FlagError, parse
from essaim.cli.main import root
from essaim.daemon.install.command import main as install
from essaim.daemon.main import main as essaimd

ROOT = Path(__file__).resolve().parents[2]
RUN = {
    "cat",
    "echo",
    "printf",
    "curl",
    "openssl",
    "jq",
    "cp",
    "cd",
    "export",
    "mkdir",
    "tee",
    "sed",
    "sleep",
    "docker-compose",
}
"""Programs that mean the same everywhere: blocks with them are run."""
ELSEWHERE = [
    r"git clone \S+ essaim",
    r"apt-get (update|install [a-z0-9 .-]+)",
    r"(pipx install|uv tool install) \.( --force| --reinstall)?",
    r"pipx ensurepath",
    r"ssh -nNT -L \S+ root@\S+",
    r"systemctl (restart|status|stop|start) (essaimd|docker|prometheus|haproxy)",
    r"journalctl -u essaimd( -n \d+| -f| --since \S+)*",
    r"ufw allow (from [\d./]+ to any port \d+(:\d+)? proto (tcp|udp)|\d+/(tcp|udp))",
    r"ufw allow from [\d./]+ to any proto esp",
    r"firewall-cmd --(permanent|reload).*",
    r"ss -ltnup?",
    r"getent hosts \S+",
    r"ping -c \d \S+",
    r"rm -rf /var/lib/essaim",
    r"tar -C /var/lib/essaim -czf \S+ [a-z. ]+",
    r"docker swarm leave --force",
]
"""What may be told to programs of the system that no test can ask, in full."""


class Wrong(Exception):
    """The command is not one that its program understands; the message says why."""


def check(words: list[str]) -> None:
    """Raises Wrong."""
    if not words:
        return
    program, arguments = words[0], words[1:]
    own: dict[str, Callable[[list[str]], None]] = {
        "essaim": essaim,
        "essaimd": lambda given: by_click(essaimd, given),
        "essaim-install": lambda given: by_click(install, given),
        "./install": lambda given: by_click(install, given),
        "./demo": demo,
        "./test": tests,
        "docker": docker,
    }
    if any(re.fullmatch(pattern, " ".join(words)) for pattern in ELSEWHERE):
        return
    if program in own:
        own[program](arguments)
    elif program == "python" and arguments[:1] == ["-m"]:
        module(arguments[1])
    elif program not in RUN:
        raise Wrong(f"no test runs or parses {program}: {' '.join(words)}")


def essaim(arguments: list[str]) -> None:
    command, rest = resolve(arguments)
    if not isinstance(command, Command):
        return
    try:
        parsed = parse(command.flags, rest, interspersed=command.interspersed)
    except FlagError as error:
        raise Wrong(f"essaim {' '.join(arguments)}: {error}") from error
    if not parsed.wants_help and (problem := command.arity.check(len(parsed.args))):
        raise Wrong(f"essaim {' '.join(arguments)}: {problem}")


def resolve(arguments: list[str]) -> tuple[click.Command, list[str]]:
    """The command that the words lead to, and the words behind it."""
    command: click.Command = root()
    context = click.Context(command, info_name="essaim")
    try:
        _, rest, _ = command.make_parser(context).parse_args(list(arguments))
    except click.ClickException as error:
        raise Wrong(f"essaim {' '.join(arguments)}: {error.format_message()}") from error
    while isinstance(command, Group) and rest:
        found = command.get_command(context, rest[0])
        if found is None:
            raise Wrong(f"there is no command `{rest[0]}` in `essaim {' '.join(arguments)}`")
        command, rest = found, rest[1:]
    return command, rest


def check_mention(text: str) -> None:
    """A command named in a sentence: it exists, and so do its flags. `a|b` is either; arguments may be left out."""
    words = text.split()
    if words[0] != "essaim":
        known = {option for param in own_options(words[0]) for option in param}
        for word in words[1:]:
            if word.startswith("--") and word.partition("=")[0] not in known:
                raise Wrong(f"{words[0]} has no option {word}: `{text}`")
        return
    chains: list[list[str]] = [[]]
    for word in words[1:]:
        choices = word.split("|") if not word.startswith("-") and "'" not in word else [word]
        chains = [[*chain, choice] for chain in chains for choice in choices]
    for chain in chains:
        command, rest = resolve(chain)
        if isinstance(command, Command):
            known = {f"--{flag.name}" for flag in command.flags} | {f"-{flag.short}" for flag in command.flags}
            for word in rest:
                if word.startswith("--") and word != "--help" and word.partition("=")[0] not in known:
                    raise Wrong(f"`{text}`: there is no flag {word}")


def own_options(program: str) -> list[list[str]]:
    if program == "essaimd":
        return [list(param.opts) for param in essaimd.params]
    if program in ("essaim-install", "./install"):
        return [list(param.opts) for param in install.params]
    return [["--once"], ["--port"], ["--runtime"]]


def by_click(command: click.Command, arguments: list[str]) -> None:
    """Parsed, with files that need not exist."""
    context = click.Context(command, info_name=command.name)
    parser = command.make_parser(context)
    try:
        values, rest, _ = parser.parse_args(list(arguments))
        for param in command.params:
            if not isinstance(param.type, click.Path) and param.name in values:
                param.type_cast_value(context, values[param.name])
    except click.ClickException as error:
        raise Wrong(f"{command.name} {' '.join(arguments)}: {error.format_message()}") from error
    if rest:
        raise Wrong(f"{command.name} takes no {rest[0]}")


def demo(arguments: list[str]) -> None:
    """By its own help: its parser is made when it is run."""
    options = re.findall(r"--[a-z]+", run_quietly([sys.executable, ROOT / "examples/demo.py", "--help"]).stdout)
    for word in arguments:
        if word.startswith("-") and word.partition("=")[0] not in options:
            raise Wrong(f"./demo {' '.join(arguments)}: there is no option {word}")


def tests(arguments: list[str]) -> None:
    for word in arguments:
        if word not in ("--fast", "--long") and not (ROOT / word.partition("::")[0]).exists():
            raise Wrong(f"./test {' '.join(arguments)}: there is no {word}")


def module(name: str) -> None:
    path = ROOT / name.removeprefix("essaim.").replace(".", "/")
    if not path.with_suffix(".py").exists() and not (path / "__main__.py").exists():
        raise Wrong(f"python -m {name}: there is no such module")


def docker(arguments: list[str]) -> None:
    """By the real client, which parses all before it finds that no daemon answers."""
    program = shutil.which("docker")
    if program is None:
        return
    with tempfile.TemporaryDirectory() as folder:
        nowhere = {"DOCKER_HOST": f"unix://{folder}/none.sock", "DOCKER_CONFIG": folder}
        done = run_quietly([program, *arguments], **nowhere)
    unusable = (
        "unknown flag",
        "unknown shorthand",
        "unknown command",
        "not a docker command",
        "requires",
        "invalid arg",
    )
    if any(words in done.stderr for words in unusable):
        raise Wrong(f"docker {' '.join(arguments)}: {done.stderr}")


def run_quietly(command: list[str | Path], **environment: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        command,
        env={"PATH": os.environ["PATH"], **environment},
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=20, check=False,
    )  # fmt: skip
