"""One host of a lab: its own processes, mounts, network address, host name, and Docker Engine.

A host is a set of namespaces (mount, PID, network, UTS, IPC) under one process 1, and a control group. So it sees
only its own processes; killing process 1 loses the host with everything on it; `/run` is its own and empty at
boot, so all programs can use their usual sockets there; the machine's other files, the checkout and its virtual
environment among them, are the same as outside. Files under `Host.directory` outlive a crash, as a disk does.

Methods block; an async test calls them through `asyncio.to_thread` where its own loop must go on meanwhile.
"""

import contextlib
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from .cgroups import Cgroup
from .commands import CommandFailed, call, environment
from .engine import Engine
from .network import Network
from .process import HostProcess, entering, joining

_INIT = Path(__file__).with_name("init.sh")
_NAMESPACES = ["--mount", "--uts", "--ipc", "--net", "--pid", "--fork", "--kill-child=SIGKILL"]


class Host:
    """Made by `Lab`. `boot` and `crash` may alternate as often as wanted."""

    def __init__(self, index: int, network: Network, cgroup: Cgroup, directory: Path, *, with_engine: bool) -> None:
        self.index = index
        self.name = f"h{index}"
        self.address = network.address(index)
        self.directory = directory
        self.cgroup = cgroup
        self.engine = Engine(self) if with_engine else None
        # The Engine puts containers here; it makes the group itself.
        self.containers = cgroup.below("containers")
        self._system = cgroup.below("system")
        self._programs = cgroup.below("programs")
        self._network = network
        self._processes: list[HostProcess] = []
        self._unshare: subprocess.Popen[str] | None = None
        self._init = 0
        self._started = 0

    def __repr__(self) -> str:
        return f"<Host {self.name} {self.address}>"

    @property
    def is_up(self) -> bool:
        return self._unshare is not None

    @property
    def engine_url(self) -> str:
        """The Engine's socket as seen from everywhere on the machine. Inside the host the usual one works too."""
        return self._engine.url

    # Power

    def boot(self) -> None:
        """Start the host, and its Engine when it has one; returns when both are usable."""
        assert not self.is_up, f"{self.name} is up already"
        (self.directory / "log").mkdir(parents=True, exist_ok=True)
        self._system.create()
        self._programs.create()
        self._start_init()
        self._network.attach(self.index, self._init)
        if self.engine:
            self.engine.start()

    def crash(self) -> None:
        """Lose the host: its cable goes silent first, then every process dies at once. `boot` brings it back."""
        if not self.is_up:
            return
        self._network.unplug(self.index)
        self.cgroup.kill()
        self.cgroup.remove()
        self._network.detach(self.index)
        self.reap()

    def reap(self) -> None:
        """Collect the dead after the host was killed."""
        if self._unshare is None:
            return
        self._unshare.wait(10)
        if self._unshare.stdout:
            self._unshare.stdout.close()
        self._unshare = None
        for process in self._processes:
            process.wait(10)
        self._processes.clear()
        if self.engine:
            self.engine.forget()

    def reset(self) -> None:
        """Bring the host back to the state of a fresh one, with the images it has (see `Lab.reset`)."""
        if self.engine and not self.engine.is_running:
            # Quicker than a new Engine, which gives each container it finds ten seconds to end.
            self.crash()
        if self.is_up:
            self.resume()
            self.plug()
            self.stop_processes()
        else:
            self.boot()
        if self.engine:
            self.engine.remove_containers()

    def pause(self) -> None:
        """Freeze every process of the host, containers too. Its kernel goes on to acknowledge what peers send."""
        self.cgroup.freeze()

    def resume(self) -> None:
        self.cgroup.thaw()

    def unplug(self) -> None:
        """Pull the network cable: neither hosts nor the test reach it; sockets in the file system still work."""
        self._network.unplug(self.index)

    def plug(self) -> None:
        self._network.plug(self.index)

    # Programs

    def run(
        self,
        argv: Sequence[str | Path],
        *,
        text: str = "",
        env: Mapping[str, str] | None = None,
        cwd: str | Path = "/",
        check: bool = True,
        timeout: float = 30.0,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command inside the host to its end. A non-zero code raises `CommandFailed` unless `check` is off."""
        names = [str(part) for part in argv]
        wrapped = self._inside(names, self._programs, cwd)
        return call(wrapped, where=self.name, text=text, check=check, timeout=timeout, env=env, shown=names)

    def popen(
        self,
        argv: Sequence[str | Path],
        *,
        env: Mapping[str, str] | None = None,
        cwd: str | Path = "/",
        name: str = "",
    ) -> HostProcess:
        """Start a long-lived program inside the host. Its output goes to files under `directory`/log."""
        process = self._start(argv, name or Path(argv[0]).name, self._programs, env, cwd)
        self._processes.append(process)
        return process

    def start_daemon(self, argv: Sequence[str | Path], name: str) -> HostProcess:
        """As `popen`, for what belongs to the host itself and outlives `stop_processes`."""
        return self._start(argv, name, self._system, None, "/")

    def stop_processes(self) -> None:
        """Kill what `popen` and `run` started and all that came of it, daemons included; containers stay."""
        self._programs.kill()
        for process in self._processes:
            process.wait(10)
        self._processes.clear()

    def inner_pids(self) -> dict[int, str]:
        """The host's processes as itself counts them, with their command lines."""
        lines = self.run(["ps", "-e", "-o", "pid=,args="]).stdout.splitlines()
        return {int(pid): args for pid, _, args in (line.strip().partition(" ") for line in lines)}

    # The Engine

    def docker(self, *arguments: str | Path, text: str = "", check: bool = True, timeout: float = 60.0) -> str:
        """Run the docker command on this host's Engine; returns its output without surrounding blanks."""
        return self._engine.docker(*arguments, text=text, check=check, timeout=timeout)

    def kill_engine(self) -> None:
        """kill -9 the Engine and its containerd. Containers go on, until the next Engine here ends them."""
        self._engine.kill()

    def freeze_engine(self) -> None:
        """Its dockerd hangs until `thaw_engine`."""
        self._engine.freeze()

    def thaw_engine(self) -> None:
        self._engine.thaw()

    def restart_engine(self) -> None:
        """Stop the Engine in good order if it runs, start it, wait until it answers."""
        self._engine.stop()
        self._engine.start()

    def report(self) -> str:
        """The state and last log lines of everything on this host, for a failed test's output."""
        lines = [f"== {self.name} {self.address} {'up' if self.is_up else 'down'}"]
        lines += [process.report() for process in self._processes]
        if self.engine:
            lines.append(self.engine.report())
        return "\n".join(lines)

    @property
    def _engine(self) -> Engine:
        assert self.engine is not None, f"{self.name} has no Engine: the lab was made with engines=False"
        return self.engine

    def _inside(self, argv: Sequence[str], group: Cgroup, cwd: str | Path) -> list[str]:
        if not self.is_up:
            raise CommandFailed(self.name, argv, "the host is down")
        return joining(group.procs, entering(self._init, argv, str(cwd)))

    def _start(
        self, argv: Sequence[str | Path], name: str, group: Cgroup, env: Mapping[str, str] | None, cwd: str | Path
    ) -> HostProcess:
        names = [str(part) for part in argv]
        self._started += 1
        log = self.directory / "log" / f"{name}-{self._started}"
        out, err = log.with_suffix(".out"), log.with_suffix(".err")
        return HostProcess(f"{self.name} {name}", self._inside(names, group, cwd), env or {}, out, err).start()

    def _start_init(self) -> None:
        hosts = self.directory.parent / "hosts"
        command = ["unshare", *_NAMESPACES, "sh", str(_INIT), self.name, str(hosts)]
        self._unshare = subprocess.Popen(
            joining(self._system.procs, command),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=environment(),
            start_new_session=True,
        )
        assert self._unshare.stdout is not None
        first, second = self._unshare.stdout.readline(), self._unshare.stdout.readline()
        with contextlib.suppress(ValueError):
            self._init = int(first)
        if second.strip() != "ready":
            rest = "" if self._unshare.poll() is None else self._unshare.stdout.read()
            raise CommandFailed(self.name, command, "the host did not boot", first + second + rest)
