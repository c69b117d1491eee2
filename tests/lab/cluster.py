"""essaim on the hosts of a lab: `with Cluster(lab) as cluster:` is one daemon a host, joined to one cluster.

    cluster.essaim("service", "create", "--name", "web", "-d", "busybox:lab")
    cluster.wait_running("web", 3)
    cluster.tasks("web")            # what `service ps --format json` says
    cluster.fetch(host, 8080)       # one HTTP request over a connection of its own

Commands run inside a host, on its daemon's own socket, as a user there would type them. With `shared_sockets` the
sockets are in the hosts' directories: the test opens `cluster.url(host)` itself, without a command a request.
"""

import json
import shutil
import sys
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

from .commands import CommandFailed
from .host import Host
from .lab import Lab
from .process import HostProcess
from .wait import eventually

BIN = Path(sys.executable).parent
DAEMON_UP = 30.0
CONVERGE = 60.0


class Cluster:
    """One essaimd on each host of the lab; the first `managers` of them are managers."""

    def __init__(
        self,
        lab: Lab,
        *,
        managers: int = 3,
        flags: tuple[str, ...] = (),
        shared_sockets: bool = False,
        init: tuple[str, ...] = (),
        flags_of: Callable[[Host], Sequence[str]] = lambda host: (),
    ) -> None:
        """`flags` for every daemon, `flags_of` for that of one host; `init` for `swarm init`."""
        self.lab = lab
        self._managers = managers
        self._flags = flags
        self._flags_of = flags_of
        self._shared_sockets = shared_sockets
        self._init = init
        self.daemons: dict[str, HostProcess] = {}

    def __enter__(self) -> "Cluster":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def first(self) -> Host:
        return self.lab.hosts[0]

    def start(self) -> None:
        for host in self.lab.hosts:
            self.start_daemon(host)
        for host in self.lab.hosts:
            self.wait_up(host)
        self.essaim("swarm", "init", "--advertise-addr", self.first.address, *self._init)
        tokens = {role: self.essaim("swarm", "join-token", "-q", role) for role in ("manager", "worker")}
        for number, host in enumerate(self.lab.hosts[1:], 2):
            token = tokens["manager" if number <= self._managers else "worker"]
            self.essaim("swarm", "join", "--token", token, f"{self.first.address}:2377", host=host)
        eventually(
            lambda: [n["Status"] for n in self.nodes()] == ["Ready"] * len(self.lab.hosts), 30, "all nodes are ready"
        )

    def stop(self) -> None:
        """End the daemons. The lab's reset removes what they left: containers, and state with `forget`."""
        for host in self.lab.hosts:
            if host.is_up:
                host.resume()
                host.stop_processes()
            self.forget(host)

    def forget(self, host: Host) -> None:
        """Remove a host's essaim state from its disk."""
        shutil.rmtree(self.state_dir(host), ignore_errors=True)

    def state_dir(self, host: Host) -> Path:
        return host.directory / "essaim"

    def start_daemon(self, host: Host) -> HostProcess:
        socket: list[str | Path] = ["--socket", self._socket(host)] if self._shared_sockets else []
        command: list[str | Path] = [BIN / "essaimd", "--state-dir", self.state_dir(host), *socket, *self._flags]
        command += self._flags_of(host)
        daemon = host.popen(command, name="essaimd")
        self.daemons[host.name] = daemon
        return daemon

    def url(self, host: Host) -> str:
        """The daemon's API as the test reaches it; needs `shared_sockets`."""
        assert self._shared_sockets, "the daemons' sockets are inside their hosts"
        return f"unix://{self._socket(host)}"

    def _socket(self, host: Host) -> Path:
        return host.directory / "essaim.sock"

    def wait_up(self, host: Host) -> None:
        eventually(
            lambda: self.essaim("version", host=host),
            DAEMON_UP,
            f"essaimd on {host.name} answers",
            retry_on=(CommandFailed,),
        )

    # -- commands ---------------------------------------------------------------------------------------------------

    def essaim(self, *arguments: str, host: Host | None = None, text: str = "", timeout: float = 90.0) -> str:
        """Run the `essaim` command; its output. Raises CommandFailed."""
        return self.run(*arguments, host=host, text=text, timeout=timeout).stdout.strip()

    def run(
        self, *arguments: str, host: Host | None = None, text: str = "", timeout: float = 90.0
    ) -> CompletedProcess[str]:
        """Run the `essaim` command, with the credentials of `Host.docker("login", ...)`. Raises CommandFailed."""
        where = host or self.first
        env = {"DOCKER_CONFIG": str(where.directory / "docker-cli")}
        if self._shared_sockets:
            env["ESSAIM_HOST"] = self.url(where)
        return where.run([BIN / "essaim", *arguments], text=text, timeout=timeout, env=env)

    def records(self, *arguments: str, host: Host | None = None) -> list[dict[str, Any]]:
        """A listing command's `--format json`, a line an object."""
        return [json.loads(line) for line in self.essaim(*arguments, "--format", "json", host=host).splitlines()]

    def nodes(self, host: Host | None = None) -> list[dict[str, Any]]:
        return self.records("node", "ls", host=host)

    def tasks(self, service: str, *, running: bool = True, host: Host | None = None) -> list[dict[str, Any]]:
        """Tasks of a service as `service ps` shows them; those that are meant to run, or all with history."""
        only = ["--filter", "desired-state=running"] if running else []
        return self.records("service", "ps", service, "--no-trunc", *only, host=host)

    def running(self, service: str, host: Host | None = None) -> list[dict[str, Any]]:
        """The tasks that do run."""
        return [t for t in self.tasks(service, host=host) if t["CurrentState"].startswith("Running")]

    def wait_running(
        self, service: str, count: int, *, deadline: float = CONVERGE, host: Host | None = None
    ) -> list[dict[str, Any]]:
        """Wait for exactly `count` running tasks and no other that is meant to run."""

        def settled() -> list[dict[str, Any]]:
            tasks = self.tasks(service, host=host)
            running = [t for t in tasks if t["CurrentState"].startswith("Running")]
            return running if len(running) == len(tasks) == count else []

        return eventually(settled, deadline, f"{count} tasks of {service} run", retry_on=(CommandFailed,))

    def wait_state(self, service: str, state: str, *, deadline: float = CONVERGE) -> list[dict[str, Any]]:
        """Wait until all tasks of the service, ended ones too, are in this state."""

        def settled() -> list[dict[str, Any]]:
            tasks = self.tasks(service, running=False)
            return tasks if tasks and all(t["CurrentState"].startswith(state) for t in tasks) else []

        return eventually(settled, deadline, f"all tasks of {service} are {state}", retry_on=(CommandFailed,))

    def deploy(self, stack: str, text: str, *, host: Host | None = None) -> str:
        """Deploy a stack file given as text; does not wait."""
        return self.essaim("stack", "deploy", "--detach=true", "-c", "-", stack, host=host, text=text)

    # -- traffic ----------------------------------------------------------------------------------------------------

    def fetch(self, host: Host, port: int, path: str = "/", *, timeout: float = 5.0) -> str:
        """GET from the test's own side of the network. Raises OSError."""
        request = urllib.request.Request(f"http://{host.address}:{port}{path}", headers={"Connection": "close"})
        with urllib.request.urlopen(request, timeout=timeout) as response:
            body: bytes = response.read()
        return body.decode()
