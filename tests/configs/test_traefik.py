"""Traefik's configuration: the whole files, and the real program balancing real requests with them."""

import asyncio
from pathlib import Path

from essaim.configs.traefik import render_traefik, render_traefik_static
from essaim.gateway.protocol.entry_points import ServedPoint
from essaim.gateway.protocol.routes import RouteTable

from .conftest import Fleet, balancer


def test_traefik_configurations_are_the_golden_files(
    table: RouteTable, points: list[ServedPoint], golden: Path
) -> None:
    assert render_traefik(table, points) == (golden / "traefik-dynamic.yml").read_text()
    assert render_traefik_static(table, points) == (golden / "traefik.yml").read_text()


def test_traefik_equal_tables_in_another_order_give_identical_bytes(table: RouteTable) -> None:
    turned = RouteTable(version=8, services=table.services[::-1], gateways=table.gateways[::-1])
    assert render_traefik(turned) == render_traefik(table)
    assert render_traefik_static(turned) == render_traefik_static(table)


async def test_traefik_balances_requests_over_live_gateways(tmp_path: Path, fleet: Fleet) -> None:
    async with balancer("traefik", tmp_path, fleet.table) as address:
        # The entry point listens before the file is read.
        async with asyncio.timeout(30):
            while await fleet.ask(address, 1) != ["HTTP/1.1 200 OK"]:
                await asyncio.sleep(0.05)
        fleet.hits.clear()
        assert await fleet.ask(address, 10) == ["HTTP/1.1 200 OK"] * 10
        assert fleet.hits == {"one": 5, "two": 5}
        await fleet.stop("two")
        assert await fleet.ask(address, 6) == ["HTTP/1.1 200 OK"] * 6
