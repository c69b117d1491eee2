"""A host that vanishes without a word (its link goes down) ends the streams that went through it."""

import asyncio
import contextlib
import sys
import time
from collections.abc import Iterator

import pytest

from essaim.daemon.peers.liveness import CHECK, COUNT, IDLE, INTERVAL, SILENCE, Liveness
from tests.lab.cluster import Cluster
from tests.lab.host import Host
from tests.lab.lab import Lab
from tests.lab.wait import eventually

pytestmark = [pytest.mark.lab, pytest.mark.timeout(120), pytest.mark.blocking_allowed]
CLIENT = ["docker", "-H", "unix:///run/essaim/essaim.sock"]
FOUND = max(SILENCE + CHECK, IDLE + COUNT * INTERVAL) + 5
"""Seconds within which the end is found, and 5 for a busy machine."""
GREETER = """
import socket
server, held = socket.create_server(("", 9000)), []
while True:
    held.append(server.accept()[0])
    held[-1].sendall(b"hello\\n")
"""


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    with Lab(hosts=3, engines=False) as lab, Cluster(lab, flags=("--runtime", "process")) as made:
        yield made


async def outlived(host: Host) -> list[float]:
    """Pulls the host's cable; how many seconds later a silent connection ends, and one that had something to say."""
    streams = [await asyncio.open_connection(host.address, 9000) for _ in range(2)]
    for reader, writer in streams:
        assert await reader.readline() == b"hello\n"
        Liveness(writer.get_extra_info("socket")).start()
    host.unplug()
    before = time.monotonic()
    streams[1][1].write(b"are you there?\n")

    async def end(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> float:
        with contextlib.suppress(OSError):
            assert await reader.read() == b""
        took = time.monotonic() - before
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
        return took

    async with asyncio.timeout(60):
        return await asyncio.gather(*(end(*stream) for stream in streams))


def test_streams_from_a_host_that_vanished_end_in_time_and_others_go_on(cluster: Cluster) -> None:
    """Bare connections, and of a log followed through another manager the part that came from there."""
    cluster.essaim("service", "create", "--detach", "--name", "web", "--mode", "global", "essaim/whoami")
    cluster.wait_running("web", 3)
    leader, second, _ = cluster.lab.hosts
    following = second.popen([*CLIENT, "service", "logs", "-f", "web"], name="following")
    eventually(lambda: following.stdout_path.read_text().count("listens") == 3, 30, "the log of all three flows")
    leader.popen([sys.executable, "-c", GREETER], name="greeter")
    eventually(lambda: leader.run(["ss", "-Hltn", "sport", "=", "9000"]).stdout.strip(), 10, "the greeter listens")
    before = time.monotonic()
    silent, asked = asyncio.run(outlived(leader))
    # The other tasks' output goes on, and the end of this one's does not look like its own.
    eventually(lambda: " is down " in following.stdout_path.read_text(), FOUND, "whose output has ended is said")
    assert time.monotonic() - before < FOUND
    assert following.poll() is None
    following.kill()
    assert silent < FOUND
    assert asked < FOUND
