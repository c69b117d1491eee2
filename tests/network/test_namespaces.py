"""The rules in a real kernel: where flows go, which stay, which are refused."""

import errno
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from essaim.cluster.overlay import VirtualService
from essaim.network import namespaces
from essaim.network.balancing import ruleset
from essaim.network.namespaces import NamespaceGone, RulesRefused

from .spaces import Server, Spaces, address

pytestmark = pytest.mark.root
VIP = "10.0.1.100"
CLIENT, ONE, TWO = 1, 2, 3


@pytest.fixture
def spaces() -> Iterator[Spaces]:
    with Spaces(3) as made:
        yield made


def group(pid: int) -> str:
    """Part of the process's control groups, as a container's id is."""
    return Path(f"/proc/{pid}/cgroup").read_text().split()[0]


def load(spaces: Spaces, number: int, *services: VirtualService, turn: int = 0) -> None:
    pid = spaces.pid(number)
    namespaces.load(pid, group(pid), ruleset("net1", services, turn))


def connected(spaces: Spaces, target: str, number: int = CLIENT) -> tuple[socket.socket, str]:
    connection = spaces.within(number, lambda: socket.create_connection((target, 80), timeout=3))
    return connection, connection.recv(99).decode()


def reached(spaces: Spaces, count: int, number: int = CLIENT) -> list[str]:
    found = []
    for _ in range(count):
        connection, name = connected(spaces, VIP, number)
        connection.close()
        found.append(name)
    return found


def said(connection: socket.socket) -> str:
    connection.send(b"?")
    return connection.recv(99).decode()


def datagrams(spaces: Spaces) -> socket.socket:
    made: socket.socket = spaces.within(CLIENT, lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    made.settimeout(3)
    made.connect((VIP, 80))
    return made


def test_new_flows_go_round_the_replicas_from_any_container_even_their_own(spaces: Spaces) -> None:
    with Server(spaces, ONE), Server(spaces, TWO):
        both = VirtualService(VIP, [address(ONE), address(TWO)])
        for number in (CLIENT, ONE):
            load(spaces, number, both)
            assert reached(spaces, 4, number) == [address(ONE), address(TWO)] * 2
        with datagrams(spaces) as first, datagrams(spaces) as second:
            assert {said(first), said(second)} == {address(ONE), address(TWO)}
            assert said(first) == said(first)


def test_flows_of_a_leaving_replica_go_on_and_end_at_once_with_it(spaces: Spaces) -> None:
    with Server(spaces, ONE), Server(spaces, TWO):
        load(spaces, CLIENT, VirtualService(VIP, [address(ONE)]))
        stream, name = connected(spaces, VIP)
        with stream, datagrams(spaces) as packets:
            assert name == said(packets) == address(ONE)
            load(spaces, CLIENT, VirtualService(VIP, [address(TWO)], [address(ONE)]))
            assert said(stream) == said(packets) == address(ONE)
            assert reached(spaces, 2) == [address(TWO)] * 2
            load(spaces, CLIENT, VirtualService(VIP, [address(TWO)]))
            with pytest.raises(ConnectionError):
                said(stream)
            # Without more, the datagrams of this socket would be refused for as long as it goes on sending.
            with pytest.raises(PermissionError):
                said(packets)
            assert packets.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == errno.ECONNREFUSED
            pid = spaces.pid(CLIENT)
            namespaces.forget_flows(pid, group(pid), {address(ONE)})
            assert said(packets) == address(TWO)


def test_address_without_replicas_refuses_at_once_and_without_a_table_is_nobody(spaces: Spaces) -> None:
    load(spaces, CLIENT, VirtualService(VIP))
    with pytest.raises(ConnectionRefusedError):
        connected(spaces, VIP)
    with datagrams(spaces) as packets, pytest.raises(PermissionError):
        said(packets)
    load(spaces, CLIENT)
    with Server(spaces, ONE):
        load(spaces, CLIENT, VirtualService(VIP, [address(ONE)]))
        assert reached(spaces, 1) == [address(ONE)]


def test_rules_that_the_kernel_refuses_leave_the_old_ones(spaces: Spaces) -> None:
    pid = spaces.pid(CLIENT)
    with Server(spaces, ONE):
        load(spaces, CLIENT, VirtualService(VIP, [address(ONE)]))
        with pytest.raises(RulesRefused, match=r"^nft: .*syntax error"):
            namespaces.load(pid, group(pid), "table ip essaim_net1\ndelete table ip essaim_net1\nnonsense {\n")
        assert reached(spaces, 1) == [address(ONE)]


def test_process_that_is_not_the_containers_is_left_alone(spaces: Spaces) -> None:
    pid = spaces.pid(CLIENT)
    for number, container in ((pid, "f" * 64), (os.getpid(), group(os.getpid())), (1 << 22, "")):
        with pytest.raises(NamespaceGone):
            namespaces.load(number, container, "flush ruleset\n")


def test_why_not_says_nothing_where_all_is_there_and_names_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    assert namespaces.why_not() == ""
    monkeypatch.setattr(namespaces, "sample", lambda: "table ip t {\n  chain c {\n    ip daddr 1 frobnicate\n  }\n}\n")
    assert "syntax error" in namespaces.why_not()
    monkeypatch.setenv("PATH", "/nowhere")
    assert namespaces.why_not() == "the program unshare is not there"
