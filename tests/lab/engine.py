"""The Docker Engine of one host: a stock dockerd with its usual paths under the host's own /run, and its containerd.

It listens on the usual socket inside the host, and on one in the host's folder for the test. Only the data-root
is given, because it must outlive a crash. `cgroupfs` because hosts have no systemd of their own.
"""

import signal
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from .commands import CommandFailed, call
from .process import HostProcess
from .wait import eventually

if TYPE_CHECKING:
    from .host import Host

# Seconds. An Engine takes 0.6 s here; others may be starting on the same two cores.
START_DEADLINE = 60.0
STOP_DEADLINE = 60.0
# Lines of its log that say nothing about a failure: containerd's greeting, and missing features of a kernel.
_NOISE = ("level=info", "config version", "devmapper", "Your kernel does not support", "cleaning up after shim")


class Engine:
    def __init__(self, host: "Host") -> None:
        self._host = host
        self._socket = host.directory / "docker.sock"
        self._process: HostProcess | None = None
        self.url = f"unix://{self._socket}"

    def start(self) -> None:
        """Start dockerd and wait until it answers."""
        folder = self._host.directory
        config = folder / "daemon.json"
        config.write_text("{}")
        argv: list[str | Path] = [
            "dockerd",
            "--config-file",
            config,
            "--data-root",
            folder / "docker",
            "--storage-driver",
            "overlay2",
        ]
        argv += ["-H", "unix:///run/docker.sock", "-H", self.url, "--shutdown-timeout", "5", "--log-level", "warn"]
        argv += ["--exec-opt", "native.cgroupdriver=cgroupfs", "--cgroup-parent", self._host.containers.path]
        self._process = self._host.start_daemon(argv, "dockerd")
        eventually(self._answers, START_DEADLINE, f"{self._host.name}: dockerd answering")

    def stop(self) -> None:
        """SIGTERM: containers are stopped, then the Engine. One that does not run is no error."""
        if self._process:
            self._process.terminate(STOP_DEADLINE)
            self._wait_for_containerd()
            self._process = None

    def kill(self) -> None:
        """SIGKILL, as a crash of the Engine; its containerd dies with it."""
        if self._process:
            self._process.kill()
            self._wait_for_containerd()
            self._process = None

    def freeze(self) -> None:
        """SIGSTOP: it takes connections and answers nothing until `thaw`."""
        if self._process:
            self._process.signal(signal.SIGSTOP)

    def thaw(self) -> None:
        if self._process:
            self._process.signal(signal.SIGCONT)

    def forget(self) -> None:
        """The host crashed and took the Engine along."""
        if self._process:
            self._process.wait(10)
        self._process = None

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def docker(self, *arguments: str | Path, text: str = "", check: bool = True, timeout: float = 60.0) -> str:
        words = [str(argument) for argument in arguments]
        shown = ["docker", *words]
        argv = ["docker", "--host", self.url, *words]
        # A folder of its own, so that neither a user's contexts nor credentials are in play.
        env = {"DOCKER_CONFIG": str(self._host.directory / "docker-cli")}
        done = call(argv, where=self._host.name, text=text, check=check, timeout=timeout, env=env, shown=shown)
        return done.stdout.strip()

    def remove_containers(self) -> None:
        """Remove all containers, and the networks and volumes that nothing uses any more."""
        containers = self.docker("ps", "--all", "--quiet", "--no-trunc").split()
        if containers:
            self.docker("rm", "--force", "--volumes", *containers)
        self.docker("network", "prune", "--force")
        self.docker("volume", "prune", "--force")

    def import_image(self, parts: "list[bytes | Path]", tag: str, changes: tuple[str, ...], timeout: float) -> None:
        """Make an image of a tar archive that comes in parts."""
        flags = [word for change in changes for word in ("--change", change)]
        argv = ["docker", "--host", self.url, "import", *flags, "-", tag]
        with subprocess.Popen(
            argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True
        ) as process:
            assert process.stdin is not None
            try:
                for part in parts:
                    process.stdin.write(part if isinstance(part, bytes) else part.read_bytes())
            except BrokenPipeError:
                pass  # its output says why
            output, _ = process.communicate(timeout=timeout)
        if process.returncode:
            raise CommandFailed(self._host.name, argv, f"exit code {process.returncode}", output.decode())

    def report(self) -> str:
        if self._process:
            return self._process.report(without=_NOISE)
        return f"-- {self._host.name} dockerd: not running"

    def _answers(self) -> bool:
        assert self._process is not None
        if self._process.poll() is not None:
            raise CommandFailed(self._host.name, ["dockerd"], "ended while starting", self._process.report())
        return self._socket.exists() and bool(self.docker("info", "--format", "{{.ID}}", check=False))

    def _wait_for_containerd(self) -> None:
        """A new Engine would find the old containerd alive and try to use it."""

        def gone() -> bool:
            return not any(args.startswith("containerd ") for args in self._host.inner_pids().values())

        eventually(gone, STOP_DEADLINE, f"{self._host.name}: the Engine's containerd ending")
