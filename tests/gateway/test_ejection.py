"""Replicas that traffic takes out: by the rate of failures, by time-outs of both phases."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from typing import Any

import pytest

from essaim.gateway.control.supervisor import Gateway
from tests.ports import free_port

from .conftest import Backends, endpoint, http_get, service, table


@pytest.fixture
async def black_hole() -> AsyncIterator[int]:
    """A port at which connections are not answered, as at a host that is gone: its queue is full."""
    with contextlib.ExitStack() as stack:
        listening = stack.enter_context(socket.socket())
        listening.bind(("127.0.0.1", 0))
        listening.listen(0)
        for _ in range(4):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(listening.getsockname())
        yield int(listening.getsockname()[1])


async def verdicts(gateway: Gateway) -> dict[str, tuple[str, str]]:
    (served,) = (await gateway.status())["services"]
    return {one["task_id"]: (one["verdict"], one["reason"]) for one in served["ports"][0]["endpoints"]}


async def traffic(gateway: Gateway) -> dict[str, dict[str, Any]]:
    (port,) = await gateway.traffic()
    return {one["task_id"]: one for one in port["tasks"]}


async def faltering(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Every second answer is a server error: never two in a row."""
    good = False
    with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
        while await reader.readuntil(b"\r\n\r\n"):
            good = not good
            status = b"200 OK" if good else b"500 Oops"
            writer.write(b"HTTP/1.1 " + status + b"\r\nContent-Length: 0\r\n\r\n")
    writer.close()


async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Takes requests and never answers."""
    with contextlib.suppress(ConnectionError):
        while await reader.read(65536):
            pass
    writer.close()


async def ask(gateway_port: int, times: int) -> list[int]:
    """So many requests on one connection: one worker sees them all."""
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway_port)
    found = []
    for _ in range(times):
        writer.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        length = int(head.lower().partition("content-length:")[2].split()[0])
        await reader.readexactly(length)
        found.append(int(head.split()[1]))
    writer.close()
    return found


async def test_ejection_by_rate_takes_a_faltering_replica_out_and_says_why(
    gateway: Gateway, backends: Backends
) -> None:
    port = free_port()
    replicas = [endpoint("good", await backends.web("good")), endpoint("bad", await backends.serve(faltering))]
    labels = {"essaim.eject.rate": "50", "essaim.eject.least": "10", "essaim.eject.window": "30s"}
    await gateway.apply(table(1, service("web", port, replicas, "http", labels)))
    async with asyncio.timeout(20):
        while (found := (await verdicts(gateway))["bad"])[0] != "ejected":
            await ask(port, 24)
    assert found == ("ejected", "5 of 10 requests in 30 s failed")
    assert (await verdicts(gateway))["good"][0] == "up"
    assert (await traffic(gateway))["bad"]["ejections"] >= 1


async def test_ejection_counts_answers_that_do_not_come_in_time_as_failures(
    gateway: Gateway, backends: Backends
) -> None:
    port = free_port()
    replicas = [endpoint("good", await backends.web("good")), endpoint("bad", await backends.serve(silent))]
    labels = {"essaim.eject.rate": "100", "essaim.eject.least": "2", "essaim.timeout.response": "100ms"}
    await gateway.apply(table(1, service("web", port, replicas, "http", labels)))
    seen: list[tuple[int, str]] = []
    async with asyncio.timeout(20):
        while (found := (await verdicts(gateway))["bad"])[0] != "ejected":
            seen += await asyncio.gather(*(http_get(port) for _ in range(10)))
    assert {status for status, _ in seen} == {200, 504}
    assert found[1].endswith("requests in 10 s failed")
    assert (await traffic(gateway))["bad"]["connect_errors"] == 0


async def test_ejection_for_a_connection_that_is_not_made_in_time_comes_before_the_responses_time_out(
    gateway: Gateway, backends: Backends, black_hole: int
) -> None:
    """The request goes on to another replica, once: the time for a response is not spent on connecting."""
    port = free_port()
    replicas = [endpoint("good", await backends.web("good")), endpoint("gone", black_hole)]
    labels = {
        "essaim.timeout.connect": "2s",
        "essaim.timeout.response": "1500ms",
        "essaim.healthcheck.mode": "none",
    }
    await gateway.apply(table(1, service("web", port, replicas, "http", labels)))
    answers = [await ask(port, 3) for _ in range(2)]
    assert answers == [[200] * 3] * 2
    assert backends.hits["good"] == 6
    gone = (await traffic(gateway))["gone"]
    assert gone["connect_errors"] >= 1
    assert gone["ejections"] >= 1
    assert gone["retries"] == gone["connect_errors"]


async def test_queue_time_out_holds_for_a_request_whose_body_arrives_while_it_waits(gateway: Gateway) -> None:
    port = free_port()
    await gateway.apply(table(1, service("web", port, [], "http", {"essaim.queue.timeout": "300ms"})))
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nab")
    await writer.drain()
    async with asyncio.timeout(10):
        while (await gateway.traffic())[0]["waiting"] != 1:
            await asyncio.sleep(0.01)
        writer.write(b"cd")
        assert b" 503 " in await reader.readline()
    writer.close()
