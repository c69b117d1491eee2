"""The `essaimd` command: flags, start, signals, stop."""

import asyncio
import os
import random
import signal
import sys
import time
from collections.abc import Coroutine
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
import uvloop

from essaim.api.app import create_app
from essaim.cluster.errors import ClusterError
from essaim.gateway.entry_points import FORM, EntryPoint, read_entry_points

from .balancers import renderers
from .collector import tune_collector
from .daemon import Daemon
from .descriptors import Bounds, raise_limit
from .docker_socket import DEFAULT as DOCKER_SOCKET
from .first_join import join_first, request_of
from .identity import BrokenIdentity
from .listening import Listening
from .logs import LEVELS, configure
from .runtimes import NoRuntime, choose
from .settings import Settings
from .state_dir import UMASK, prepare

START_ERRORS = (ClusterError, BrokenIdentity, NoRuntime, OSError)


FILE = click.Path(path_type=Path, exists=True, dir_okay=False)


def _default_socket() -> Path:
    if os.geteuid() == 0:
        return Path("/run/essaim/essaim.sock")
    return Path(os.environ.get("XDG_RUNTIME_DIR") or f"/run/user/{os.geteuid()}") / "essaim.sock"


def _default_state() -> Path:
    if os.geteuid() == 0:
        return Path("/var/lib/essaim")
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local/state") / "essaim"


def _entry_points(texts: tuple[str, ...]) -> dict[str, EntryPoint]:
    try:
        return read_entry_points(texts)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--state-dir", type=click.Path(path_type=Path), default=_default_state, help="Where this node keeps its state."
)
@click.option("--socket", type=click.Path(path_type=Path), default=_default_socket, help="Unix socket of the API.")
@click.option("--advertise-addr", default="", help="Address that other nodes reach this one at (IP or interface).")
@click.option("--listen-addr", default="", help="Address for managers and agents (IP:2377).")
@click.option("--api-addr", default="", help="Serve the API over TCP too (IP:2376); off by default.")
@click.option(
    "--api-host", "api_hosts", multiple=True, help="A further name that clients call --api-addr by. Repeatable."
)
@click.option("--tlscacert", "tls_ca", type=FILE, default=None, help="CA whose client certificates --api-addr trusts.")
@click.option("--tlscert", "tls_cert", type=FILE, default=None, help="Certificate of the API over TLS.")
@click.option("--tlskey", "tls_key", type=FILE, default=None, help="Its key.")
@click.option("--metrics-addr", default="", help="Serve /metrics for Prometheus (IP:9323), read-only; off by default.")
@click.option(
    "--serve-docker-socket",
    "docker_socket",
    type=click.Path(path_type=Path),
    is_flag=False,
    flag_value=str(DOCKER_SOCKET),
    default=None,
    help="Tasks that mount Docker's socket get the cluster's API, by way of this socket.",
)
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
@click.option(
    "--entrypoint",
    "entry_points",
    multiple=True,
    metavar=FORM,
    callback=lambda context, option, value: _entry_points(value),
    help="An entry point of Traefik's labels, or NAME=off; web=80 and websecure=443 by default. trusted: the proxies "
    "in front of it that are believed; proxyprotocol: they send PROXY headers. Repeatable.",
)
@click.option("--gateway-only", is_flag=True, help="Serve published ports and run no tasks; needs no Docker.")
@click.option("--join", multiple=True, help="Join the cluster of this manager (HOST:2377) when first started.")
@click.option("--token", default="", envvar="ESSAIM_JOIN_TOKEN", help="Token for --join.")
@click.option("--log-level", type=click.Choice(list(LEVELS)), default="info")
@click.option("--log-format", type=click.Choice(["text", "json"]), default="text")
@click.version_option(package_name="essaim", prog_name="essaimd")
def main(log_level: str, log_format: str, **flags: Any) -> None:
    """The essaim daemon: run it on every host of the cluster. It starts idle; `essaim swarm init` or
    `essaim swarm join` give it its part."""
    log = configure(log_level, log_format)
    settings = Settings(**flags)
    os.umask(UMASK)
    started_with, now = raise_limit()
    log.debug("descriptors", soft=now[0], hard=now[1], started_with=started_with)
    tune_collector()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        sys.exit(runner.run(_run(settings, log, started_with)))


async def _unless(stopping: asyncio.Event, work: Coroutine[Any, Any, None]) -> None:
    """Do the work, or give it up when the daemon is told to stop."""
    stopped = asyncio.ensure_future(stopping.wait())
    working = asyncio.ensure_future(work)
    await asyncio.wait({stopped, working}, return_when=asyncio.FIRST_COMPLETED)
    stopped.cancel()
    if not working.done():
        working.cancel()
        await asyncio.gather(working, return_exceptions=True)
    else:
        working.result()


async def _run(settings: Settings, log: Any, open_files: Bounds) -> int:
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopping.set)
    daemon: Daemon | None = None
    server: Listening | None = None
    try:
        closed = await asyncio.to_thread(prepare, settings.state_dir)
        if closed:
            log.warning(
                "the state directory was open to other users: closed", path=str(settings.state_dir), files=closed
            )
        joining = request_of(settings)
        chosen = await choose(settings, log, open_files)
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
            renderers=renderers(daemon),
            dial_engine=daemon.dial_engine,
        )
        server = Listening(daemon, app, settings, log)
        await daemon.start()
        await server.start()
        if joining is not None:
            await _unless(stopping, join_first(daemon, joining, asyncio.sleep, log))
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
