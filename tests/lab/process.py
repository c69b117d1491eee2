"""Programs inside a host: entering its namespaces, and long-lived ones with their output in files.

What runs for a host is started as `sh` (joins the host's control group) becoming `nsenter` (enters the
namespaces) whose one child is the program. Signals must go to that child: nsenter does not pass them on.
"""

import contextlib
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from .commands import environment
from .wait import eventually

# Joins the control group named first, then becomes the rest. Never starts anything in a group that is gone.
_JOIN = 'echo 0 > "$0" && exec "$@"'
TAIL_LINES = 40


def joining(procs: Path, argv: Sequence[str]) -> list[str]:
    """The command that runs `argv` as a member of the control group whose `cgroup.procs` is given."""
    return ["sh", "-c", _JOIN, str(procs), *argv]


def entering(init: int, argv: Sequence[str], cwd: str = "/") -> list[str]:
    """The command that runs `argv` in all namespaces of the host whose process 1 is `init`."""
    flags = ["--mount", "--uts", "--ipc", "--net", "--pid"]
    return ["nsenter", f"--target={init}", *flags, "env", f"--chdir={cwd}", *argv]


def tail(path: Path, without: tuple[str, ...] = ()) -> str:
    """The last lines of a log, those left out that hold one of the words; empty when there is no log."""
    if not path.exists():
        return ""
    lines = path.read_text(errors="replace").splitlines()
    return "\n".join([line for line in lines if not any(word in line for word in without)][-TAIL_LINES:])


class HostProcess:
    """A long-lived program of a host. It is killed with the host, the lab, or by `Host.stop_processes`."""

    def __init__(self, name: str, command: Sequence[str], env: Mapping[str, str], stdout: Path, stderr: Path) -> None:
        self.name = name
        self.stdout_path = stdout
        self.stderr_path = stderr
        self._command = command
        self._env = env
        self._popen: subprocess.Popen[bytes] | None = None
        self._pid: int | None = None

    def start(self) -> "HostProcess":
        with self.stdout_path.open("ab") as out, self.stderr_path.open("ab") as err:
            self._popen = subprocess.Popen(
                list(self._command),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                env=environment(self._env),
                start_new_session=True,
            )
        self._pid = eventually(
            lambda: -1 if self.poll() is not None else self._child(), 10, f"{self.name} entering its host", every=0.002
        )
        return self

    @property
    def pid(self) -> int:
        """The program's process id as the machine counts, not as the host does; -1 if it ended at once."""
        assert self._pid is not None, f"{self.name} was not started"
        return self._pid

    @property
    def returncode(self) -> int | None:
        """None while it runs; minus the signal's number when a signal ended it."""
        return self.poll()

    def poll(self) -> int | None:
        assert self._popen is not None, f"{self.name} was not started"
        return self._popen.poll()

    def signal(self, number: int) -> None:
        """Send a signal to the program; to one that ended, nothing."""
        if self.poll() is None and self._pid is not None and self._pid > 0:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._pid, number)
            if self._popen is not None and number in (signal.SIGCONT, signal.SIGKILL):
                # nsenter stops itself when its child is stopped, and would never tell of the child's end.
                self._popen.send_signal(signal.SIGCONT)

    def kill(self, deadline: float = 10.0) -> None:
        """SIGKILL to the program alone, as a crash; its own children stay. Returns when it is dead."""
        self.signal(signal.SIGKILL)
        self.wait(deadline)

    def terminate(self, deadline: float = 10.0) -> int:
        """SIGTERM, then the return code."""
        self.signal(signal.SIGTERM)
        return self.wait(deadline)

    def wait(self, deadline: float) -> int:
        """The return code; with what it wrote last in the message when it does not end in time."""
        assert self._popen is not None, f"{self.name} was not started"
        try:
            return self._popen.wait(deadline)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{self.name} did not end within {deadline:g} s\n{self.report()}") from None

    def report(self, without: tuple[str, ...] = ()) -> str:
        """What it wrote last, for a failed test's output."""
        state = "running" if self.poll() is None else f"ended with {self.poll()}"
        parts = [f"-- {self.name} ({state})"]
        for label, path in (("stdout", self.stdout_path), ("stderr", self.stderr_path)):
            text = tail(path, without)
            if text:
                parts.append(f"-- {self.name} {label}:\n{text}")
        return "\n".join(parts)

    def _child(self) -> int:
        assert self._popen is not None
        pid = self._popen.pid
        try:
            children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        except (FileNotFoundError, ProcessLookupError):
            return 0
        return int(children[0]) if children else 0
