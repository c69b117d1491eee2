"""The recorded commands, spread over three managers, print what three managers of a real swarm print.

Half-way the leader is killed; the commands go on through the others, and through it once it is back.
"""

import asyncio
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.api.test_against_swarm import COMMANDS, STACK, Swarm, differences
from tests.lab.cluster import Cluster
from tests.lab.lab import Lab

from .managers import cluster_of, find_leader, wait_whole

pytestmark = [pytest.mark.lab, pytest.mark.timeout(300), pytest.mark.blocking_allowed]

ALONE = ("swarm init", "swarm join --token", "swarm leave", "node demote", "node promote", "node ls")
"""What makes, ends or lists a cluster of one manager."""
PORT = 2477
"""The real swarm's, since essaim has the usual one."""


@pytest.fixture
def cluster(lab: Lab) -> Iterator[Cluster]:
    with cluster_of(lab) as made:
        yield made


@pytest.fixture
def real(lab: Lab) -> list[str]:
    """The hosts' own Engines as three managers of a swarm; their addresses."""
    first = lab.hosts[0]
    where = f"{first.address}:{PORT}"
    first.docker("swarm", "init", "--advertise-addr", where, "--listen-addr", where)
    token = first.docker("swarm", "join-token", "-q", "manager")
    for host in lab.hosts[1:]:
        own = f"{host.address}:{PORT}"
        host.docker("swarm", "join", "--token", token, "--advertise-addr", own, "--listen-addr", own, where)
    return [host.engine_url for host in lab.hosts]


async def test_commands_over_three_managers_print_what_swarm_prints(
    cluster: Cluster, real: list[str], tmp_path: Path
) -> None:
    (tmp_path / "text").write_text("hush")
    (tmp_path / "stack.yml").write_text(STACK)
    masks = {f"{host.address}:{PORT}": f"{host.address}:2377" for host in cluster.lab.hosts}
    theirs = [Swarm(url, tmp_path, masks) for url in real]
    ours = [Swarm(cluster.url(host), tmp_path) for host in cluster.lab.hosts]
    commands = [line for line in COMMANDS.strip().splitlines() if not line.startswith(ALONE)]
    half = len(commands) // 2
    found = await differences(theirs, ours, commands[:half])

    leader = await find_leader(cluster)
    daemon = cluster.daemons[leader.name]
    daemon.signal(signal.SIGKILL)
    await asyncio.to_thread(daemon.wait, 30)
    left = [number for number, host in enumerate(cluster.lab.hosts) if host is not leader]
    others = ([theirs[n] for n in left], [ours[n] for n in left])
    await find_leader(cluster, leader)
    found += await differences(*others, commands[half : half + 10], half)

    cluster.start_daemon(leader)
    await wait_whole(cluster)
    found += await differences(theirs, ours, commands[half + 10 :], half + 10)
    assert not found, found
