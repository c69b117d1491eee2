"""HAProxy's configuration: the whole file, accepted by the real program, and balancing real requests."""

import asyncio
import re
import subprocess
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from essaim.configs.haproxy import render_haproxy
from essaim.gateway.routes import RouteGateway, RouteService, RouteTable

from .conftest import port, program

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def test_haproxy_configuration_is_the_golden_file(table: RouteTable, golden: Path) -> None:
    assert render_haproxy(table) == (golden / "haproxy.cfg").read_text()


def test_haproxy_equal_tables_in_another_order_give_identical_bytes(table: RouteTable) -> None:
    turned = RouteTable(version=8, services=table.services[::-1], gateways=table.gateways[::-1])
    assert render_haproxy(turned) == render_haproxy(table)


def test_haproxy_service_name_with_line_break_stays_in_its_comment(table: RouteTable) -> None:
    evil = RouteTable(services=[RouteService(id="s", name="a\n  bind :1\x00", ports=[port(80)])])
    assert not re.search(r"^\s*bind :1", render_haproxy(evil), re.MULTILINE)


@pytest.mark.parametrize("empty", [True, False])
def test_haproxy_accepts_the_configuration(table: RouteTable, tmp_path: Path, empty: bool) -> None:
    path = tmp_path / "haproxy.cfg"
    path.write_text(render_haproxy(RouteTable() if empty else table))
    done = subprocess.run([program("haproxy"), "-c", "-f", str(path)], capture_output=True, text=True, check=False)
    assert "[ALERT]" not in done.stderr
    assert "[WARNING]" not in done.stderr
    # Nothing to serve is the one thing that HAProxy refuses to start with.
    assert done.returncode in ((0, 2) if empty else (0,))


@pytest.mark.root
async def test_haproxy_balances_requests_over_live_gateways(tmp_path: Path) -> None:
    hits: Counter[str] = Counter()

    def gateway(name: str) -> Serve:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            if await reader.read(4096):
                hits[name] += 1
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")
            writer.close()

        return serve

    first = await asyncio.start_server(gateway("one"), "127.0.0.11", 0)
    number = first.sockets[0].getsockname()[1]
    second = await asyncio.start_server(gateway("two"), "127.0.0.12", number)
    nodes = [RouteGateway(node_id=n, hostname=n, address=a) for n, a in (("one", "127.0.0.11"), ("two", "127.0.0.12"))]
    routes = RouteTable(
        services=[RouteService(id="s", name="web", ports=[port(number, app_protocol="http")])], gateways=nodes
    )
    path = tmp_path / "haproxy.cfg"
    path.write_text(render_haproxy(routes, bind="127.0.0.13"))
    process = await asyncio.create_subprocess_exec(program("haproxy"), "-db", "-f", str(path))
    try:
        answers = [await _ask("127.0.0.13", number) for _ in range(10)]
        assert answers == ["HTTP/1.1 200 OK"] * 10
        assert hits == {"one": 5, "two": 5}
        second.close()
        await second.wait_closed()
        assert [await _ask("127.0.0.13", number) for _ in range(6)] == ["HTTP/1.1 200 OK"] * 6
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()
        first.close()
        second.close()


async def _ask(host: str, number: int) -> str:
    """The status line; waits for the listener to be there."""
    async with asyncio.timeout(20):
        while True:
            try:
                reader, writer = await asyncio.open_connection(host, number)
                break
            except ConnectionRefusedError:
                await asyncio.sleep(0.02)
    writer.write(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    line = await reader.readline()
    await reader.read()
    writer.close()
    return line.decode().strip()
