"""A daemon's entry points, from its command line to the configuration of the balancer in front of it."""

import asyncio
from pathlib import Path

import pytest
from click.testing import CliRunner

from essaim.daemon.main import main
from tests.daemon.processes import Daemon, init
from tests.lab.wait import eventually_async
from tests.ports import free_port

pytestmark = [pytest.mark.timeout(120), pytest.mark.blocking_allowed]
RULE = "traefik.http.routers.web.rule=Host(`web.example`)"


async def test_entry_points_that_routers_use_are_in_the_balancers_configuration(tmp_path: Path) -> None:
    """Over all its names: a router that names no entry point is at each."""
    web, other = free_port("127.0.0.1"), free_port("127.0.0.1")
    points = (f"web={web},trusted=192.0.2.7,proxyprotocol", f"other={other}", "websecure=off")
    flags = [flag for point in points for flag in ("--entrypoint", point)]
    daemon = Daemon(tmp_path, 1, ("--runtime", "process", *flags))
    try:
        await daemon.start()
        await init(daemon)
        made = await asyncio.to_thread(
            daemon.essaim, "service", "create", "--no-resolve-image", "-d", "--name", "web", "--label", RULE,
            "--publish", "published=0,target=80,app_protocol=http", "essaim/whoami",
        )  # fmt: skip
        assert made.returncode == 0, made.stderr

        async def rendered(kind: str, *more: str) -> str:
            return (await asyncio.to_thread(daemon.essaim, "lb", "render", kind, *more)).stdout

        async def is_there() -> bool:
            return f"bind 192.0.2.1:{web}\n" in await rendered("haproxy", "--bind", "192.0.2.1")

        await eventually_async(is_there, 30, "the entry point is rendered")
        haproxy = await rendered("haproxy")
        assert f"{daemon.address}:{web} check send-proxy-v2 check-send-proxy\n" in haproxy
        assert f"{daemon.address}:{other} check\n" in haproxy
        assert f"start essaimd with --entrypoint other={other},trusted=ADDRESS (its own)\n" in haproxy
        assert f"entrypoint.web-{web}" in await rendered("nginx")
        assert f"entrypoint.web-{web}" in await rendered("traefik")
        assert f"address: '[fd00::1]:{web}'" in await rendered("traefik-static", "--bind", "fd00::1")
        wrong = await asyncio.to_thread(daemon.essaim, "lb", "render", "haproxy", "--bind", "everywhere")
        assert (wrong.returncode, 'invalid bind "everywhere": an IP address is expected' in wrong.stderr) == (1, True)
    finally:
        await daemon.remove()


def test_entry_point_that_cannot_be_read_ends_the_daemon_with_a_reason() -> None:
    done = CliRunner().invoke(main, ["--entrypoint", "web=80,proxyprotocol"])
    assert done.exit_code == 2
    assert "'web=80,proxyprotocol': proxyprotocol needs trusted=NETWORK" in " ".join(done.output.split())
