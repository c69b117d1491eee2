"""How much a command imports before it asks the daemon: each command is to answer in under 150 ms."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from essaim.cli.command import Command, Group, Later
from essaim.cli.main import root

HEAVY = {"aiohttp", "cryptography", "docker", "jinja2", "jsonschema", "requests", "rich", "structlog", "uvloop", "yaml"}
"""Packages that take 20 to 200 ms to import. What reads Compose files and draws bars may have its own."""
AFTER = "import atexit, json, sys; atexit.register(lambda: print(json.dumps(sorted(sys.modules)), file=sys.stderr)); "
RUN = AFTER + "sys.argv[0] = 'essaim'; from essaim.cli.main import main; main()"


@pytest.mark.parametrize(
    "arguments",
    [
        ("version",), ("info",), ("--help",), ("events",),
        ("service", "ls"), ("service", "ps", "web"), ("service", "inspect", "web"), ("service", "logs", "web"),
        ("service", "scale", "web=2"), ("service", "create", "--help"), ("service", "rm", "web"),
        ("node", "ls"), ("node", "ps"), ("node", "update", "--availability", "drain", "n"),
        ("stack", "ls"), ("stack", "ps", "s"), ("stack", "services", "s"),
        ("secret", "ls"), ("config", "ls"), ("network", "ls"), ("certificate", "ls"), ("lb", "status"),
        ("swarm", "init"), ("swarm", "join-token", "worker"), ("completion", "bash"),
    ],
    ids=" ".join,
)  # fmt: skip
def test_command_imports_nothing_heavy_before_it_asks_the_daemon(arguments: tuple[str, ...], tmp_path: Path) -> None:
    command = [sys.executable, "-c", RUN, "--host", f"unix://{tmp_path}/none.sock", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
    modules = json.loads(done.stderr.splitlines()[-1])
    assert "click" in modules
    assert {name.partition(".")[0] for name in modules} & HEAVY == set(), done.stderr


def commands(group: Group, path: str = "") -> Iterator[tuple[str, Command]]:
    context = click.Context(group)
    for name in group.list_commands(context):
        found = group.get_command(context, name)
        if isinstance(found, Group):
            yield from commands(found, f"{path} {name}")
        elif isinstance(found, Command):
            yield f"{path} {name}", found


def test_every_command_that_is_imported_later_is_there() -> None:
    found = [(path, command.run) for path, command in commands(root()) if isinstance(command.run, Later)]
    assert len(found) >= 15
    for path, run in found:
        assert callable(run.function()), path
