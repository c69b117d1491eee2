"""What a user gets for a mistake, by the real command and daemon: Docker's words, a failing exit, no traceback."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.daemon.processes import Daemon, daemons, init
from tests.lab.wait import eventually

pytestmark = [pytest.mark.timeout(120), pytest.mark.blocking_allowed]

CREATE = ("service", "create", "--detach", "--no-resolve-image")


@pytest.fixture
async def one(tmp_path: Path) -> AsyncIterator[Daemon]:
    async with daemons(tmp_path) as (daemon,):
        await init(daemon)
        yield daemon


def refuses(daemon: Daemon, *arguments: str) -> str:
    done = daemon.essaim(*arguments)
    assert done.returncode != 0, f"{arguments} was accepted: {done.stdout}"
    assert "Traceback" not in done.stderr
    return done.stderr


async def test_mistakes_get_dockers_words_and_a_non_zero_exit(one: Daemon) -> None:
    assert one.essaim(*CREATE, "--name", "web", "--publish", "18080:80", "essaim/whoami").returncode == 0
    expected = {
        ("service", "inspect", "nosuch"): "no such service: nosuch",
        ("service", "ps", "nosuch"): "no such service: nosuch",
        ("service", "scale", "nosuch=2"): "service nosuch not found",
        ("service", "rm", "nosuch"): "service nosuch not found",
        ("node", "inspect", "nosuch"): "node nosuch not found",
        ("node", "rm", "nosuch"): "node nosuch not found",
        ("secret", "rm", "nosuch"): "secret nosuch not found",
        (
            *CREATE,
            "--name",
            "web",
            "essaim/whoami",
        ): "name conflicts with an existing object: service web already exists",
        (*CREATE, "--name", "bad name", "essaim/whoami"): "name must be valid as a DNS name component",
        (*CREATE, "--name", "two", "--publish", "18080:80", "essaim/whoami"): (
            "port '18080' is already in use by service 'web'"
        ),
        (*CREATE, "--name", "net", "--network", "nosuch", "essaim/whoami"): "network nosuch not found",
        (*CREATE, "--name", "sec", "--secret", "nosuch", "essaim/whoami"): "secret not found: nosuch",
        (*CREATE, "--name", "none"): "requires at least 1 argument",
        ("node", "demote", one.name): "attempting to demote the last manager of the swarm",
        ("swarm", "leave"): "participating as a manager",
        ("swarm", "init"): "already part of a swarm",
        ("nosuchcommand",): "nosuchcommand",
    }
    for arguments, words in expected.items():
        assert words in refuses(one, *arguments), arguments


async def test_image_that_a_process_cannot_be_is_explained_in_service_ps(one: Daemon) -> None:
    spec = ("--restart-condition", "none", "--name", "pg", "postgres:16")
    assert one.essaim(*CREATE, *spec).returncode == 0

    def rejected() -> str:
        return one.essaim("service", "ps", "pg", "--no-trunc", "--format", "{{.CurrentState}} {{.Error}}").stdout

    eventually(lambda: "Rejected" in rejected(), 30, "the task is rejected")
    assert "postgres:16" in rejected()
    assert "docker" in rejected().lower()


async def test_stack_file_with_a_mistake_names_file_line_key_and_what_is_allowed(one: Daemon, tmp_path: Path) -> None:
    file = tmp_path / "bad.yml"
    file.write_text("services:\n  web:\n    image: essaim/whoami\n    deploy:\n      replica: 5\n")
    said = refuses(one, "stack", "deploy", "-c", str(file), "s")
    assert f"{file}:5:7" in said
    assert "replica" in said
    assert "replicas" in said
    assert "no such file" in refuses(one, "stack", "deploy", "-c", str(tmp_path / "none.yml"), "s").lower()


async def test_stack_file_with_ignored_keys_warns_and_deploys(one: Daemon, tmp_path: Path) -> None:
    file = tmp_path / "warn.yml"
    file.write_text("services:\n  web:\n    build: .\n    image: essaim/whoami\n")
    done = one.essaim("stack", "deploy", "--detach=true", "-c", str(file), "s")
    assert done.returncode == 0
    assert "warn.yml:3:5: services.web.build: has no effect: Images are not built here" in done.stderr


async def test_image_that_no_node_takes_is_tried_ever_later_and_says_when(one: Daemon) -> None:
    assert one.essaim(*CREATE, "--name", "pg", "--replicas", "2", "postgres:16").returncode == 0

    def tasks() -> list[str]:
        shown = one.essaim("service", "ps", "pg", "--no-trunc", "--format", "{{.CurrentState}} {{.Error}}").stdout
        return shown.splitlines()

    # One that was rejected a moment ago and one that waits, in each slot; a third attempt is ten seconds away.
    eventually(lambda: sum("attempt 3 at" in line for line in tasks()) == 2, 30, "both slots wait for a third attempt")
    assert sum("Rejected" in line for line in tasks()) == 4
