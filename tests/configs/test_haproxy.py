"""HAProxy's configuration: the whole file, accepted by the real program, and balancing real requests."""

import re
import subprocess
from pathlib import Path

import pytest

from essaim.configs.haproxy import render_haproxy
from essaim.gateway.protocol.entry_points import ServedPoint
from essaim.gateway.protocol.routes import RouteService, RouteTable

from .conftest import Fleet, balancer, port, program


def test_haproxy_configuration_is_the_golden_file(table: RouteTable, points: list[ServedPoint], golden: Path) -> None:
    assert render_haproxy(table, points) == (golden / "haproxy.cfg").read_text()


def test_haproxy_equal_tables_in_another_order_give_identical_bytes(table: RouteTable) -> None:
    turned = RouteTable(version=8, services=table.services[::-1], gateways=table.gateways[::-1])
    assert render_haproxy(turned) == render_haproxy(table)


def test_haproxy_service_name_with_line_break_stays_in_its_comment(table: RouteTable) -> None:
    evil = RouteTable(services=[RouteService(id="s", name="a\n  bind :1\x00", ports=[port(80)])])
    assert not re.search(r"^\s*bind :1", render_haproxy(evil), re.MULTILINE)


@pytest.mark.parametrize("empty", [True, False])
def test_haproxy_accepts_the_configuration(
    table: RouteTable, points: list[ServedPoint], tmp_path: Path, empty: bool
) -> None:
    path = tmp_path / "haproxy.cfg"
    path.write_text(render_haproxy(*((RouteTable(), ()) if empty else (table, points))))
    done = subprocess.run([program("haproxy"), "-c", "-f", str(path)], capture_output=True, text=True, check=False)
    assert "[ALERT]" not in done.stderr
    assert "[WARNING]" not in done.stderr
    # Nothing to serve is the one thing that HAProxy refuses to start with.
    assert done.returncode in ((0, 2) if empty else (0,))


@pytest.mark.root
async def test_haproxy_balances_requests_over_live_gateways(tmp_path: Path, fleet: Fleet) -> None:
    async with balancer("haproxy", tmp_path, fleet.table) as address:
        assert await fleet.ask(address, 10) == ["HTTP/1.1 200 OK"] * 10
        assert fleet.hits == {"one": 5, "two": 5}
        await fleet.stop("two")
        assert await fleet.ask(address, 6) == ["HTTP/1.1 200 OK"] * 6
