"""Connections of layer 4 whose replica leaves."""

import asyncio

from essaim.gateway.control.supervisor import Gateway
from tests.ports import free_port

from .conftest import Backends, endpoint, service, table, until

LABELS = {"essaim.timeout.drain": "600ms"}


async def test_l4_resting_connection_of_a_draining_replica_is_closed_in_order(
    gateway: Gateway, backends: Backends
) -> None:
    port, replica = free_port(), await backends.echo("t")
    await gateway.apply(table(1, service("x", port, [endpoint("t", replica)], labels=LABELS)))
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"said\n")
    assert [await reader.readline() for _ in range(2)] == [b"t\n", b"said\n"]
    await gateway.apply(table(2, service("x", port, [endpoint("t", replica, state="draining")], labels=LABELS)))
    async with asyncio.timeout(20):
        # An end in order: a reset would raise.
        assert await reader.read() == b""
    await until(lambda: gateway.open_requests()["t"] == 0)
    writer.close()


async def test_l4_request_in_progress_at_a_draining_replica_is_answered_before_the_end(
    gateway: Gateway, backends: Backends
) -> None:
    asked, answer, arrived = asyncio.Event(), asyncio.Event(), asyncio.Semaphore(0)

    async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        arrived.release()
        await reader.readline()
        asked.set()
        await answer.wait()
        writer.write(b"done\n")
        await reader.read()
        writer.close()

    port, replica, other = free_port(), await backends.serve(slow), await backends.echo("other")
    # A health check's connection would count as one that has arrived.
    labels = {**LABELS, "essaim.healthcheck.mode": "none"}
    await gateway.apply(table(1, service("x", port, [endpoint("t", replica)], labels=labels)))
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"work\n")
    await asked.wait()
    # A resting connection beside it shows when the grace is over: the one that works outlives it.
    idle_reader, idle_writer = await asyncio.open_connection("127.0.0.1", port)
    for _ in range(2):
        await arrived.acquire()
    leaving = [endpoint("t", replica, state="draining"), endpoint("o", other)]
    await gateway.apply(table(2, service("x", port, leaving, labels=labels)))
    async with asyncio.timeout(20):
        assert await idle_reader.read() == b""
        answer.set()
        assert await reader.read() == b"done\n"
    for one in (writer, idle_writer):
        one.close()
