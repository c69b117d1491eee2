"""Which runtime this host has: a Docker Engine where one answers, plain processes otherwise or when asked for; none on
a host that is only a gateway."""

import os
import random
import socket
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from essaim.agent.docker.runtime import DockerRuntime
from essaim.agent.no_tasks import NoTasksRuntime
from essaim.agent.process.runtime import ProcessRuntime
from essaim.agent.runtime import Runtime
from essaim.cluster.node import NodeDescription

from .settings import Settings

DEFAULT_ENGINE = "unix:///var/run/docker.sock"
PROBE_TIMEOUT = 3.0


class NoRuntime(Exception):
    """What was asked for is not there; the message says what to do."""


@dataclass(frozen=True, slots=True)
class Runtimes:
    """Makes this host's runtime. `engine_url` is None where there is no Engine. `open_files`: the limits of descriptors
    that the daemon was started with, for processes."""

    settings: Settings
    engine_url: str | None
    log: Any
    open_files: tuple[int, int] | None = None

    def make(self, data_addr: str) -> Runtime:
        """`data_addr` is the address of this host at which tasks' ports are reached."""
        if self.settings.gateway_only:
            return NoTasksRuntime(data_addr=data_addr, hostname=self.settings.hostname or socket.gethostname())
        if self.engine_url is not None:
            return DockerRuntime(
                engine_url=self.engine_url,
                data_addr=data_addr,
                environment=os.environ,
                log=self.log,
                hostname=self.settings.hostname,
                cluster_socket=self.settings.docker_socket,
            )
        return ProcessRuntime(
            state_dir=self.settings.state_dir / "process",
            data_addr=data_addr,
            environment=os.environ,
            chance=random.random,
            monotonic=time.monotonic,
            log=self.log,
            hostname=self.settings.hostname,
            open_files=self.open_files,
            node_dir=self.settings.state_dir,
        )

    async def describe(self) -> NodeDescription:
        """This host, before it is part of a cluster."""
        runtime = self.make("")
        try:
            return await runtime.describe()
        finally:
            await runtime.close()


async def choose(settings: Settings, log: Any, open_files: tuple[int, int] | None = None) -> Runtimes:
    """Raises NoRuntime when docker was asked for and no Engine answers, or where tasks are not to run at all."""
    if settings.gateway_only and (settings.engine or settings.runtime != "auto"):
        raise NoRuntime("--gateway-only runs no tasks: leave out --runtime and --engine, or --gateway-only")
    if settings.gateway_only:
        return Runtimes(settings, None, log, open_files)
    if settings.runtime == "process":
        return Runtimes(settings, None, log, open_files)
    url = settings.engine or os.environ.get("DOCKER_HOST") or DEFAULT_ENGINE
    problem = await _problem(url)
    if not problem:
        return Runtimes(settings, url, log, open_files)
    if settings.runtime == "docker" or settings.engine:
        raise NoRuntime(
            f"no Docker Engine answers at {url} ({problem}). Start it, name another with --engine, or use "
            "--runtime process"
        )
    log.info("no Docker Engine answers here: tasks run as plain processes", engine=url, reason=problem)
    return Runtimes(settings, None, log, open_files)


async def _problem(url: str) -> str:
    """Why the Engine does not answer; empty when it does."""
    scheme, _, rest = url.partition("://")
    connector: aiohttp.BaseConnector
    if scheme == "unix":
        connector, base = aiohttp.UnixConnector(str(Path(rest))), "http://engine"
    elif scheme in ("http", "tcp"):
        connector, base = aiohttp.TCPConnector(), f"http://{rest}"
    else:
        return f"{scheme or url!r} is no scheme of an Engine's address: unix, http or tcp"
    timeout = aiohttp.ClientTimeout(total=PROBE_TIMEOUT)
    try:
        async with (
            aiohttp.ClientSession(connector=connector, timeout=timeout) as session,
            session.get(f"{base}/_ping") as response,
        ):
            return "" if response.status == 200 else f"it answers with status {response.status}"
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        return str(error) or "no answer in time"
