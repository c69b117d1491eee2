"""What newcomers get wrong, on a real daemon: each mistake is answered with what to do."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.daemon.processes import Daemon, daemons, init
from tests.lab.wait import eventually_async
from tests.ports import free_port

pytestmark = [pytest.mark.timeout(120), pytest.mark.blocking_allowed]
ROUTER = "traefik.http.routers.shop.rule=Host(`shop.test`)"


@pytest.fixture
async def manager(tmp_path: Path) -> AsyncIterator[Daemon]:
    async with daemons(tmp_path) as (one,):
        await init(one)
        yield one


async def says(daemon: Daemon, words: str, *command: str) -> None:
    """The command's output has the words soon."""

    async def has_words() -> bool:
        done = await asyncio.to_thread(daemon.essaim, *command)
        return words in " ".join((done.stdout + done.stderr).split())

    await eventually_async(has_words, 20, f"{words!r} in what {command} says")


async def test_router_of_a_service_without_a_port_is_told_by_every_command(manager: Daemon) -> None:
    made = manager.essaim("service", "create", "--detach", "--name", "shop", "--label", ROUTER, "essaim/whoami")
    reason = "router shop is not served: the service 'shop' has no port that the gateway knows: add the label"
    assert reason in made.stderr
    await says(manager, f"shop: warning: {reason}", "lb", "status")
    await says(manager, f"gateway: {reason}", "service", "explain", "shop")
    port = "traefik.http.services.shop.loadbalancer.server.port=80"
    manager.essaim("service", "update", "--detach", "--label-add", port, "shop")
    await says(manager, "up", "lb", "status", "shop")
    assert reason not in manager.essaim("lb", "status").stdout


async def test_image_on_a_node_without_docker_is_rejected_ever_more_rarely_with_the_reason(manager: Daemon) -> None:
    port = str(free_port("127.0.0.1"))
    manager.essaim("service", "create", "--detach", "--name", "cache", "--publish", f"{port}:6379", "redis:alpine")
    await says(manager, "attempt 3 at ", "service", "explain", "cache")
    said = manager.essaim("service", "explain", "cache").stdout
    assert "cache: 0 of 1 replicas running" in said
    assert "this node runs tasks as plain processes and has no images: redis:alpine cannot run here" in said
    assert "what to do: Images need Docker" in said
    rejected = manager.essaim("service", "ps", "cache", "--filter", "desired-state=shutdown", "--quiet").stdout.split()
    assert len(rejected) <= 3
    shown = manager.essaim("inspect", rejected[0], "--format", "{{.Status.State}}: {{.Status.Err}}").stdout
    assert shown.startswith("rejected: this node runs tasks as plain processes")


async def test_join_of_a_host_that_has_no_address_names_it(tmp_path: Path) -> None:
    async with daemons(tmp_path, 2, tasks=False) as (one, other):
        await init(one)
        token = one.essaim("swarm", "join-token", "-q", "worker").stdout.strip()
        done = await asyncio.to_thread(other.essaim, "swarm", "join", "--token", token, "nohost.invalid:2377")
        assert (
            "could not reach the manager at nohost.invalid:2377: there is no host named nohost.invalid" in done.stderr
        )
