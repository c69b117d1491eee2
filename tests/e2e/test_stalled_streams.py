"""Clients that stop reading, or sending, in the middle of what the API passes on to an Engine of its own node and of
another one: sessions go on, memory is bounded, others are served, and whoever reads on gets the rest."""

import json
import socket
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.lab.cluster import Cluster
from tests.lab.host import Host
from tests.lab.images import busybox_image
from tests.lab.lab import Lab
from tests.lab.wait import eventually

pytestmark = [pytest.mark.lab, pytest.mark.timeout(240)]
LAB_HOSTS = 2
IMAGE = "big:1"
MEGABYTE = 1 << 20
HOLD = 6.0
"""Seconds: twice the silence after which a node is down."""
MOST_MEMORY = 30 * MEGABYTE
"""Bytes by which a daemon may grow meanwhile; each stream alone would bring more."""
EACH = 3
"""Clients of a kind."""


@pytest.fixture
def cluster(lab: Lab) -> Iterator[Cluster]:
    lab.load_image(busybox_image(IMAGE, ["sh", "-c", "dd if=/dev/zero of=/big bs=1M count=64; exec sleep 1000"]))
    with Cluster(lab, managers=1, shared_sockets=True) as made:
        yield made


class Caller:
    """A request to the first host's API by hand, so that it can stop at any place."""

    def __init__(self, cluster: Cluster, method: str, path: str, *, head: str = "", body: bytes = b"") -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(20)
        self._socket.connect(cluster.url(cluster.first).removeprefix("unix://"))
        length = "" if "Transfer-Encoding" in head else f"Content-Length: {len(body)}\r\n"
        lines = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n{length}{head}\r\n"
        self._socket.sendall(lines.encode() + body)

    def status(self) -> int:
        head = b""
        while b"\r\n\r\n" not in head:
            head += self._socket.recv(1)
        return int(head.split()[1])

    def take(self, count: int) -> None:
        """So many bytes more."""
        while count > 0:
            data = self._socket.recv(min(count, MEGABYTE))
            assert data, f"the stream ended, {count} bytes too early"
            count -= len(data)

    def rest(self) -> bytes:
        found = b""
        while data := self._socket.recv(MEGABYTE):
            found += data
        return found

    def push(self, most: int) -> int:
        """Send chunks until nobody takes any for a moment; how many bytes went."""
        self._socket.settimeout(1)
        sent = 0
        try:
            while sent < most:
                sent += self._socket.send(b"10000\r\n" + bytes(65536) + b"\r\n")
        except TimeoutError:
            pass
        return sent

    def close(self) -> None:
        self._socket.close()


def call(cluster: Cluster, method: str, path: str, body: Any = None) -> Any:
    data = b"" if body is None else json.dumps(body).encode()
    caller = Caller(cluster, method, path, head="Connection: close\r\n", body=data)
    status, answer = caller.status(), caller.rest()
    caller.close()
    assert status < 300, answer
    return json.loads(answer)


def exec_of(cluster: Cluster, container: str, *words: str) -> Caller:
    made = call(cluster, "POST", f"/containers/{container}/exec", {"Cmd": list(words), "AttachStdout": True})
    upgrade = "Connection: Upgrade\r\nUpgrade: tcp\r\n"
    return Caller(cluster, "POST", f"/exec/{made['Id']}/start", head=upgrade, body=b'{"Detach":false}')


def memory(cluster: Cluster, host: Host) -> int:
    """Bytes that the host's daemon holds."""
    status = Path(f"/proc/{cluster.daemons[host.name].pid}/status").read_text()
    return next(int(line.split()[1]) << 10 for line in status.splitlines() if line.startswith("VmRSS:"))


def sessions(cluster: Cluster, host: Host) -> int:
    return cluster.daemons[host.name].stderr_path.read_text().count("session with a manager open")


def containers(cluster: Cluster, service: str) -> list[str]:
    """Of the service, one a host."""
    cluster.wait_running(service, 2)
    chosen = ["ps", "--format", "{{.Names}}", "--filter", f"label=com.docker.swarm.service.name={service}"]
    return [host.docker(*chosen) for host in cluster.lab.hosts]


def is_written(host: Host, stat: list[str]) -> bool:
    return host.docker(*stat, check=False) == str(64 * MEGABYTE)


def test_clients_that_stand_still_in_an_engines_stream_hold_up_nothing(cluster: Cluster) -> None:
    create = ["service", "create", "--detach", "--no-resolve-image", "--mode", "global", "--name"]
    # An Engine locks a container while it reads or writes its files: each kind of stream has one of its own.
    for service in ("read", "written", "talks"):
        cluster.essaim(*create, service, IMAGE)
    names = {service: containers(cluster, service) for service in ("read", "written", "talks")}
    for host, name in zip(cluster.lab.hosts, names["read"], strict=True):
        stat = ["exec", name, "stat", "-c", "%s", "/big"]
        eventually(partial(is_written, host, stat), 30, "the big file is there")
    readers = [Caller(cluster, "GET", f"/containers/{n}/archive?path=/big") for n in names["read"]]
    readers += [Caller(cluster, "GET", f"/images/{IMAGE}/get") for _ in range(EACH)]
    typing = [exec_of(cluster, n, "yes") for n in names["talks"] for _ in range(EACH)]
    for reader in readers:
        assert reader.status() == 200
        reader.take(1000)
    for one in typing:
        assert one.status() == 101
        one.take(1000)
    chunked = "Transfer-Encoding: chunked\r\n"
    senders = [Caller(cluster, "PUT", f"/containers/{n}/archive?path=/", head=chunked) for n in names["written"]]
    senders += [Caller(cluster, "POST", "/build", head=chunked)]
    for sender in senders:
        sender.push(65536)
    before = {host.name: memory(cluster, host) for host in cluster.lab.hosts}
    opened = {host.name: sessions(cluster, host) for host in cluster.lab.hosts}
    until = time.monotonic() + HOLD
    cluster.essaim(*create, "other", IMAGE)
    cluster.wait_running("other", 2)
    for name in names["talks"]:
        another = exec_of(cluster, name, "echo", "served")
        assert another.status() == 101
        assert b"served" in another.rest()
        another.close()
    eventually(lambda: time.monotonic() >= until, HOLD + 5, "the clients stand still")
    assert [node["Status"] for node in cluster.nodes()] == ["Ready", "Ready"]
    for host in cluster.lab.hosts:
        assert sessions(cluster, host) == opened[host.name], "a session broke"
        assert memory(cluster, host) - before[host.name] < MOST_MEMORY
    for reader in readers[:2]:
        reader.take(64 * MEGABYTE)
    for one in typing:
        one.take(8 * MEGABYTE)
    for client in (*readers, *typing, *senders):
        client.close()
