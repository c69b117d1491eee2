"""The kernel's table of flows as read here: beside another reader's, whatever bytes come, and without growing."""

import contextlib
import gc
import socket
import struct
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyroute2 import NFCTSocket

from essaim.cluster.overlay import VirtualService
from essaim.network import namespaces
from essaim.network.balancing import ruleset
from essaim.network.conntrack import (
    ATTRIBUTE,
    DELETE,
    FAMILY,
    HEADER,
    TUPLE_ORIG,
    Conntrack,
    Flow,
    attributes,
    flow_of,
    messages,
    packed,
)

from .spaces import Server, Spaces, address

CLIENT, SERVER = 1, 2
MANY = 300


@pytest.fixture
def spaces() -> Iterator[Spaces]:
    with Spaces(2) as made:
        yield made


def track(spaces: Spaces) -> None:
    """Load rules, for which the kernel begins to follow the client's flows."""
    pid = spaces.pid(CLIENT)
    group = Path(f"/proc/{pid}/cgroup").read_text().split()[0]
    namespaces.load(pid, group, ruleset("net1", [VirtualService("10.0.1.100", [address(SERVER)])], 0))


def send(spaces: Spaces, count: int) -> None:
    """So many UDP flows, and one of TCP."""

    def each() -> None:
        for _ in range(count):
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
                one.sendto(b"?", (address(SERVER), 80))
        socket.create_connection((address(SERVER), 80), timeout=3).close()

    spaces.within(CLIENT, each)


def looked() -> list[Flow]:
    with Conntrack(5.0) as tracking:
        return list(tracking.flows())


def looked_by_pyroute2() -> list[tuple[str, int]]:
    with NFCTSocket() as tracking:
        replies = [entry.get_attr("CTA_TUPLE_REPLY") for entry in tracking.dump()]
    return [
        (
            one.get_attr("CTA_TUPLE_IP").get_attr("CTA_IP_V4_SRC"),
            one.get_attr("CTA_TUPLE_PROTO").get_attr("CTA_PROTO_NUM"),
        )
        for one in replies
    ]


@pytest.mark.root
def test_flows_are_those_that_another_reader_sees_and_end_when_told(spaces: Spaces) -> None:
    track(spaces)
    with Server(spaces, SERVER):
        send(spaces, MANY)
        flows = spaces.within(CLIENT, looked)
        assert len(flows) > MANY * 0.8  # some had the same port one after the other
        assert sorted((f.answers_from, f.protocol) for f in flows) == sorted(spaces.within(CLIENT, looked_by_pyroute2))
        over = [flow for flow in flows if flow.protocol == socket.IPPROTO_UDP]

        def end() -> None:
            with Conntrack(5.0) as tracking:
                for flow in [*over, over[0]]:  # once more: it has ended already
                    tracking.end(flow)

        spaces.within(CLIENT, end)
        assert {flow.protocol for flow in spaces.within(CLIENT, looked)} == {socket.IPPROTO_TCP}


@pytest.mark.root
def test_looks_at_many_flows_leave_nothing_behind(spaces: Spaces) -> None:
    """Also when cycles are rarely collected, as in the daemon."""
    track(spaces)
    with Server(spaces, SERVER):
        send(spaces, MANY)
        gc.disable()
        tracemalloc.start()
        try:
            spaces.within(CLIENT, looked)
            before, _ = tracemalloc.get_traced_memory()
            for _ in range(10):
                spaces.within(CLIENT, looked)
            after, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
            gc.enable()
    assert after - before < 200_000


contents = st.dictionaries(st.integers(1, 0x3FFF), st.binary(max_size=40), max_size=6)


@given(contents)
def test_attributes_are_read_back_as_packed(parts: dict[int, bytes]) -> None:
    ((kind, payload),) = messages(packed(DELETE, 0, *parts.items()))
    assert kind == DELETE
    assert attributes(payload[FAMILY.size :]) == parts


@given(st.binary(max_size=200))
def test_bytes_that_are_no_messages_raise_os_errors_only(data: bytes) -> None:
    for read in (lambda data: list(messages(data)), attributes, flow_of):
        with contextlib.suppress(OSError):
            read(data)


def test_lengths_that_lead_nowhere_are_refused() -> None:
    with pytest.raises(OSError, match="message is cut short"):
        list(messages(HEADER.pack(0, 1, 0, 0, 0)))
    with pytest.raises(OSError, match="attribute is cut short"):
        attributes(ATTRIBUTE.pack(3, 1))


def test_flow_of_another_family_has_no_address() -> None:
    protocol = struct.pack("=HHB3x", 5, 1, 17)
    source = struct.pack("=HH16s", 20, 3, bytes(16))
    reply = packed(0, 0, (1, source), (2, protocol))[HEADER.size + FAMILY.size :]
    ((_, payload),) = messages(packed(0, 0, (TUPLE_ORIG, b"x"), (2, reply)))
    assert flow_of(payload) == Flow(b"x", "", 17)
