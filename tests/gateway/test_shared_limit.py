"""The limit of a service as a whole, over all workers of a node."""

import asyncio

from hypothesis import given
from hypothesis import strategies as st

from essaim.gateway.control.supervisor import Gateway
from essaim.gateway.upstream.shared_limit import SharedLimit
from tests.ports import free_port

from .conftest import Backends, endpoint, http_get, service, table


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 3), st.integers(0, 9)), max_size=40), st.integers(0, 2))
def test_crowd_total_is_the_sum_of_what_each_row_said_last(steps: list[tuple[int, int, int]], cleared: int) -> None:
    cells = memoryview(bytearray(4 * 3 * 4)).cast("I")
    rows = [SharedLimit(cells, 4, row) for row in range(3)]
    said: dict[tuple[int, int], int] = {}
    for row, slot, count in steps:
        rows[row].publish(slot, count)
        said[row, slot] = count
    rows[cleared].clear()
    for slot in range(4):
        wanted = sum(count for (row, at), count in said.items() if at == slot and row != cleared)
        assert [one.total(slot) for one in rows] == [wanted] * 3


async def test_service_never_has_more_in_progress_than_its_limit_over_all_workers(
    gateway: Gateway, backends: Backends
) -> None:
    now = most = 0

    async def counted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal now, most
        await reader.readuntil(b"\r\n\r\n")
        now += 1
        most = max(most, now)
        # The next turns of the loop take what arrives meanwhile: long enough for all that are let through.
        await asyncio.sleep(0.02)
        now -= 1
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")
        writer.close()

    port = free_port()
    replicas = [endpoint(name, await backends.serve(counted)) for name in ("a", "b")]
    labels = {"essaim.limit.service": "3", "essaim.queue.timeout": "20s"}
    await gateway.apply(table(1, service("x", port, replicas, "http", labels)))
    answers = await asyncio.gather(*(http_get(port) for _ in range(40)))
    assert {status for status, _ in answers} == {200}
    # Two workers that look at the same moment may each let one more through.
    assert 2 <= most <= 4


async def test_l4_service_at_its_limit_keeps_connections_waiting(gateway: Gateway, backends: Backends) -> None:
    port = free_port()
    labels = {"essaim.limit.service": "1"}
    await gateway.apply(table(1, service("x", port, [endpoint("t", await backends.echo("t"))], labels=labels)))
    first_reader, first = await asyncio.open_connection("127.0.0.1", port)
    assert await first_reader.readline() == b"t\n"
    others = [await asyncio.open_connection("127.0.0.1", port) for _ in range(4)]
    lines = [asyncio.create_task(reader.readline()) for reader, _ in others]
    done, _ = await asyncio.wait(lines, timeout=0.3)
    assert not done
    first.close()
    async with asyncio.timeout(20):
        while lines:
            done, _ = await asyncio.wait(lines, return_when=asyncio.FIRST_COMPLETED)
            line = done.pop()
            assert line.result() == b"t\n"
            others.pop(lines.index(line))[1].close()
            lines.remove(line)
