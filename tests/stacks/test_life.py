"""A stack's life on a real daemon (process runtime): order by conditions, changes, failures, removal in reverse.

Every replica writes into one journal when it starts, is ready and has ended, so that order is seen, not claimed.
"""

import asyncio
import io
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from essaim.api.client import Client
from essaim.cli.app import App
from essaim.cli.main import execute
from essaim.stacks.canonical.values import NAMESPACE_LABEL
from tests.cli.conftest import Result
from tests.daemon.processes import Daemon, daemons, init
from tests.lab.wait import eventually_async

pytestmark = [
    pytest.mark.timeout(120),
    pytest.mark.blocking_allowed,
    pytest.mark.asyncio(loop_scope="module"),
]

SCRIPT = """#!/bin/sh
# NAME KIND: `serve` is ready after a moment and takes one to end, `once` ends well, `crash` badly.
echo "$1 up" >> journal
sleep 0.3
case "$2" in
  once) echo "$1 done" >> journal; exit 0;;
  crash) exit 3;;
esac
trap 'sleep 0.3; echo "$1 down" >> journal; exit 0' TERM
echo "$1 ready" >> journal
touch "ready-$1-$3"
while :; do sleep 0.05; done
"""
STACK = """
services:
  web:
    image: host
    command: ./task.sh web serve
    working_dir: {folder}
    healthcheck: {{test: test -e ready-web-, interval: 100ms, retries: 100}}
    deploy: &soon {{update_config: {{monitor: 200ms}}}}
    depends_on:
      migrate: {{condition: service_completed_successfully}}
      db: {{condition: service_started, restart: true}}
  migrate:
    image: host
    command: ./task.sh migrate once
    working_dir: {folder}
    restart: "no"
    deploy: *soon
    depends_on: {{db: {{condition: service_healthy}}}}
  db:
    image: host
    command: ./task.sh db serve 1
    working_dir: {folder}
    healthcheck: {{test: test -e ready-db-1, interval: 100ms, retries: 100}}
    deploy: *soon
"""


class Bench:
    """One stack, in a folder of its own, on the daemon that the tests share."""

    def __init__(self, daemon: Daemon, folder: Path, stack: str) -> None:
        self.daemon = daemon
        self.folder = folder
        self.stack = stack
        (folder / "task.sh").write_text(SCRIPT)
        (folder / "task.sh").chmod(0o755)
        (folder / "journal").touch()

    async def deploy(self, text: str, *flags: str) -> Result:
        (self.folder / "stack.yml").write_text(text.format(folder=self.folder))
        return await self.essaim("stack", "deploy", *flags, "-c", str(self.folder / "stack.yml"), self.stack)

    async def essaim(self, *words: str) -> Result:
        """The command with its own clock and streams, in this process: starting Python costs more than all it does."""
        out, err = io.StringIO(), io.StringIO()
        return Result(await execute(words, App(self.daemon.host, out=out, err=err)), out.getvalue(), err.getvalue())

    async def tasks(self) -> list[tuple[str, str, str]]:
        """Of the whole cluster: the service's name, the task's ID and what is wanted of it."""
        async with Client(self.daemon.host) as client:
            names = {service["ID"]: service["Spec"]["Name"] for service in await client.get("/services")}
            tasks = await client.get("/tasks")
        return sorted((names.get(task["ServiceID"], ""), task["ID"], task["DesiredState"]) for task in tasks)

    async def labelled(self, kind: str) -> list[str]:
        """The names of the stack's own services, networks, secrets or configs."""
        async with Client(self.daemon.host) as client:
            specs = [found.get("Spec", found) for found in await client.get(f"/{kind}")]
        return sorted(spec["Name"] for spec in specs if (spec.get("Labels") or {}).get(NAMESPACE_LABEL) == self.stack)

    def journal(self) -> list[str]:
        return (self.folder / "journal").read_text().splitlines()

    async def wait_for(self, line: str) -> None:
        async def is_written() -> bool:
            return line in self.journal()

        await eventually_async(is_written, 10, f"the journal says: {line}")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def daemon(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Daemon]:
    async with daemons(tmp_path_factory.mktemp("life")) as (daemon,):
        await init(daemon)
        yield daemon


@pytest.fixture
def bench(daemon: Daemon, tmp_path: Path) -> Bench:
    return Bench(daemon, tmp_path, "s")


async def test_stack_starts_by_its_conditions_changes_only_what_changed_and_ends_in_reverse(bench: Bench) -> None:
    first = await bench.deploy(STACK, "--detach=false")
    assert first.code == 0, first.err
    assert bench.journal() == [
        "db up", "db ready", "migrate up", "migrate done", "web up", "web ready",
    ]  # fmt: skip
    assert "Waiting for service s_db (healthy)" in first.out
    assert "s_db: overall progress: 1 out of 1 tasks" in first.out
    assert "s_web: verify: Service" in first.out

    # The same file again restarts nothing.
    before = await bench.tasks()
    again = await bench.deploy(STACK, "--detach=false")
    assert (again.code, await bench.tasks()) == (0, before)
    assert "Updating" not in again.out

    # A changed dependency replaces who asked for it (restart: true), when the new one is there; not the others.
    changed = STACK.replace("db serve 1", "db serve 2").replace("ready-db-1", "ready-db-2")
    plan = await bench.deploy(changed, "--dry-run")
    assert "TaskTemplate.ContainerSpec.Args" in plan.out
    assert "TaskTemplate.ForceUpdate: (none) -> 1" in plan.out
    assert await bench.tasks() == before
    (bench.folder / "journal").unlink()
    third = await bench.deploy(changed, "--detach=false")
    assert third.code == 0, third.err
    assert bench.journal()[:2] == ["db down", "db up"]
    assert not [line for line in bench.journal() if line.startswith("migrate")]
    assert [line.split()[2] for line in third.out.splitlines() if line.startswith("Updating")] == ["s_db", "s_web"]

    (bench.folder / "journal").write_text("")
    removed = await bench.essaim("stack", "rm", "--detach=false", "s")
    assert removed.code == 0, removed.err
    assert [line for line in bench.journal() if line.endswith("down")][-2:] == ["web down", "db down"]
    assert [line.split()[-1] for line in removed.out.splitlines() if "service" in line] == [
        "s_web", "s_migrate", "s_db",
    ]  # fmt: skip


FAILING = """
services:
  job:
    image: host
    deploy: {{update_config: {{monitor: 200ms}}}}
    command: ./task.sh job crash
    working_dir: {folder}
    restart: "no"
  app:
    image: host
    deploy: {{update_config: {{monitor: 200ms}}}}
    command: ./task.sh app serve
    working_dir: {folder}
    depends_on: {{job: {{condition: service_completed_successfully, required: REQUIRED}}}}
"""


async def test_dependency_that_fails_ends_the_deploy_with_its_reason_unless_it_is_not_required(
    bench: Bench, tmp_path: Path
) -> None:
    bench.stack = "failing"
    (tmp_path / "lenient").mkdir()
    lenient = Bench(bench.daemon, tmp_path / "lenient", "lenient")
    done, other = await asyncio.gather(
        bench.deploy(FAILING.replace("REQUIRED", "true")),
        lenient.deploy(FAILING.replace("REQUIRED", "false"), "--detach=false"),
    )
    assert done.code == 1
    assert (
        "service failing_app was not deployed, for it depends on failing_job (completed_successfully), which failed "
        "and is not started again: task: non-zero exit (3)" in done.err
    )
    assert bench.journal() == ["job up"]
    assert "service lenient_job, which lenient_app can do without, failed and is not started again" in other.err
    await lenient.wait_for("app ready")
    assert other.code == 1
    assert "lenient_job" in other.err.splitlines()[-1]


async def test_dependency_that_never_comes_up_is_waited_for_as_long_as_is_allowed(bench: Bench) -> None:
    bench.stack = "waiting"
    text = """
services:
  db: {{image: host, command: sleep 1000, deploy: {{placement: {{constraints: [node.labels.none == 1]}}}}}}
  app: {{image: host, command: sleep 1000, depends_on: {{db: {{condition: service_healthy}}}}}}
"""
    done = await bench.deploy(text, "--wait-timeout", "1s")
    assert done.code == 1
    assert "which did not get there within 1 s: no suitable node" in done.err
    assert "waiting_db: problem: no suitable node" in done.out


PRUNED = """
services:
  kept:
    image: host
    command: ./task.sh kept serve
    working_dir: {folder}
    deploy: &soon {{update_config: {{monitor: 200ms}}}}
  gone:
    image: host
    command: ./task.sh gone serve
    working_dir: {folder}
    deploy: *soon
    networks: [old]
    configs: [old]
    secrets: [old]
networks: {{old: {{}}}}
configs: {{old: {{content: text}}}}
secrets: {{old: {{file: ./task.sh}}}}
"""
WITHOUT = PRUNED[: PRUNED.index("  gone:")]


async def test_prune_removes_services_that_left_the_file_and_nothing_else(bench: Bench, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    other = Bench(bench.daemon, tmp_path / "other", "prune-other")
    bench.stack = "prune"
    for one in (other, bench):
        done = await one.deploy(PRUNED, "--detach=false")
        assert done.code == 0, done.err
        await one.wait_for("gone ready")
    before = await bench.tasks()

    # Without the flag what left the file stays; a dry run says what the flag would do.
    left = await bench.deploy(WITHOUT)
    planned = await bench.deploy(WITHOUT, "--prune", "--dry-run")
    assert (left.code, planned.code) == (0, 0), left.err + planned.err
    assert "remove     service prune_gone" in planned.out
    assert planned.out.endswith("Plan: 1 to remove.\n")
    assert await bench.tasks() == before

    pruned = await bench.deploy(WITHOUT, "--prune", "--detach=false")
    assert pruned.code == 0, pruned.err
    assert [line for line in pruned.out.splitlines() if line.startswith("Removing")] == ["Removing service prune_gone"]
    assert await bench.labelled("services") == ["prune_kept"]

    await bench.wait_for("gone down")
    # All other tasks are those from before, also the other stack's service of the same short name.
    kept = [task for task in before if task[0] not in ("", "prune_gone")]
    assert [task for task in await bench.tasks() if task[0]] == kept
    assert await other.labelled("services") == ["prune-other_gone", "prune-other_kept"]
    assert not [line for one in (bench, other) for line in one.journal() if line.endswith("kept down")]
    # As with Docker, the stack's networks, secrets and configs stay: only `stack rm` removes them.
    assert "prune_old" in await bench.labelled("networks")
    assert (await bench.labelled("secrets"), await bench.labelled("configs")) == (["prune_old"], ["prune_old"])
