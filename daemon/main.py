"""The `essaimd` command: flags, start, signals, stop."""

import asyncio
import os
import random
import signal
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
import uvloop

from essaim.api.app import create_app
from essaim.cluster.errors import ClusterError
from essaim.daemon.keys.identity import BrokenIdentity, IdentityFile
from essaim.daemon.listening.descriptors import Bounds, raise_limit
from essaim.daemon.listening.docker_socket import DEFAULT as DOCKER_SOCKET
from essaim.daemon.listening.listeners import Listening
from essaim.daemon.membership.first_join import join_first, request_of
from essaim.daemon.node.runtimes import NoRuntime, choose
from essaim.gateway.protocol.entry_points import FORM, EntryPoint, read_entry_points
from essaim.raft.interface import Unusable

from .balancers import renderers
from .collector import tune_collector
from .daemon import Daemon
from .endings import CANCEL_SECONDS
from .logs import LEVELS, configure
from .settings import Settings
from .state_dir import UMASK, prepare

STOP_SECONDS = 45.0
"""How long an orderly stop may take, whatever the Engine, the disk or other managers do. Parts of it are given up much
sooner; this is for what nobody thought of."""
THREAD_SECONDS = 10.0
START_ERRORS = (ClusterError, BrokenIdentity, Unusable, NoRuntime, OSError)


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
    "--state-dir",
    type=click.Path(path_type=Path, readable=False),  # whether it can be used is said in full at the start
    default=_default_state,
    help="Where this node keeps its state.",
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
        code = runner.run(_run(settings, started_with, log))
        # A thread that hangs on a disk would hold up the end of the interpreter for ever.
        last = threading.Timer(THREAD_SECONDS, os._exit, [code])
        last.daemon = True
        last.start()
    sys.exit(code)


class Stopping:
    """What signals ask for: the first one an orderly stop, the second one the end at once (as kill -9: tasks go on)."""

    def __init__(self, log: Any, end: Callable[[int], Any] = os._exit) -> None:
        self._log = log
        self._end = end
        self.asked = asyncio.Event()

    def listen(self, loop: asyncio.AbstractEventLoop) -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self.signal)

    def signal(self) -> None:
        if self.asked.is_set():
            self._log.warning("essaimd was told to stop twice and ends at once")
            self._end(1)
        self.asked.set()

    async def unless(self, work: Coroutine[Any, Any, None]) -> None:
        """Do the work, or give it up when the daemon is told to stop. Raises what the work raises."""
        stopped = asyncio.ensure_future(self.asked.wait())
        working = asyncio.ensure_future(work)
        await asyncio.wait({stopped, working}, return_when=asyncio.FIRST_COMPLETED)
        stopped.cancel()
        if working.done():
            working.result()
            return
        working.cancel()
        await asyncio.wait([working], timeout=CANCEL_SECONDS)

    async def carry_out(self, parts: Sequence[Callable[[], Awaitable[None]]]) -> None:
        """Stop the parts, one after another. What hangs for STOP_SECONDS ends with the process."""
        try:
            async with asyncio.timeout(STOP_SECONDS):
                for stop in parts:
                    await stop()
        except TimeoutError:
            self._log.error("essaimd did not stop in time and ends at once", seconds=STOP_SECONDS)
            self._end(1)


def _reason(error: Exception) -> str:
    """The system's own errors name a file and no more."""
    if isinstance(error, OSError) and error.filename and error.strerror:
        return f"{error.filename}: {error.strerror.lower()}. Look at its kind, owner and permissions: essaimd needs it"
    return str(error)


class Program:
    """One run of the daemon: what `start` has begun, `stop` ends, however far it came."""

    def __init__(self, settings: Settings, stopping: Stopping, open_files: Bounds, log: Any) -> None:
        """`open_files`: the limits of descriptors that the daemon was started with."""
        self._settings = settings
        self._stopping = stopping
        self._open_files = open_files
        self._log = log
        self._parts: list[Callable[[], Awaitable[None]]] = []

    async def start(self) -> None:
        """Raises START_ERRORS."""
        settings, log = self._settings, self._log
        closed = await asyncio.to_thread(prepare, settings.state_dir)
        if closed:
            log.warning(
                "the state directory was open to other users: closed", path=str(settings.state_dir), files=closed
            )
        joining = request_of(settings)
        identity = await asyncio.to_thread(IdentityFile(settings.state_dir).load)
        chosen = await choose(settings, identity.runtime if identity else "", log, self._open_files)
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
        self._parts = [server.stop, daemon.stop]
        await daemon.start()
        await server.start()
        if joining is not None:
            await join_first(daemon, joining, asyncio.sleep, log)
        log.info("essaimd is up", socket=str(settings.socket), node=daemon.node_id or "not in a swarm")

    async def stop(self) -> None:
        await self._stopping.carry_out(self._parts)


async def _run(settings: Settings, open_files: Bounds, log: Any) -> int:
    stopping = Stopping(log)
    stopping.listen(asyncio.get_running_loop())
    program = Program(settings, stopping, open_files, log)
    code = 0
    try:
        await stopping.unless(program.start())
    except START_ERRORS as error:
        log.error("essaimd cannot start", reason=_reason(error))
        code = 1
    else:
        await stopping.asked.wait()
    await program.stop()
    return code
