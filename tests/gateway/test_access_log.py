"""Access logs: the lines, the file, and what a worker writes."""

import asyncio
import json
import os
import signal
import socket
import struct
from datetime import UTC, datetime
from pathlib import Path
from random import Random

import pytest
import structlog
from msgspec.structs import replace
from structlog.testing import capture_logs

from essaim.gateway.control.log_file import LogFile
from essaim.gateway.control.supervisor import Gateway
from essaim.gateway.runtime.access_log import MOST_BYTES, AccessLog, Entry, common_line, json_line
from tests.ports import free_port

from .conftest import Backends, endpoint, exchange, http_get, service, table, until

ENTRY = Entry(
    time=datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC), client="192.0.2.7", method="GET", target='/a"b', host="a.example",
    status=200, seconds=0.25, service="web", task="t1", protocol="HTTP/1.1",
)  # fmt: skip


def test_lines_are_one_line_each_whatever_the_request_says() -> None:
    assert common_line(ENTRY) == b'192.0.2.7 - - [04/Mar/2026:05:06:07 +0000] "GET /a%22b HTTP/1.1" 200 -\n'
    assert json.loads(json_line(ENTRY))["target"] == '/a"b'


def test_request_that_was_not_understood_has_a_line_without_one() -> None:
    unread = replace(ENTRY, method="", target="", host="", protocol="", status=400)
    assert common_line(unread) == b'192.0.2.7 - - [04/Mar/2026:05:06:07 +0000] "-" 400 -\n'


async def test_worker_logs_to_a_new_file_when_the_old_one_was_moved_away(
    gateway: Gateway, backends: Backends, tmp_path: Path
) -> None:
    """As logrotate does it, which may make the new file itself, for root alone; a worker could not open either."""
    port = free_port()
    labels = {"essaim.accesslog": "common"}
    await gateway.apply(table(1, service("web", port, [endpoint("t", await backends.web("t"))], "http", labels)))
    path = tmp_path / "gateway" / "access.log"

    async def logged(target: str) -> None:
        """Asked again until it is: a request may come before the new file has."""
        async with asyncio.timeout(20):
            while not path.exists() or target not in path.read_text():
                await http_get(port, target)
                await asyncio.sleep(0.1)

    await logged("/first")
    path.rename(path.with_suffix(".1"))
    await logged("/second")
    path.rename(path.with_suffix(".2"))
    path.touch(mode=0o600)
    await logged("/third")
    assert "/first" in path.with_suffix(".1").read_text()


async def test_worker_that_is_replaced_logs_on(gateway: Gateway, backends: Backends, tmp_path: Path) -> None:
    port = free_port()
    labels = {"essaim.accesslog": "common"}
    await gateway.apply(table(1, service("web", port, [endpoint("t", await backends.web("t"))], "http", labels)))
    old = {worker["pid"] for worker in (await gateway.status())["workers"]}
    for pid in old:
        os.kill(pid, signal.SIGKILL)
    path = tmp_path / "gateway" / "access.log"
    await http_get(port, "/by-the-next")
    await until(lambda: path.exists() and "/by-the-next" in path.read_text())


async def test_log_file_that_cannot_be_made_is_said_once_and_made_when_it_can(tmp_path: Path) -> None:
    opened: list[int] = []
    with capture_logs() as said:
        file = LogFile(tmp_path / "taken", opened.append, structlog.get_logger())
        (tmp_path / "taken").write_text("")
        await file.look()
        await file.look()
        assert (len(said), file.fd, opened) == (1, -1, [])
        (tmp_path / "taken").unlink()
        await file.look()
    assert opened == [file.fd]
    assert (tmp_path / "taken" / "access.log").exists()
    await file.stop()


def test_sample_is_the_share_that_was_asked_for_and_has_every_server_error() -> None:
    log = AccessLog(chance=Random(5).random)
    assert sum(log.wants(200, 0.05) for _ in range(20_000)) == pytest.approx(1_000, rel=0.1)
    assert all(log.wants(503, 0.0) for _ in range(100))
    assert all(log.wants(200, 1.0) for _ in range(100))
    assert not any(log.wants(404, 0.0) for _ in range(100))


async def test_log_that_cannot_be_written_drops_and_counts() -> None:
    log = AccessLog()
    for path, dropped in (("", 1), ("/dev/full", 2), ("/dev/null", 2)):
        if path:
            log.hand(os.open(path, os.O_WRONLY))
        log.add("json", ENTRY)
        await log.end(5)
        assert log.dropped == dropped


async def test_log_on_a_disk_that_stands_still_holds_up_nobody_and_is_bounded() -> None:
    """A pipe that nobody reads stands for the disk."""
    reading, writing = os.pipe()
    log = AccessLog()
    log.hand(writing)
    length = len(json_line(ENTRY))
    for _ in range(2 * MOST_BYTES // length):
        log.add("json", ENTRY)
    assert log.dropped > 0
    kept = 2 * MOST_BYTES // length - log.dropped
    # The disk works again: what was kept arrives whole and in order.
    received = bytearray()

    def read() -> None:
        while len(received) < kept * length:
            received.extend(os.read(reading, 1 << 20))

    await asyncio.gather(asyncio.to_thread(read), log.end(20))
    assert received == json_line(ENTRY) * kept
    os.close(reading)


async def test_log_that_is_handed_a_file_writes_the_rest_to_the_one_before(tmp_path: Path) -> None:
    log = AccessLog()
    for name in ("first", "second"):
        log.hand(os.open(tmp_path / name, os.O_WRONLY | os.O_CREAT))
        log.add("common", ENTRY)
    await log.end(5)
    assert (tmp_path / "first").read_bytes() == (tmp_path / "second").read_bytes() == common_line(ENTRY)


async def test_worker_logs_each_request_of_a_service_that_asks(tmp_path: Path, backends: Backends) -> None:
    gateway = Gateway(mesh_addr="127.0.0.1", state_dir=tmp_path, node_id="n1", workers=1)
    await gateway.start()
    loud, quiet, replica = free_port(), free_port(), await backends.web("t")
    labels = {"essaim.accesslog": "json"}
    await gateway.apply(
        table(
            1,
            service("loud", loud, [endpoint("t", replica)], "http", labels),
            service("quiet", quiet, [endpoint("t", replica)], "http"),
        )
    )
    await http_get(loud, "/x?y=1")
    await http_get(quiet)
    path = tmp_path / "gateway" / "access.log"
    await until(lambda: path.exists() and path.stat().st_size > 0)
    await gateway.stop(grace=0.2)
    (line,) = path.read_text().splitlines()
    seen = json.loads(line)
    assert (seen["target"], seen["status"], seen["service"], seen["task"]) == ("/x?y=1", 200, "loud", "t")


async def test_worker_logs_requests_that_no_replica_answers(
    gateway: Gateway, backends: Backends, tmp_path: Path
) -> None:
    """A body that is too long, a client that leaves the queue, and what is no request at all."""
    limited, waiting = free_port(), free_port()
    labels = {"essaim.accesslog": "json", "essaim.limit.body": "3"}
    await gateway.apply(
        table(
            1,
            service("limited", limited, [endpoint("t", await backends.web("t"))], "http", labels),
            service("waiting", waiting, [], "http", labels),
        )
    )
    await exchange(limited, b"POST /long HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nabcd")
    await exchange(limited, b"no request\r\n\r\n")
    _, writer = await asyncio.open_connection("127.0.0.1", waiting)
    writer.write(b"GET /left HTTP/1.1\r\nHost: a\r\n\r\n")
    await writer.drain()
    async with asyncio.timeout(10):
        while not sum(one["waiting"] for one in await gateway.traffic()):
            await asyncio.sleep(0.01)
    # A reset: an end alone may be of one side only, and the answer awaited.
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
    path = tmp_path / "gateway" / "access.log"
    await until(lambda: path.exists() and path.read_text().count("\n") == 3)
    seen = {(one["target"], one["status"], one["task"]) for one in map(json.loads, path.read_text().splitlines())}
    assert seen == {("/long", 413, ""), ("/left", 499, ""), ("", 400, "")}
