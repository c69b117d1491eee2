"""A certificate from a secret reaches every gateway, also on a host that runs nothing else; a broken one is told."""

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from essaim.api.client import Client
from tests.certificates import made
from tests.daemon.processes import Daemon, daemons, init, join
from tests.lab.wait import eventually_async
from tests.ports import free_port

pytestmark = [pytest.mark.timeout(120), pytest.mark.blocking_allowed]


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[list[Daemon]]:
    """A manager, a worker, and a host that only serves the mesh."""
    async with daemons(tmp_path, 2) as made_ones:
        await init(made_ones[0])
        await join(made_ones[1], made_ones[0])
        async with Client(made_ones[0].host) as client:
            token = (await client.get("/swarm"))["JoinTokens"]["Worker"]
        edge = Daemon(tmp_path, 3, ("--gateway-only", "--join", made_ones[0].cluster_address, "--token", token))
        try:
            await edge.start()
            yield [*made_ones, edge]
        finally:
            edge.end()


async def status(daemon: Daemon) -> dict[str, Any]:
    async with Client(daemon.host) as client:
        found: dict[str, Any] = await client.get("/essaim/v1/lb/status")
    return found


def essaim(daemon: Daemon, *arguments: str) -> str:
    done = daemon.essaim(*arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout


async def test_certificates_of_secrets_reach_every_gateway(cluster: list[Daemon], tmp_path: Path) -> None:
    manager, _, edge = cluster
    good, broken = tmp_path / "good.pem", tmp_path / "broken.pem"
    good.write_bytes(made.pair("shop.example.org"))
    broken.write_bytes(b"".join(made.issued("x.example.org")[0]) + made.encrypted())
    for name, path in (("shop", good), ("broken", broken)):
        await asyncio.to_thread(essaim, manager, "secret", "create", name, str(path))
    labels = ("--label", "essaim.tls.certificate=shop,broken")
    create = ("service", "create", "--no-resolve-image", "--replicas", "0", "--detach", "--name", "web", *labels)
    await asyncio.to_thread(essaim, manager, *create, "essaim/whoami")

    async def everywhere() -> bool:
        found = [await status(daemon) for daemon in cluster]
        return all([c["name"] for c in one.get("certificates", [])] == ["secret shop"] for one in found)

    await eventually_async(everywhere, 30, "every gateway has the certificate")
    shown = await asyncio.to_thread(essaim, edge, "lb", "status")
    assert re.search(r"warning: service web: certificate broken cannot be used: the private key is encrypted", shown), (
        shown
    )
    async with Client(edge.host) as client:
        metrics = (await client.get_raw("/essaim/v1/metrics")).decode()
    assert 'essaim_gateway_certificate_not_after_seconds{name="secret shop"}' in metrics
    assert "the private key is encrypted" in manager.log.read_text()
    for daemon in cluster:
        assert not any(b"PRIVATE KEY" in path.read_bytes() for path in (daemon.state / "agent").rglob("*"))
        assert not any(
            b"PRIVATE KEY" in path.read_bytes() for path in (daemon.state / "gateway").rglob("*.*") if path.is_file()
        )


async def test_node_with_the_label_serves_nothing_and_has_no_keys_until_it_goes(
    cluster: list[Daemon], tmp_path: Path
) -> None:
    manager, worker, _ = cluster
    pem, port = tmp_path / "shop.pem", free_port("127.0.0.1")
    pem.write_bytes(made.pair("shop.example.org"))
    await asyncio.to_thread(essaim, manager, "secret", "create", "shop", str(pem))
    create = (
        "service", "create", "--no-resolve-image", "--replicas", "1", "--detach", "--name", "web",
        "--label", "essaim.tls.certificate=shop", "--publish", f"published={port},target=80,app_protocol=http",
    )  # fmt: skip
    await asyncio.to_thread(essaim, manager, *create, "essaim/whoami")

    async def serving() -> dict[str, bool | None]:
        """By host name, whether the node listens; checked against what it knows of keys and says itself."""
        found = dict[str, bool | None]()
        for daemon in cluster:
            said = await status(daemon)
            listens = await connects(daemon.address, port)
            has_keys = [one["name"] for one in said["certificates"]] == ["secret shop"]
            found[daemon.name] = listens if listens == has_keys == said["serves"] else None
        return found

    def expect(*names: str) -> Callable[[], Awaitable[bool]]:
        async def so() -> bool:
            return await serving() == {daemon.name: daemon.name in names for daemon in cluster}

        return so

    async def rendered() -> set[str]:
        text = await asyncio.to_thread(essaim, manager, "lb", "render", "haproxy")
        return {daemon.name for daemon in cluster if f"{daemon.address}:{port}" in text}

    await eventually_async(expect("node1", "node2", "node3"), 30, "all serve")
    assert await rendered() == {"node1", "node2", "node3"}
    await asyncio.to_thread(essaim, manager, "node", "update", "--label-add", "essaim.gateway=false", "node2")
    await eventually_async(expect("node1", "node3"), 30, "the worker serves no more")
    assert await rendered() == {"node1", "node3"}
    # It stays so, although no manager has told it anything new.
    worker.kill()
    await worker.start()
    await eventually_async(expect("node1", "node3"), 30, "the worker serves nothing after a restart")
    await asyncio.to_thread(essaim, manager, "node", "update", "--label-rm", "essaim.gateway", "node2")
    await eventually_async(expect("node1", "node2", "node3"), 30, "the worker serves again")
    assert await rendered() == {"node1", "node2", "node3"}


async def connects(host: str, port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection(host, port)
    except OSError:
        return False
    writer.close()
    return True
