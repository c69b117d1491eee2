"""Encryption at rest and the managers' lock, by real daemons and the real command."""

import asyncio
import base64
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from essaim.api.client import ApiError, Client
from tests.daemon.processes import BIN, UP, Daemon, daemons, init, join
from tests.lab.wait import eventually_async

pytestmark = [pytest.mark.timeout(120), pytest.mark.blocking_allowed]
VALUE = b"correct horse battery staple"
LOCKED = "Swarm is encrypted and needs to be unlocked before it can be used."


@pytest.fixture
async def two(tmp_path: Path) -> AsyncIterator[list[Daemon]]:
    async with daemons(tmp_path, 2, tasks=False) as made:
        yield made


def files(folder: Path) -> Iterator[Path]:
    return (path for path in folder.rglob("*") if path.is_file())


async def store_secret(daemon: Daemon, name: str, value: bytes = VALUE) -> None:
    async with Client(daemon.host) as client:
        await client.post("/secrets/create", {"Name": name, "Data": base64.b64encode(value).decode()})


async def state(daemon: Daemon) -> str:
    async with Client(daemon.host) as client:
        found: str = (await client.get("/info"))["Swarm"]["LocalNodeState"]
        return found


async def secrets_are(daemon: Daemon, names: set[str]) -> None:
    async def seen() -> bool:
        async with Client(daemon.host) as client:
            return {secret["Spec"]["Name"] for secret in await client.get("/secrets")} == names

    await eventually_async(seen, UP, f"{daemon.name} shows the secrets {names}", retry_on=(ApiError,))


async def run(daemon: Daemon, *arguments: str, stdin: str = "") -> str:
    """Run the command; what it printed, or AssertionError with what it complained of."""
    process = await asyncio.create_subprocess_exec(
        BIN / "essaim", "--host", daemon.host, *arguments,
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, err = await asyncio.wait_for(process.communicate(stdin.encode()), UP)
    assert process.returncode == 0, err.decode()
    return out.decode()


async def test_secret_and_keys_are_nowhere_on_disk_in_plain_and_files_are_private(two: list[Daemon]) -> None:
    manager, other = two
    await init(manager)
    # More than one snapshot's worth of log is not needed: a joining manager is sent a log or a snapshot either way.
    await store_secret(manager, "one")
    await join(other, manager, "Manager")
    await secrets_are(other, {"one"})
    for daemon in two:
        found = [path for path in files(daemon.state) if VALUE in path.read_bytes()]
        assert found == []
        assert (daemon.state / "keys.json").stat().st_mode & 0o777 == 0o600
        daemon.kill()
    for daemon in two:
        await daemon.start()
    await secrets_are(other, {"one"})


async def test_secret_of_a_running_task_is_nowhere_below_the_state_directory(tmp_path: Path) -> None:
    async with daemons(tmp_path) as (one,):
        await init(one)
        await store_secret(one, "pass")
        await run(
            one, "service", "create", "--name", "web", "--secret", "pass", "--no-resolve-image", "essaim/whoami"
        )  # returns when it runs
        assert [path for path in files(one.state) if VALUE in path.read_bytes()] == []


async def test_locked_manager_answers_as_docker_does_until_it_is_unlocked(two: list[Daemon]) -> None:
    manager, _ = two
    said = await run(manager, "swarm", "init", "--autolock", "--advertise-addr", manager.cluster_address)
    key = next(line.strip() for line in said.splitlines() if "SWMKEY-1-" in line)
    await store_secret(manager, "one")
    assert b"PRIVATE KEY" not in (manager.state / "keys.json").read_bytes()
    manager.kill()
    await manager.start()
    assert await state(manager) == "locked"
    async with Client(manager.host) as client:
        for method, path in (("get", "/nodes"), ("get", "/swarm/unlockkey"), ("get", "/secrets")):
            with pytest.raises(ApiError, match=LOCKED):
                await getattr(client, method)(path)
        with pytest.raises(ApiError, match="already part of a swarm"):
            await client.post("/swarm/init", {})
        with pytest.raises(ApiError, match="invalid key provided") as caught:
            await client.post("/swarm/unlock", {"UnlockKey": "SWMKEY-1-" + "A" * 43})
        assert caught.value.status == 401
        with pytest.raises(ApiError, match="invalid key string"):
            await client.post("/swarm/unlock", {"UnlockKey": "x"})
    assert await state(manager) == "locked"
    await run(manager, "swarm", "unlock", stdin=key + "\n")
    assert await state(manager) == "active"
    await secrets_are(manager, {"one"})
    async with Client(manager.host) as client:
        with pytest.raises(ApiError, match="swarm is not locked"):
            await client.post("/swarm/unlock", {"UnlockKey": key})


async def test_autolock_switched_on_rotated_and_off_reaches_every_manager(two: list[Daemon]) -> None:
    manager, other = two
    await init(manager)
    await join(other, manager, "Manager")

    async def locked(daemon: Daemon, before: bytes) -> None:
        async def changed() -> bool:
            return (daemon.state / "keys.json").read_bytes() != before

        await eventually_async(changed, UP, f"{daemon.name} has locked its keys anew")

    before = [(d.state / "keys.json").read_bytes() for d in two]
    await run(manager, "swarm", "update", "--autolock=true")
    for daemon, old in zip(two, before, strict=True):
        await locked(daemon, old)
    first = (await run(manager, "swarm", "unlock-key", "-q")).strip()
    before = [(d.state / "keys.json").read_bytes() for d in two]
    assert "Successfully rotated manager unlock key" in await run(manager, "swarm", "unlock-key", "--rotate")
    second = (await run(other, "swarm", "unlock-key", "-q")).strip()
    assert second != first
    for daemon, old in zip(two, before, strict=True):
        await locked(daemon, old)
    other.kill()
    await other.start()
    assert await state(other) == "locked"
    with pytest.raises(AssertionError, match="invalid key provided"):
        await run(other, "swarm", "unlock", stdin=first)
    await run(other, "swarm", "unlock", stdin=second)
    await store_secret(other, "two")
    before = [(d.state / "keys.json").read_bytes() for d in two]
    await run(manager, "swarm", "update", "--autolock=false")
    for daemon, old in zip(two, before, strict=True):
        await locked(daemon, old)
    manager.kill()
    await manager.start()
    assert await state(manager) == "active"
    await secrets_are(manager, {"two"})


async def test_locked_manager_leaves_by_force_and_is_free_again(two: list[Daemon]) -> None:
    manager, _ = two
    await run(manager, "swarm", "init", "--autolock", "--advertise-addr", manager.cluster_address)
    manager.kill()
    await manager.start()
    with pytest.raises(AssertionError, match="participating as a manager"):
        await run(manager, "swarm", "leave")
    await run(manager, "swarm", "leave", "--force")
    assert await state(manager) == "inactive"
    assert not (manager.state / "keys.json").exists()
    await init(manager)


async def test_state_of_a_version_without_tls_is_refused_with_the_reason(two: list[Daemon]) -> None:
    manager, _ = two
    await init(manager)
    manager.kill()
    (manager.state / "keys.json").unlink()
    said = manager.refuse()
    assert "this node's keys are missing" in said
    assert "Traceback" not in said
