"""Clients that take all the time in the world, and very many that do nothing."""

import asyncio
import json
import resource
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from essaim.gateway.control.supervisor import Gateway
from essaim.gateway.http.timeouts import STALLED_SECONDS
from essaim.gateway.upstream.connect import start
from tests.ports import free_port

from .conftest import Backends, endpoint, service, table
from .plane import Plane

MANY = 10_000
BYTES_EACH = 20_000


def pass_time(plane: Plane, seconds: float) -> None:
    """What the deadlines does."""
    plane.deadlines.now += seconds
    if not plane.near.closed and plane.connection.deadline <= plane.deadlines.now:
        plane.connection.expire()


def test_slow_head_byte_by_byte_gets_no_more_time_with_each_byte() -> None:
    plane = Plane(header_timeout=10.0)
    for byte in b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"y" * 100:
        plane.ask(bytes([byte]))
        pass_time(plane, 1.0)
    assert plane.near.written.startswith(b"HTTP/1.1 408 ")
    pass_time(plane, 10.0)
    assert plane.near.closed


@pytest.mark.parametrize(
    "rest",
    [b"5\r\nhello\r\n", b"0\r\nTrailer-Of-Many: a\r\n", b"5;extension=1"],
    ids=["chunks", "trailers", "extension"],
)
def test_slow_chunked_body_and_trailers_are_given_up(rest: bytes) -> None:
    plane = Plane()
    plane.ask(b"PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
    # Fast at first, so that the average over all the time would be high.
    plane.ask(b"%x\r\n%b\r\n" % (100_000, b"x" * 100_000))
    for number in range(400):
        plane.ask(rest[number : number + 1])
        pass_time(plane, 1.0)
    assert plane.near.written.startswith(b"HTTP/1.1 408 ")
    assert plane.near.closed
    assert plane.endpoint.open == 0


def test_slow_body_that_is_fast_enough_is_not_given_up() -> None:
    plane = Plane()
    plane.ask(b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n")
    for _ in range(300):
        plane.ask(b"x" * 100)
        pass_time(plane, 1.0)
    assert plane.near.written == b""
    assert not plane.near.closed


def test_slow_reading_of_a_response_is_given_up_and_frees_the_replica() -> None:
    plane = Plane()
    plane.ask(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    plane.answer(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n" + b"x" * 50_000)
    plane.connection.pause_writing()
    assert not plane.far.reading
    pass_time(plane, STALLED_SECONDS + 1)
    assert plane.near.aborted
    assert plane.endpoint.open == 0


EARLY = b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\nbegun"
UPLOAD = b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n"


def test_slow_body_after_the_response_has_begun_is_given_up_and_frees_the_replica() -> None:
    plane = Plane()
    plane.ask(UPLOAD + b"x")
    plane.answer(EARLY)
    for _ in range(200):
        plane.ask(b"x")
        pass_time(plane, 1.0)
    assert plane.near.aborted
    assert plane.far is None
    assert plane.endpoint.open == 0


@pytest.mark.parametrize("flowing", ["body", "response"])
def test_slow_body_after_the_response_has_begun_lives_while_either_way_flows(flowing: str) -> None:
    plane = Plane()
    plane.ask(UPLOAD + b"x")
    plane.answer(EARLY)
    for _ in range(300):
        if flowing == "body":
            plane.ask(b"x" * 100)
        else:
            plane.answer(b"y" * 100)
        pass_time(plane, 1.0)
    assert not plane.near.closed


def test_slow_response_outlives_a_body_that_is_complete() -> None:
    plane = Plane(response_timeout=5.0)
    plane.ask(b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nx")
    plane.answer(EARLY)
    plane.ask(b"x")
    pass_time(plane, 1000.0)
    plane.answer(b"more")
    assert plane.near.written.endswith(b"begunmore")
    assert not plane.near.closed


def test_slow_replica_that_does_not_take_a_body_is_not_laid_to_its_client() -> None:
    plane = Plane()
    plane.ask(UPLOAD + b"x")
    plane.upstreams[0].pause_writing()
    pass_time(plane, STALLED_SECONDS + 1)
    pass_time(plane, STALLED_SECONDS + 1)
    assert plane.near.written.startswith(b"HTTP/1.1 504 ")
    assert plane.endpoint.open == 0


def test_slow_chunked_body_does_not_get_past_the_limit_of_its_size() -> None:
    plane = Plane(max_body=10_000)
    plane.ask(b"PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
    for _ in range(300):
        plane.ask(b"64\r\n" + b"x" * 100 + b"\r\n")
        pass_time(plane, 1.0)
    assert plane.near.written.startswith(b"HTTP/1.1 413 ")


def test_tunnel_in_which_only_the_replica_speaks_is_not_idle() -> None:
    plane = Plane(idle_timeout=100.0)
    plane.ask(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n")
    plane.answer(b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n")
    for _ in range(5):
        pass_time(plane, 90.0)
        plane.answer(b"news")
    assert not plane.near.closed
    pass_time(plane, 90.0)
    pass_time(plane, 101.0)
    pass_time(plane, 101.0)
    assert plane.near.closed


async def test_start_of_a_connection_cancelled_before_its_first_step_gives_its_place_back() -> None:
    plane = Plane()

    async def never(_: object) -> None:
        raise AssertionError("it was cancelled")

    task = start(never, plane.endpoint)
    assert plane.endpoint.open == 1
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert plane.endpoint.open == 0


@contextmanager
def many_descriptors(count: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < count:
        pytest.skip(f"{count} descriptors are needed (ulimit -Hn says {hard})")
    if soft != resource.RLIM_INFINITY and soft < count:
        resource.setrlimit(resource.RLIMIT_NOFILE, (count, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def resident(pid: int) -> int:
    line = next(line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) * 1024


def ask_and_stay(port: int, count: int) -> list[socket.socket]:
    """So many connections that had one answer each."""
    sockets = []
    for _ in range(count):
        sock = socket.create_connection(("127.0.0.1", port), 20)
        sock.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        assert sock.recv(4096).startswith(b"HTTP/1.1 200 ")
        sockets.append(sock)
    return sockets


async def test_ten_thousand_idle_connections_are_held_in_bounded_memory(tmp_path: Path, backends: Backends) -> None:
    with many_descriptors(MANY + 2_000):
        gateway = Gateway(mesh_addr="127.0.0.1", state_dir=tmp_path, node_id="n1", workers=1)
        await gateway.start()
        port = free_port()
        # On a busy machine the first is idle for minutes until the last one comes.
        labels = {"essaim.timeout.keepalive": "1h"}
        await gateway.apply(table(1, service("x", port, [endpoint("t", await backends.web("t"))], "http", labels)))
        pid = (await gateway.status())["workers"][0]["pid"]
        sockets = await asyncio.to_thread(ask_and_stay, port, 100)
        before = await asyncio.to_thread(resident, pid)
        sockets += await asyncio.to_thread(ask_and_stay, port, MANY - 100)
        after = await asyncio.to_thread(resident, pid)
        # The first is still served.
        sockets[0].sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        assert (await asyncio.to_thread(sockets[0].recv, 4096)).startswith(b"HTTP/1.1 200 ")
        for sock in sockets:
            sock.close()
        await gateway.stop(grace=0.2)
    assert (after - before) / (MANY - 100) < BYTES_EACH


OUT_OF_ROOM = """
import asyncio, json, resource, sys
from pathlib import Path
from essaim.gateway.control.supervisor import Gateway
from tests.gateway.conftest import Backends, endpoint, service, table
from tests.ports import free_port

async def ask(reader, writer):
    try:
        writer.write(b"GET / HTTP/1.1\\r\\nHost: a\\r\\n\\r\\n")
        return int((await reader.readuntil(b"\\r\\n\\r\\n")).split()[1])
    except (ConnectionError, asyncio.IncompleteReadError):
        return 0

async def main():
    backends = Backends()
    gateway = Gateway(mesh_addr="127.0.0.1", state_dir=Path(sys.argv[1]), node_id="n1", workers=1)
    await gateway.start()
    port = free_port()
    await gateway.apply(table(1, service("x", port, [endpoint("t", await backends.web("t"))], "http")))
    streams = [await asyncio.open_connection("127.0.0.1", port) for _ in range(60)]
    first = [await ask(*one) for one in streams]
    counts = (await gateway.traffic())[0]["tasks"][0]
    for _, writer in streams:
        writer.close()
    async with asyncio.timeout(20):
        while (later := await ask(*await asyncio.open_connection("127.0.0.1", port))) != 200:
            await asyncio.sleep(0.01)
    await gateway.stop(grace=0.2)
    await backends.close()
    print(json.dumps([first, counts["connect_errors"], counts["ejections"], later]))

resource.setrlimit(resource.RLIMIT_NOFILE, (1064, 1064))
asyncio.run(main())
"""


def test_worker_out_of_room_refuses_connections_and_does_not_lay_it_to_replicas(tmp_path: Path) -> None:
    """In a process of its own: a limit that was lowered cannot be raised again."""
    root = Path(__file__).parents[2]
    run = subprocess.run(
        [sys.executable, "-c", OUT_OF_ROOM, str(tmp_path)], cwd=root, capture_output=True, text=True, timeout=60
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    answers, connect_errors, ejections, later = json.loads(run.stdout.splitlines()[-1])
    assert set(answers) == {0, 200}
    # The room is for forty, of which one source has three quarters; those to the replica are of them.
    assert 20 <= answers.count(200) <= 30
    assert (connect_errors, ejections, later) == (0, 0, 200)


async def test_worker_allows_itself_more_descriptors_than_it_is_started_with(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (512, hard))
    try:
        gateway = Gateway(mesh_addr="127.0.0.1", state_dir=tmp_path, node_id="n1", workers=1)
        await gateway.start()
        pid = (await gateway.status())["workers"][0]["pid"]
        limits = Path(f"/proc/{pid}/limits").read_text().splitlines()
        (found,) = [line.split()[3:5] for line in limits if line.startswith("Max open files")]
        assert found == [str(hard)] * 2
        await gateway.stop(grace=0.2)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
