"""Traefik's configuration: the whole files, and the real program balancing real requests with them."""

import asyncio
import shutil
import sys
from pathlib import Path

import pytest

from essaim.configs.traefik import render_traefik, render_traefik_static
from essaim.gateway.routes import RouteTable

from .conftest import Fleet


def test_traefik_configurations_are_the_golden_files(table: RouteTable, golden: Path) -> None:
    assert render_traefik(table) == (golden / "traefik-dynamic.yml").read_text()
    assert render_traefik_static(table) == (golden / "traefik.yml").read_text()


def test_traefik_equal_tables_in_another_order_give_identical_bytes(table: RouteTable) -> None:
    turned = RouteTable(version=8, services=table.services[::-1], gateways=table.gateways[::-1])
    assert render_traefik(turned) == render_traefik(table)
    assert render_traefik_static(turned) == render_traefik_static(table)


async def test_traefik_balances_requests_over_live_gateways(tmp_path: Path, fleet: Fleet) -> None:
    found = shutil.which("traefik", path=str(Path(sys.executable).parent)) or shutil.which("traefik")
    if found is None:
        pytest.skip("traefik is not installed (requirements-dev.lock)")
    dynamic, static = tmp_path / "dynamic.yml", tmp_path / "traefik.yml"
    dynamic.write_text(render_traefik(fleet.table))
    static.write_text(render_traefik_static(fleet.table, bind="127.0.0.16", dynamic=str(dynamic)))
    process = await asyncio.create_subprocess_exec(
        found, f"--configFile={static}", stdout=asyncio.subprocess.DEVNULL, start_new_session=True
    )
    try:
        # The entry point listens before the file is read.
        async with asyncio.timeout(30):
            while await fleet.ask("127.0.0.16", 1) != ["HTTP/1.1 200 OK"]:
                await asyncio.sleep(0.05)
        fleet.hits.clear()
        assert await fleet.ask("127.0.0.16", 10) == ["HTTP/1.1 200 OK"] * 10
        assert fleet.hits == {"one": 5, "two": 5}
        await fleet.stop("two")
        assert await fleet.ask("127.0.0.16", 6) == ["HTTP/1.1 200 OK"] * 6
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()
