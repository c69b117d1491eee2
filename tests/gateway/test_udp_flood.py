"""A flood of datagrams from made-up sources, beside honest clients of UDP and TCP, at a real gateway."""

import asyncio
import socket
import struct
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from essaim.gateway.control.supervisor import Gateway
from essaim.gateway.udp.forward import IP_PKTINFO
from tests.ports import free_port

from .conftest import Backends, endpoint, http_get, narrow_gateway, service, table

DESCRIPTORS = 2048
FLOWS = (DESCRIPTORS - 1024) // 4
"""What a worker with so few descriptors gives to UDP."""
SOURCES = 5000


class Replica(asyncio.DatagramProtocol):
    """Answers a ping with its word; takes everything else in silence."""

    def connection_made(self, transport: asyncio.DatagramTransport) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        if data.startswith(b"ping"):
            self.transport.sendto(data, addr)


@pytest.fixture
async def narrow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Gateway]:
    """A gateway of one worker with few descriptors."""
    async with narrow_gateway(tmp_path, monkeypatch, DESCRIPTORS) as running:
        yield running


@pytest.fixture
async def replica() -> AsyncIterator[int]:
    transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(Replica, ("127.0.0.1", 0))
    yield transport.get_extra_info("sockname")[1]
    transport.close()


def flood(port: int, first: int, count: int) -> None:
    """Datagrams from so many sources of 127.0.0.0/8, sent by one socket."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        for number in range(first, first + count):
            source = struct.pack("!IBBBB", 0, 127, 1 + number // 62500 % 250, 1 + number // 250 % 250, 1 + number % 250)
            info = (socket.IPPROTO_IP, IP_PKTINFO, source + bytes(4))
            sock.sendmsg([b"flood"], [info], 0, ("127.0.0.1", port))


class Pinger:
    """A client with a flow of its own."""

    def __init__(self, port: int, address: str = "127.0.0.1") -> None:
        self.sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self.sock.bind((address, 0))
        self.sock.connect(("127.0.0.1", port))

    async def ping(self, text: str, seconds: float = 5.0) -> bool:
        loop = asyncio.get_running_loop()
        await loop.sock_sendall(self.sock, f"ping {text}".encode())
        try:
            async with asyncio.timeout(seconds):
                return await loop.sock_recv(self.sock, 100) == f"ping {text}".encode()
        except TimeoutError:
            return False


async def descriptors(gateway: Gateway) -> int:
    (worker,) = (await gateway.status())["workers"]
    return len(list(Path(f"/proc/{worker['pid']}/fd").iterdir()))


async def lost(gateway: Gateway, why: str) -> float:
    lines = (await gateway.metrics()).splitlines()
    found = [line.split()[-1] for line in lines if line.startswith("essaim_gateway_flows_lost_total") and why in line]
    return sum(map(float, found))


async def test_flood_from_made_up_sources_leaves_room_for_honest_clients(
    narrow: Gateway, backends: Backends, replica: int
) -> None:
    udp, web = free_port(), free_port()
    await narrow.apply(
        table(
            1,
            service("udp", udp, [endpoint("u", replica)], "udp"),
            service("web", web, [endpoint("t", await backends.web("t"))], "http"),
        )
    )
    known = Pinger(udp)
    assert await known.ping("before")
    pings, answers, most = list[bool](), list[int](), 0
    for first in range(0, SOURCES, 250):
        await asyncio.to_thread(flood, udp, first, 250)
        pings.append(await known.ping(str(first)))
        answers.append((await http_get(web))[0])
        most = max(most, await descriptors(narrow))
    assert (pings.count(False), set(answers)) == (0, {200})
    assert most < FLOWS + 100
    # One that comes in the middle of it, too.
    late = Pinger(udp, "127.0.0.2")
    await asyncio.to_thread(flood, udp, SOURCES, 250)
    assert await late.ping("late")
    assert await lost(narrow, 'why="evicted_unanswered"') > SOURCES / 2
    assert await lost(narrow, 'why="evicted"') == 0
    for pinger in (known, late):
        pinger.sock.close()


async def test_flows_of_one_source_take_a_quarter_of_the_room_at_most(narrow: Gateway, replica: int) -> None:
    udp = free_port()
    await narrow.apply(table(1, service("udp", udp, [endpoint("u", replica)], "udp")))
    other = Pinger(udp, "127.0.0.2")
    assert await other.ping("first")
    rest = await descriptors(narrow)
    many = [Pinger(udp) for _ in range(FLOWS)]
    assert all([await one.ping(str(number)) for number, one in enumerate(many)])
    assert await descriptors(narrow) - rest <= FLOWS // 4
    assert await other.ping("again")
    assert await lost(narrow, 'why="evicted"') >= FLOWS // 2
    for pinger in (other, *many):
        pinger.sock.close()


async def test_flows_of_a_source_beyond_its_label_are_refused(narrow: Gateway, replica: int) -> None:
    udp = free_port()
    labels = {"essaim.limit.source": "3"}
    await narrow.apply(table(1, service("udp", udp, [endpoint("u", replica)], "udp", labels)))
    many = [Pinger(udp) for _ in range(5)]
    assert [await one.ping("x", 0.5) for one in many] == [True, True, True, False, False]
    other = Pinger(udp, "127.0.0.2")
    assert await other.ping("x")
    assert [await one.ping("again") for one in many[:3]] == [True, True, True]
    assert await lost(narrow, 'why="source_limit"') == 2
    for pinger in (other, *many):
        pinger.sock.close()


async def test_flow_that_nobody_answers_ends_much_sooner(narrow: Gateway, replica: int) -> None:
    udp = free_port()
    labels = {"essaim.timeout.udp.first": "1s", "essaim.timeout.udp": "60s"}
    await narrow.apply(table(1, service("udp", udp, [endpoint("u", replica)], "udp", labels)))
    known = Pinger(udp)
    assert await known.ping("before")
    await asyncio.to_thread(flood, udp, 0, 100)

    async def open_flows() -> int:
        (port,) = await narrow.traffic()
        return sum(int(task["open"]) for task in port["tasks"])

    async with asyncio.timeout(10):
        while await open_flows() < 50:
            await asyncio.sleep(0.01)
        while await open_flows() > 1:
            await asyncio.sleep(0.05)
    assert await known.ping("after")
    known.sock.close()


async def test_worker_has_its_way_back_when_the_flood_is_over(narrow: Gateway, replica: int) -> None:
    udp = free_port()
    labels = {"essaim.timeout.udp.first": "1s"}
    await narrow.apply(table(1, service("udp", udp, [endpoint("u", replica)], "udp", labels)))
    before = await descriptors(narrow)
    await asyncio.to_thread(flood, udp, 0, 2 * FLOWS)
    async with asyncio.timeout(15):
        while await descriptors(narrow) < before + FLOWS // 2:
            await asyncio.sleep(0.01)
        while await descriptors(narrow) > before:
            await asyncio.sleep(0.05)
