"""The gateway as the daemon uses it, with real worker processes."""

import asyncio
import os
import signal
import socket
from collections import Counter
from pathlib import Path

import msgspec
import pytest

from essaim.gateway.control.supervisor import Gateway
from tests.ports import free_port

from .conftest import Backends, endpoint, http_get, service, table, tcp_line, until


async def test_gateway_l4_reaches_all_replicas_in_turn(gateway: Gateway, backends: Backends) -> None:
    replicas = [endpoint(f"t{n}", await backends.echo(f"t{n}")) for n in range(5)]
    port = free_port()
    assert await gateway.apply(table(1, service("web", port, replicas))) == 1
    seen = Counter([await tcp_line(port) for _ in range(20)])
    assert seen == {f"t{n}": 4 for n in range(5)}


async def test_gateway_l7_reaches_all_replicas_and_tells_who_called(gateway: Gateway, backends: Backends) -> None:
    replicas = [endpoint(f"t{n}", await backends.web(f"t{n}")) for n in range(3)]
    port = free_port()
    await gateway.apply(table(1, service("web", port, replicas, "http")))
    answers = [await http_get(port, "/x") for _ in range(12)]
    assert {status for status, _ in answers} == {200}
    assert Counter(body.split("\n")[0] for _, body in answers) == {"t0": 4, "t1": 4, "t2": 4}
    assert "GET /x HTTP/1.1\r\n" in answers[0][1]
    assert "X-Forwarded-For: 127.0.0.1\r\n" in answers[0][1]


async def test_gateway_connection_refused_moves_on_to_next_endpoint(gateway: Gateway, backends: Backends) -> None:
    good, port, dead = await backends.web("good"), free_port(), free_port()
    await gateway.apply(table(1, service("web", port, [endpoint("dead", dead), endpoint("good", good)], "http")))
    assert [(await http_get(port))[0] for _ in range(6)] == [200] * 6


async def test_gateway_dead_endpoint_is_down_with_its_reason(gateway: Gateway, backends: Backends) -> None:
    good, dead = await backends.echo("good"), free_port()
    await gateway.apply(table(1, service("web", free_port(), [endpoint("dead", dead), endpoint("good", good)])))

    async def verdicts() -> dict[str, tuple[str, str]]:
        endpoints = (await gateway.status())["services"][0]["ports"][0]["endpoints"]
        return {one["task_id"]: (one["verdict"], one["reason"]) for one in endpoints}

    async with asyncio.timeout(15):
        while (seen := await verdicts())["dead"][0] == "up" or seen["good"][1] != "check passed":
            await asyncio.sleep(0.02)
    assert seen == {"dead": ("down", "connection refused"), "good": ("up", "check passed")}


async def test_gateway_killed_worker_is_replaced_and_no_connection_is_refused(
    gateway: Gateway, backends: Backends
) -> None:
    port = free_port()
    await gateway.apply(table(1, service("web", port, [endpoint("t", await backends.echo("t"))])))
    pids = [worker["pid"] for worker in (await gateway.status())["workers"]]
    os.kill(pids[0], signal.SIGKILL)
    assert [await tcp_line(port) for _ in range(20)] == ["t"] * 20
    async with asyncio.timeout(15):
        while len([w for w in (await gateway.status())["workers"] if w["version"] == 1 and w["pid"] != pids[0]]) < 2:
            await asyncio.sleep(0.02)


async def test_gateway_taken_port_is_reported_and_served_when_free(gateway: Gateway, backends: Backends) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = int(taken.getsockname()[1])
        await gateway.apply(table(1, service("web", port, [endpoint("t", await backends.echo("t"))])))
        listener = (await gateway.status())["listeners"][0]
        assert not listener["bound"]
        assert "in use by another program" in listener["error"]
    async with asyncio.timeout(15):
        while not (await gateway.status())["listeners"][0]["bound"]:
            await asyncio.sleep(0.02)
    assert await tcp_line(port) == "t"


async def test_gateway_draining_endpoint_keeps_open_connections_and_gets_no_new_ones(
    gateway: Gateway, backends: Backends
) -> None:
    first, second, port = await backends.echo("a"), await backends.echo("b"), free_port()
    await gateway.apply(table(1, service("web", port, [endpoint("a", first)])))
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    assert await reader.readline() == b"a\n"
    leaving = endpoint("a", first, state="draining")
    await gateway.apply(table(2, service("web", port, [leaving, endpoint("b", second)])))
    assert gateway.open_requests() == {"a": 1}
    assert [await tcp_line(port) for _ in range(4)] == ["b"] * 4
    writer.write(b"still here\n")
    assert await reader.readline() == b"still here\n"
    writer.close()
    await until(lambda: gateway.open_requests() == {"a": 0})
    await gateway.apply(table(3, service("web", port, [endpoint("b", second)])))
    assert gateway.open_requests() == {}


async def test_gateway_udp_answers_come_back_to_their_client(gateway: Gateway) -> None:
    class Shout(asyncio.DatagramProtocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            self.transport = transport

        def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
            self.transport.sendto(data.upper(), addr)  # type: ignore[attr-defined]

    class Hear(asyncio.DatagramProtocol):
        def __init__(self) -> None:
            self.heard: list[bytes] = []

        def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
            self.heard.append(data)

    loop = asyncio.get_running_loop()
    replica, _ = await loop.create_datagram_endpoint(Shout, ("127.0.0.1", 0))
    target, port = replica.get_extra_info("sockname")[1], free_port()
    await gateway.apply(table(1, service("dns", port, [endpoint("t", target)], "udp")))
    clients = [await loop.create_datagram_endpoint(Hear, remote_addr=("127.0.0.1", port)) for _ in range(8)]
    for number, (transport, _) in enumerate(clients):
        transport.sendto(b"hello %d" % number)
    await until(lambda: all(hear.heard for _, hear in clients))
    assert [hear.heard for _, hear in clients] == [[b"HELLO %d" % number] for number in range(8)]
    for transport, _ in clients:
        transport.close()
    replica.close()


async def test_gateway_stop_ends_its_workers(tmp_path: Path) -> None:
    running = Gateway(mesh_addr="127.0.0.1", state_dir=tmp_path, node_id="n1", workers=1)
    await running.start()
    (pid,) = [worker["pid"] for worker in (await running.status())["workers"]]
    await running.stop(grace=0.5)
    assert not Path(f"/proc/{pid}").exists()


async def test_gateway_restart_of_the_daemon_leaves_workers_serving_and_hands_the_sockets_on(
    tmp_path: Path, backends: Backends
) -> None:
    port, routes = free_port(), await backends.echo("t")
    first = Gateway(mesh_addr="127.0.0.1", state_dir=tmp_path, node_id="n1", workers=2, linger=30.0)
    await first.start()
    await first.apply(table(1, service("web", port, [endpoint("t", routes)])))
    pids = [worker["pid"] for worker in (await first.status())["workers"]]
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    assert await reader.readline() == b"t\n"
    await first.stop(leave_workers=True)
    answered = [await tcp_line(port) for _ in range(5)]
    second = Gateway(mesh_addr="127.0.0.1", state_dir=tmp_path, node_id="n1", workers=1)
    await second.start()
    answered += [await tcp_line(port) for _ in range(5)]
    await second.apply(table(2, service("web", port, [endpoint("t", routes)])))
    answered += [await tcp_line(port) for _ in range(20)]
    assert answered == ["t"] * 30
    assert (await second.status())["listeners"][0]["bound"]
    # The old worker ends with its last connection, not before.
    writer.write(b"still here\n")
    assert await reader.readline() == b"still here\n"
    writer.close()
    await until(lambda: not any(running(pid) for pid in pids))
    await second.stop(grace=0.5)


def running(pid: int) -> bool:
    """Whether the process lives (a zombie does not: this process is its parent and may not have looked yet)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


async def test_gateway_metrics_count_requests_of_all_workers_and_survive_a_worker(
    gateway: Gateway, backends: Backends
) -> None:
    port = free_port()
    await gateway.apply(table(1, service("web", port, [endpoint("t", await backends.web("t"))], "http")))
    for _ in range(10):
        await http_get(port)
    line = f'essaim_gateway_requests_total{{code="200",port="{port}",service="web",task="t"}} '
    assert line + "10.0\n" in (text := await gateway.metrics())
    assert f'essaim_gateway_request_seconds_count{{port="{port}",service="web"}} 10.0\n' in text
    assert f'essaim_gateway_task_seconds_count{{port="{port}",service="web",task="t"}} 10.0\n' in text
    assert f'essaim_gateway_queue_refused_total{{port="{port}",service="web"}} 0.0\n' in text
    (seen,) = await gateway.traffic()
    assert (seen["service"], seen["published"], seen["tasks"][0]["codes"][200]) == ("web", port, 10)
    pid = (await gateway.status())["workers"][0]["pid"]
    os.kill(pid, signal.SIGKILL)
    await until(lambda: not running(pid))
    await http_get(port)
    assert line + "11.0\n" in await gateway.metrics()


async def test_supervisor_names_own_tasks_unfit_until_a_check_passes(gateway: Gateway) -> None:
    port, published = free_port(), free_port()
    deaf = [endpoint("web.1", port), endpoint("web.2", port, node_id="elsewhere")]
    labels = {"essaim.healthcheck.interval": "100ms"}
    await gateway.apply(table(1, service("web", published, deaf, labels=labels)))
    await until(lambda: gateway.unfit() == ["web.1"])
    server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", port)
    try:
        await until(lambda: gateway.unfit() == [])
    finally:
        server.close()
        await server.wait_closed()
    await until(lambda: gateway.unfit() == ["web.1"])


async def test_supervisor_status_counts_what_each_replica_was_given(gateway: Gateway, backends: Backends) -> None:
    replicas = [endpoint(f"t{n}", await backends.web(f"t{n}")) for n in range(2)]
    port = free_port()
    await gateway.apply(table(1, service("web", port, replicas, "http")))
    for _ in range(6):
        await http_get(port)
    (shown,) = (await gateway.status())["services"][0]["ports"]
    assert {one["task_id"]: (one["requests"], one["failures"]) for one in shown["endpoints"]} == {
        "t0": (3, 0),
        "t1": (3, 0),
    }


async def test_supervisor_endpoint_that_is_down_serves_once_it_is_checked_no_more(
    gateway: Gateway, backends: Backends
) -> None:
    port, replica = free_port(), endpoint("t", await backends.web("t"))
    strict = {"essaim.healthcheck.status": "201", "essaim.healthcheck.interval": "50ms", "essaim.queue.timeout": "0s"}
    await gateway.apply(table(1, service("web", port, [replica], "http", labels=strict)))

    async def shown() -> tuple[str, str, str | None]:
        one = (await gateway.status())["services"][0]["ports"][0]["endpoints"][0]
        return one["verdict"], one["reason"], one["found_by"]

    async with asyncio.timeout(15):
        while await shown() != ("down", "status 200, expected 201", "one"):
            await asyncio.sleep(0.02)
        while (await http_get(port))[0] != 503:
            await asyncio.sleep(0.02)
    text = await gateway.metrics()
    assert f'essaim_gateway_up{{port="{port}",service="web",task="t"}} 0.0' in text
    assert 'by="n1",' in text
    assert 'reason="status 200, expected 201"' in text
    assert 'essaim_gateway_check_targets{why="assigned"} 1.0' in text
    unchecked = {"essaim.healthcheck.mode": "none", "essaim.queue.timeout": "0s"}
    await gateway.apply(table(2, service("web", port, [replica], "http", labels=unchecked)))
    assert await shown() == ("up", "not checked", None)
    async with asyncio.timeout(15):
        while (await http_get(port))[0] != 200:
            await asyncio.sleep(0.02)


async def test_supervisor_endpoint_behind_two_published_ports_is_checked_once(
    gateway: Gateway, backends: Backends
) -> None:
    replica = endpoint("t", await backends.web("t"))
    one, other = free_port(), free_port()
    twice = msgspec.structs.replace(
        service("web", one, [replica]),
        ports=[service("web", port, [replica]).ports[0] for port in sorted((one, other))],
    )
    await gateway.apply(table(1, twice))
    assert gateway.health.shares == (1, 0)
    await until(lambda: gateway.health.checks >= 1)
    assert gateway.health.checks == 1


async def test_supervisor_table_whose_taking_in_was_cancelled_is_made_up_for(
    gateway: Gateway, backends: Backends
) -> None:
    port, other = free_port(), free_port()
    one = service("one", port, [endpoint("a", await backends.echo("a"))])
    two = service("two", other, [endpoint("b", await backends.echo("b"))])
    await gateway.apply(table(1, one))
    for steps in range(6):
        taking = asyncio.create_task(gateway.apply(table(10 * steps + 2, one, two)))
        for _ in range(steps):
            await asyncio.sleep(0)
        taking.cancel()
        await asyncio.gather(taking, return_exceptions=True)
        # What the cancelled one had bound is not forgotten.
        await gateway.apply(table(10 * steps + 3, one))
        with pytest.raises(ConnectionRefusedError):
            await tcp_line(other)
        taking = asyncio.create_task(gateway.apply(table(10 * steps + 4, one, two)))
        for _ in range(steps):
            await asyncio.sleep(0)
        taking.cancel()
        await asyncio.gather(taking, return_exceptions=True)
        await gateway.apply(table(10 * steps + 5, one, two))
        assert await tcp_line(other) == "b"
        await gateway.apply(table(10 * steps + 6, one))
