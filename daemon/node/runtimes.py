"""Which runtime this host has: a Docker Engine, plain processes, or none on a host that is only a gateway.

`--runtime auto` decides once: a node in a cluster stays what it became when it joined (its identity says so), whether
or not its Engine answers when the daemon starts. Before that, a host has an Engine when one answers, or when one is set
up to start with the host. An Engine that does not answer yet is waited for.
"""

import asyncio
import os
import random
import socket
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from essaim.agent.runtime.docker.engine import Engine
from essaim.agent.runtime.docker.runtime import DockerRuntime
from essaim.agent.runtime.host import host_description
from essaim.agent.runtime.interface import Runtime, RuntimeUnavailable
from essaim.agent.runtime.no_tasks import NoTasksRuntime
from essaim.agent.runtime.process.runtime import ProcessRuntime
from essaim.cluster.engine_address import DEFAULT_ENGINE, parse_engine
from essaim.cluster.node import NodeDescription
from essaim.daemon.settings import Settings

PROBE_TIMEOUT = 3.0
ENABLED = [
    Path(f"/etc/systemd/system/{target}.wants/{unit}")
    for target, unit in (("multi-user.target", "docker.service"), ("sockets.target", "docker.socket"))
]
SYSTEMD = Path("/run/systemd/system")
"""Made by systemd when it is what starts this host: the units above mean something only then."""


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

    @property
    def kind(self) -> str:
        """What the node's identity remembers."""
        if self.settings.gateway_only:
            return "gateway"
        return "process" if self.engine_url is None else "docker"

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
        """This host, before it is part of a cluster. While its Engine is waited for: without `engine`."""
        runtime = self.make("")
        try:
            async with asyncio.timeout(PROBE_TIMEOUT):
                return await runtime.describe()
        except (RuntimeUnavailable, TimeoutError) as problem:
            reason = str(problem) or f"it took a connection and said nothing for {PROBE_TIMEOUT:g} s"
            self.log.warning("the Docker Engine is waited for: no task starts before it answers", reason=reason)
            about = await asyncio.to_thread(host_description, self.settings.hostname or socket.gethostname())
            return msgspec.structs.replace(about, runtime=self.kind)
        finally:
            await runtime.close()


async def choose(settings: Settings, remembered: str, log: Any, open_files: tuple[int, int] | None = None) -> Runtimes:
    """`remembered` is what the node runs tasks by since it is in its cluster; empty outside one, or when nobody noted
    it. Raises NoRuntime for flags that contradict each other, or an Engine's address that is none."""
    if settings.gateway_only and (settings.engine or settings.runtime != "auto"):
        raise NoRuntime("--gateway-only runs no tasks: leave out --runtime and --engine, or --gateway-only")
    if settings.gateway_only or settings.runtime == "process":
        return Runtimes(settings, None, log, open_files)
    url = settings.engine or os.environ.get("DOCKER_HOST") or DEFAULT_ENGINE
    try:
        parse_engine(url)
    except ValueError as error:
        raise NoRuntime(str(error)) from error
    if settings.runtime == "docker" or settings.engine or remembered == "docker":
        return Runtimes(settings, url, log, open_files)
    if remembered == "process" or has_process_tasks(settings.state_dir):
        return Runtimes(settings, None, log, open_files)
    problem = await _problem(url)
    if not problem or starts_with_the_host(url):
        return Runtimes(settings, url, log, open_files)
    log.info("no Docker Engine answers here: tasks run as plain processes", engine=url, reason=problem)
    return Runtimes(settings, None, log, open_files)


def has_process_tasks(state_dir: Path) -> bool:
    """A state directory that notes no runtime, of a node that has run processes."""
    return any((state_dir / "process" / "tasks").glob("*"))


def starts_with_the_host(url: str, units: Iterable[Path] = ENABLED, systemd: Path | None = None) -> bool:
    """An Engine is set up here, though it does not answer: its address was named, its socket is there, or systemd
    starts it."""
    named = bool(os.environ.get("DOCKER_HOST"))
    is_there = url.startswith("unix://") and Path(url.removeprefix("unix://")).exists()
    return (
        named
        or is_there
        or ((systemd or SYSTEMD).is_dir() and any(unit.is_symlink() or unit.exists() for unit in units))
    )


async def _problem(url: str) -> str:
    """Why the Engine does not answer; empty when it does."""
    try:
        async with asyncio.timeout(PROBE_TIMEOUT), Engine(url) as engine:
            await engine.version()
    except (RuntimeUnavailable, TimeoutError) as error:
        return str(error) or "no answer in time"
    return ""
