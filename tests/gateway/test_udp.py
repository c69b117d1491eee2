"""Flows of datagrams, over real sockets in one process."""

import asyncio
import contextlib
import errno
import socket
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from essaim.gateway.protocol.messages import EndpointPlan, PortPlan, ServicePlan
from essaim.gateway.protocol.options import ServiceOptions
from essaim.gateway.runtime.deadlines import Deadlines
from essaim.gateway.udp import forward as udp
from essaim.gateway.udp.flows import FlowTable
from essaim.gateway.udp.forward import UdpPort
from essaim.gateway.upstream.backend import Backend, Endpoint
from essaim.gateway.worker.draining import DrainingEndpoints

from .conftest import until


class Rig:
    """A port and two replicas that answer with their names; the deadlines's time is the test's."""

    def __init__(self, most: int = 1000, **options: Any) -> None:
        self.replicas = {name: _socket() for name in ("a", "b")}
        plans = [
            EndpointPlan(name, name, "n", "127.0.0.1", sock.getsockname()[1], True, False, None, 0)
            for name, sock in self.replicas.items()
        ]
        self.plan = PortPlan("p", "udp", 0, 80, plans)
        turns = memoryview(bytearray(4)).cast("I")
        self.backend = Backend(self.plan, turns, ("n", None), lambda endpoint, reason: None, lambda: None)
        service = ServicePlan("s", "s", ServiceOptions(**options), [self.plan])
        self.backend.update(service, self.plan, {}, 0.0)
        self.deadlines = Deadlines()
        sock = _socket()
        self.address = sock.getsockname()
        self.table = FlowTable[udp.Flow](most)
        self.port = UdpPort(sock, lambda: self.backend, self.deadlines, self.table)
        self.clients: list[socket.socket] = []

    def client(self, address: str = "127.0.0.1") -> socket.socket:
        self.clients.append(_socket(address))
        return self.clients[-1]

    async def served_by(self, client: socket.socket) -> str:
        """Which replica a datagram of this client reaches."""
        client.sendto(b"x", self.address)
        arrived: list[str] = []

        def look() -> bool:
            for name, sock in self.replicas.items():
                with contextlib.suppress(BlockingIOError):
                    sock.recv(65_535)
                    arrived.append(name)
            return bool(arrived)

        await until(look, 10)
        return arrived[0]

    @property
    def endpoints(self) -> dict[str, Endpoint]:
        return self.backend.endpoints

    def close(self) -> None:
        self.port.close()
        for sock in (*self.clients, *self.replicas.values()):
            sock.close()


def _socket(address: str = "127.0.0.1") -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    sock.bind((address, 0))
    return sock


@pytest.fixture
async def rig() -> AsyncIterator[Callable[..., Rig]]:
    made: list[Rig] = []

    def make(**options: Any) -> Rig:
        made.append(Rig(**options))
        return made[-1]

    yield make
    for one in made:
        one.close()


async def test_flows_are_hashed_by_their_source_where_the_service_asks_for_it(rig: Callable[..., Rig]) -> None:
    here = rig(balance="hash", hash_key="source")
    by_source = {}
    for number in range(1, 17):
        address = f"127.0.0.{number}"
        by_source[address] = {await here.served_by(here.client(address)) for _ in range(2)}
        # Bounded load is another matter.
        for flow in list(here.deadlines.members):
            flow.expire()
    assert all(len(names) == 1 for names in by_source.values()), by_source
    assert {"a", "b"} == {name for names in by_source.values() for name in names}


async def test_flows_that_rest_end_with_their_replica_and_busy_ones_move_when_it_is_gone(
    rig: Callable[..., Rig],
) -> None:
    here = rig(drain_idle=2.0, udp_timeout=60.0)
    client = here.client()
    name = await here.served_by(client)
    endpoint, departing = here.endpoints[name], DrainingEndpoints(here.deadlines)
    endpoint.usable, endpoint.draining = False, True
    here.backend.refresh(0.0)
    departing.drain(endpoint)
    departing.settle()
    [flow] = here.deadlines.members
    assert flow.deadline == 2.0
    here.deadlines.now = 1.5
    assert await here.served_by(client) == name
    assert flow.deadline == 3.5
    departing.vanish(endpoint)
    departing.settle()
    assert endpoint.open == 0
    assert await here.served_by(client) != name


async def test_datagram_that_is_too_long_for_the_way_says_nothing_of_the_replica(rig: Callable[..., Rig]) -> None:
    here = rig()
    client = here.client()
    name = await here.served_by(client)
    [flow] = here.deadlines.members
    assert isinstance(flow, udp.Flow)
    for number in (errno.EMSGSIZE, errno.EPERM):
        here.port.failed(flow, OSError(number, "x"))
    assert here.endpoints[name].connect_errors == 0
    assert await here.served_by(client) == name
    here.port.failed(flow, OSError(errno.ECONNREFUSED, "refused"))
    assert here.endpoints[name].connect_errors == 1
    assert await here.served_by(client) != name


async def test_without_a_descriptor_left_a_new_flow_is_dropped_and_the_others_go_on(
    rig: Callable[..., Rig], monkeypatch: pytest.MonkeyPatch
) -> None:
    here = rig()
    known, late = here.client(), here.client()
    name = await here.served_by(known)
    tried, failures = asyncio.Event(), list[dict[str, Any]]()
    asyncio.get_running_loop().set_exception_handler(lambda _, context: failures.append(context))

    def full(*_: object) -> socket.socket:
        tried.set()
        raise OSError(errno.EMFILE, "too many open files")

    with monkeypatch.context() as patch:
        patch.setattr(udp.socket, "socket", full)
        late.sendto(b"x", here.address)
        async with asyncio.timeout(10):
            await tried.wait()
        assert await here.served_by(known) == name
    assert await here.served_by(late) in ("a", "b")
    assert not failures
