"""Every listener of real daemons under a flood before authentication, with few descriptors: nodes stay `ready`, the API
answers, a host can still ask to join, and memory and descriptors stay within bounds."""

import asyncio
import contextlib
import os
import ssl
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
import pytest_asyncio
from prometheus_client.parser import text_string_to_metric_families

from essaim.api.client import Client
from tests.api.certificates import Certificates
from tests.daemon.processes import Daemon, init, join
from tests.lab.wait import eventually_async
from tests.ports import free_port

pytestmark = [pytest.mark.blocking_allowed, pytest.mark.timeout(150)]

DESCRIPTORS = 512
LIMITED = ("prlimit", f"--nofile={DESCRIPTORS}:{DESCRIPTORS}")
CROWD = 700
SECONDS = 2.5
"""How long a flood goes on once it has begun: more heartbeats than a node may miss."""
ANSWER_SECONDS = 3.0
MEMORY = 64 << 20
ROOT = Path(__file__).parents[2]


def without_rights() -> tuple[str, ...]:
    """As root a daemon would raise its own limit."""
    if os.geteuid():
        return LIMITED
    return (*LIMITED, "setpriv", "--bounding-set=-sys_resource", "--inh-caps=-sys_resource")


class Cluster:
    def __init__(self, folder: Path) -> None:
        certificates = Certificates(folder)
        tls = ("--tlscacert", certificates.ca, "--tlscert", certificates.server, "--tlskey", certificates.server_key)
        self.plain, self.tls, self.metrics = (f"127.0.0.1:{free_port('127.0.0.1')}" for _ in range(3))
        flags = ("--runtime", "process", "--api-addr", self.plain, "--metrics-addr", self.metrics)
        self.manager = Daemon(folder, 1, flags)
        self.worker = Daemon(folder, 2, ("--runtime", "process", "--api-addr", self.tls, *map(str, tls)))
        self.manager.prefix = self.worker.prefix = without_rights()

    def descriptors(self) -> int:
        return max(len(os.listdir(f"/proc/{daemon.pid}/fd")) for daemon in (self.manager, self.worker))

    def memory(self) -> int:
        """Resident bytes of both."""
        return sum(
            int(Path(f"/proc/{daemon.pid}/statm").read_text().split()[1]) * 4096
            for daemon in (self.manager, self.worker)
        )

    async def well(self) -> None:
        """The API answers on both sockets, every node is ready, and strangers are heard on the managers' port."""
        began = time.monotonic()
        async with asyncio.timeout(ANSWER_SECONDS), Client(self.manager.host) as client:
            assert [n["Status"]["State"] for n in await client.get("/nodes")] == ["ready", "ready"]
        async with asyncio.timeout(ANSWER_SECONDS), Client(self.worker.host) as client:
            assert (await client.get("/info"))["Swarm"]["LocalNodeState"] == "active"
        async with asyncio.timeout(ANSWER_SECONDS), aiohttp.ClientSession() as client:
            context = ssl.create_default_context()
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            async with client.get(f"https://{self.manager.cluster_address}/cluster/ca", ssl=context) as reply:
                assert (await reply.text()).startswith("-----BEGIN CERTIFICATE")
        async with asyncio.timeout(ANSWER_SECONDS), Client(f"tcp://{self.plain}") as client:
            await client.get("/_ping")
        async with asyncio.timeout(ANSWER_SECONDS), Client(f"tcp://{self.metrics}") as client:
            page = (await client.get_raw("/metrics")).decode()
        families = {family.name: family for family in text_string_to_metric_families(page)}
        assert families["essaim_leader"].samples[0].value == 1
        assert time.monotonic() - began < ANSWER_SECONDS


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def cluster(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Cluster]:
    made = Cluster(tmp_path_factory.mktemp("floods"))
    try:
        await made.manager.start()
        await made.worker.start()
        await init(made.manager)
        await join(made.worker, made.manager)
        await eventually_async(lambda: _ready(made), 20, "both nodes are ready")
        yield made
    finally:
        made.worker.end()
        made.manager.end()


async def _ready(made: Cluster) -> bool:
    async with Client(made.manager.host) as client:
        return [n["Status"]["State"] for n in await client.get("/nodes")] == ["ready", "ready"]


@contextlib.asynccontextmanager
async def flood(how: str, addresses: list[str]) -> AsyncIterator[None]:
    command = [sys.executable, "-m", "tests.daemon.floods", how, str(CROWD), *addresses]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        async with asyncio.timeout(60):
            assert await asyncio.to_thread(process.stdout.readline) == b"opened\n"
        yield
    finally:
        process.kill()
        process.communicate()


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("how", ["idle", "half", "slow", "tls", "body"])
async def test_daemons_under_a_flood_at_every_listener_stay_well(cluster: Cluster, how: str) -> None:
    ports = [] if how == "body" else [cluster.manager.cluster_address]
    if how not in ("tls", "body"):
        ports += [cluster.tls]
    if how not in ("half", "tls"):
        ports += [cluster.plain, cluster.metrics, str(cluster.manager.socket), str(cluster.worker.socket)]
    before = cluster.memory()
    async with flood(how, ports):
        end = time.monotonic() + SECONDS
        while time.monotonic() < end:
            assert cluster.descriptors() < DESCRIPTORS * 0.8
            await cluster.well()
    assert cluster.memory() < before + MEMORY
    said = cluster.manager.log.read_text() + cluster.worker.log.read_text()
    assert "Traceback" not in said
    assert said.count("no descriptors left") == 0
