"""Five real daemons share the checks of a service's replicas, and go by what any of them finds."""

import asyncio
import os
import re
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from essaim.api.client import Client
from tests.daemon.processes import Daemon, daemons, init, join
from tests.lab.wait import eventually_async
from tests.ports import free_port

pytestmark = [pytest.mark.timeout(180), pytest.mark.blocking_allowed]
REPLICAS = 5
CHECKERS = 3
INTERVAL = 0.5


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[list[Daemon]]:
    async with daemons(tmp_path, 5) as made:
        await init(made[0])
        for other in made[1:]:
            await join(other, made[0])
        yield made


async def endpoints(daemon: Daemon) -> dict[str, dict[str, Any]]:
    """What a node's gateway says of each task's endpoint."""
    async with Client(daemon.host) as client:
        status = await client.get("/essaim/v1/lb/status")
    return {
        one["task_id"]: one for service in status["services"] for port in service["ports"] for one in port["endpoints"]
    }


async def metric(daemon: Daemon, name: str) -> float:
    """The sum of a metric's values on a node."""
    async with Client(daemon.host) as client:
        text = (await client.get_raw("/essaim/v1/metrics")).decode()
    return sum(float(value) for value in re.findall(rf"^{name}(?:{{.*}})? (\S+)$", text, re.M))


async def total(cluster: list[Daemon], name: str) -> float:
    return sum([await metric(daemon, name) for daemon in cluster])


async def test_checks_are_shared_and_a_dead_replica_is_known_everywhere(cluster: list[Daemon]) -> None:
    command = ["service", "create", "--no-resolve-image", "--name", "web", "--replicas", str(REPLICAS), "--publish"]
    command += [f"published={free_port('127.0.0.1')},target=80,app_protocol=http"]
    for label in ("path=/", f"interval={INTERVAL}s", "timeout=500ms"):
        command += ["--label", f"essaim.healthcheck.{label}"]
    done = await asyncio.to_thread(cluster[0].essaim, *command, "essaim/whoami")
    assert done.returncode == 0, done.stderr

    async def settled() -> bool:
        seen = [await endpoints(daemon) for daemon in cluster]
        everywhere = all(
            len(one) == REPLICAS and all(e["found_by"] and e["reason"] == "check passed" for e in one.values())
            for one in seen
        )
        return everywhere and await total(cluster, "essaim_gateway_check_targets") == CHECKERS * REPLICAS

    await eventually_async(settled, 60, "every gateway knows of every replica, and three check each")
    loop = asyncio.get_running_loop()
    began, before = loop.time(), await total(cluster, "essaim_gateway_checks_total")

    async def checked() -> bool:
        return await total(cluster, "essaim_gateway_checks_total") - before >= 6 * CHECKERS * REPLICAS

    await eventually_async(checked, 60, "replicas are checked")
    made, intervals = await total(cluster, "essaim_gateway_checks_total") - before, (loop.time() - began) / INTERVAL
    # Every gateway alone would make five checks for each three.
    assert made <= CHECKERS * REPLICAS * (intervals + 1)

    async with Client(cluster[0].host) as client:
        victim = (await client.get("/tasks", query={"filters": '{"service":["web"]}'}))[0]
    os.kill(victim["Status"]["ContainerStatus"]["PID"], signal.SIGSTOP)
    names = {daemon.name for daemon in cluster}

    async def known() -> bool:
        seen = [(await endpoints(daemon)).get(victim["ID"], {}) for daemon in cluster]
        return all(
            (one.get("verdict"), one.get("reason")) == ("down", "no answer within 0.5 s") and one["found_by"] in names
            for one in seen
        )

    try:
        await eventually_async(known, 30, "every gateway knows that the replica does not answer")
        shown = await asyncio.to_thread(cluster[4].essaim, "lb", "status", "web")
        assert re.search(r"down +no answer within 0.5 s +node\d", shown.stdout), shown.stdout
        assert await metric(cluster[4], "essaim_gateway_down_info") == 1
    finally:
        os.kill(victim["Status"]["ContainerStatus"]["PID"], signal.SIGCONT)
    await eventually_async(settled, 30, "it is up again everywhere")
