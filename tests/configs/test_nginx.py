"""NGINX's configuration: the whole file, accepted by the real program, and balancing real requests."""

import subprocess
from pathlib import Path

import pytest

from essaim.configs.nginx import render_nginx
from essaim.gateway.protocol.entry_points import ServedPoint
from essaim.gateway.protocol.routes import RouteTable

from .conftest import Fleet, balancer, program


def test_nginx_configuration_is_the_golden_file(table: RouteTable, points: list[ServedPoint], golden: Path) -> None:
    assert render_nginx(table, points) == (golden / "nginx.conf").read_text()


def test_nginx_equal_tables_in_another_order_give_identical_bytes(table: RouteTable) -> None:
    turned = RouteTable(version=8, services=table.services[::-1], gateways=table.gateways[::-1])
    assert render_nginx(turned) == render_nginx(table)


@pytest.mark.root
@pytest.mark.parametrize("empty", [True, False])
def test_nginx_accepts_the_configuration(
    table: RouteTable, points: list[ServedPoint], tmp_path: Path, empty: bool
) -> None:
    path = tmp_path / "nginx.conf"
    path.write_text(render_nginx(RouteTable(services=table.services) if empty else table, points))
    command = [program("nginx"), "-t", "-c", str(path), "-p", str(tmp_path), "-g", f"pid {tmp_path}/pid;"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "[warn]" not in done.stderr


@pytest.mark.root
async def test_nginx_balances_requests_over_live_gateways(tmp_path: Path, fleet: Fleet) -> None:
    async with balancer("nginx", tmp_path, fleet.table) as address:
        assert await fleet.ask(address, 10) == ["HTTP/1.1 200 OK"] * 10
        assert fleet.hits == {"one": 5, "two": 5}
        await fleet.stop("two")
        assert await fleet.ask(address, 6) == ["HTTP/1.1 200 OK"] * 6
