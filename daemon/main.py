"""The `essaimd` command: flags, start, signals, stop."""

import asyncio
import os
import random
import signal
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
import uvloop

from essaim.api.app import create_app
from essaim.cluster.errors import ClusterError
from essaim.configs.haproxy import render_haproxy

from .apiserver import ApiServer, SocketTaken
from .daemon import Daemon
from .identity import BrokenIdentity
from .logs import LEVELS, configure
from .runtimes import NoRuntime, choose
from .settings import Settings

START_ERRORS = (ClusterError, SocketTaken, BrokenIdentity, NoRuntime, OSError)


def _default_socket() -> Path:
    if os.geteuid() == 0:
        return Path("/run/essaim/essaim.sock")
    return Path(os.environ.get("XDG_RUNTIME_DIR") or f"/run/user/{os.geteuid()}") / "essaim.sock"


def _default_state() -> Path:
    if os.geteuid() == 0:
        return Path("/var/lib/essaim")
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local/state") / "essaim"


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--state-dir", type=click.Path(path_type=Path), default=_default_state, help="Where this node keeps its state."
)
@click.option("--socket", type=click.Path(path_type=Path), default=_default_socket, help="Unix socket of the API.")
@click.option("--advertise-addr", default="", help="Address that other nodes reach this one at (IP or interface).")
@click.option("--listen-addr", default="", help="Address for managers and agents (IP:2377).")
@click.option("--api-addr", default="", help="Serve the API over TCP too (IP:2376); off by default.")
@click.option("--mesh-addr", default="", help="Address on which published ports listen; all by default.")
@click.option("--runtime", type=click.Choice(["auto", "docker", "process"]), default="auto", help="What runs tasks.")
@click.option("--engine", default="", help="Docker Engine to drive (unix:///... or http://...).")
@click.option("--hostname", default="", help="Name of this node; the host's by default.")
@click.option(
    "--gateway-workers",
    type=click.IntRange(1, 256),
    default=None,
    help="Data-plane processes; one per core by default.",
)
@click.option("--log-level", type=click.Choice(list(LEVELS)), default="info")
@click.option("--log-format", type=click.Choice(["text", "json"]), default="text")
@click.version_option(package_name="essaim", prog_name="essaimd")
def main(log_level: str, log_format: str, **flags: Any) -> None:
    """The essaim daemon: run it on every host of the cluster. It starts idle; `essaim swarm init` or
    `essaim swarm join` give it its part."""
    log = configure(log_level, log_format)
    settings = Settings(**flags)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        sys.exit(runner.run(_run(settings, log)))


async def _run(settings: Settings, log: Any) -> int:
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopping.set)
    daemon: Daemon | None = None
    server: ApiServer | None = None
    try:
        await asyncio.to_thread(settings.state_dir.mkdir, parents=True, exist_ok=True)
        chosen = await choose(settings, log)
        daemon = Daemon(
            settings,
            chosen,
            await chosen.describe(),
            now=lambda: datetime.now(UTC),
            monotonic=time.monotonic,
            log=log,
        )
        app = create_app(
            daemon,
            chance=random.SystemRandom(),
            now=lambda: datetime.now(UTC),
            log=log,
            renderers={"haproxy": render_haproxy},
        )
        server = ApiServer(app)
        await daemon.start()
        await server.start(settings.socket, settings.api_addr)
    except START_ERRORS as error:
        log.error("essaimd cannot start", reason=str(error))
        stopping.set()
        code = 1
    else:
        log.info("essaimd is up", socket=str(settings.socket), node=daemon.node_id or "not in a swarm")
        code = 0
    await stopping.wait()
    if server is not None:
        await server.stop()
    if daemon is not None:
        await daemon.stop()
    return code
