"""The supervisor of one process task: starts it, keeps its output, writes down how it ended.

It outlives the agent on purpose: a task must go on when essaimd is restarted or killed, its output must go somewhere
meanwhile, and only a parent learns an exit code. Run as `python -I -S shim.py DIRECTORY READY_FD`; it needs nothing but
the standard library, and imports little of it, since there is one of it for every task.

In DIRECTORY: `plan.json` (read; see plan.py), `lock` (held while it lives), `state.json` (the ids of both processes),
`exit.json` (how it ended; written last), `log/` (see logs.py). One line goes to READY_FD: "ok", or why the task could
not be started.

- The task is killed when its supervisor dies (PR_SET_PDEATHSIG), and when its main process ends, whatever it has
  started is killed too: the supervisor adopts orphans (PR_SET_CHILD_SUBREAPER) to find them.
- SIGTERM asks to stop: the task's stop signal, and SIGKILL after its grace period.
"""

import contextlib
import ctypes
import fcntl
import json
import os
import resource
import select
import signal
import sys
import time
from typing import Any

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
PR_SET_NO_NEW_PRIVS = 38
LINE_MOST = 64 * 1024
"""Bytes after which a line without an end is written as a part, marked so: its reader joins the parts."""
DRAIN_MOST = 2.0
"""Seconds to read what is left of the output once everything has been killed."""


class LogFiles:
    """`log/current`, renamed to `log/1`, `log/2` ... when full; the oldest falls off. Lines: TIME STREAM TEXT, with
    STREAM+ for a part that is followed by more of its line."""

    def __init__(self, directory: str, *, max_bytes: int, max_files: int) -> None:
        self._directory = directory
        self._max_bytes = max_bytes
        self._max_files = max_files
        self._open()

    def write(self, stream: int, line: bytes, *, goes_on: bool = False) -> None:
        if not self._max_files:
            return
        seconds, nanos = divmod(time.time_ns(), 1_000_000_000)
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + f".{nanos:09d}Z"
        record = b"%s %d%s %s\n" % (stamp.encode(), stream, b"+" if goes_on else b"", line)
        if self._size + len(record) > self._max_bytes and self._size:
            self._rotate()
        # A full disk must not end the task.
        with contextlib.suppress(OSError):
            self._size += os.write(self._file, record)

    def _open(self) -> None:
        path = os.path.join(self._directory, "current")
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._size = os.fstat(self._file).st_size

    def _rotate(self) -> None:
        os.close(self._file)
        names = ["current", *(str(number) for number in range(1, self._max_files))]
        for older, newer in zip(reversed(names[1:]), reversed(names[:-1]), strict=True):
            with contextlib.suppress(OSError):
                os.replace(os.path.join(self._directory, newer), os.path.join(self._directory, older))
        if len(names) == 1:
            os.truncate(os.path.join(self._directory, "current"), 0)
        self._open()


class Output:
    """One stream of the task, cut into lines."""

    def __init__(self, fd: int, stream: int, log: LogFiles) -> None:
        self.fd = fd
        self._stream = stream
        self._log = log
        self._rest = b""

    def read(self) -> bool:
        """Take what is there; False at the end of the stream."""
        try:
            data = os.read(self.fd, 65536)
        except BlockingIOError:
            return True
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            self._log.write(self._stream, line)
        if self._rest and (not data or len(self._rest) > LINE_MOST):
            self._log.write(self._stream, self._rest, goes_on=bool(data))
            self._rest = b""
        return bool(data)


def start_time(pid: int) -> int:
    """When a process began, in clock ticks since boot: with its id, it names a process for good."""
    with open(f"/proc/{pid}/stat", "rb") as file:
        return int(file.read().rpartition(b")")[2].split()[19])


def write_json(directory: str, name: str, value: dict[str, Any]) -> None:
    """Whole or not at all, also for a reader at the same time."""
    fresh = os.path.join(directory, name + ".new")
    with open(fresh, "w") as file:
        json.dump(value, file)
    os.replace(fresh, os.path.join(directory, name))


TASK_UMASK = 0o022
"""The usual one: the daemon's own, which the supervisor inherits, is for its state."""


def become_task(plan: dict[str, Any], stdout: int, stderr: int, parent: int) -> None:
    """In the child: everything between fork and exec. Raises OSError or ValueError."""
    os.setsid()
    os.umask(TASK_UMASK)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.dup2(stdout, 1)
    os.dup2(stderr, 2)
    for name, (soft, hard) in plan["rlimits"].items():
        resource.setrlimit(getattr(resource, name), (soft, hard))
    if plan["oom_score_adj"] is not None:
        with open("/proc/self/oom_score_adj", "w") as file:
            file.write(str(plan["oom_score_adj"]))
    if plan["cpus"]:
        os.sched_setaffinity(0, plan["cpus"])
    if plan["uid"] is not None:
        os.setgroups(plan["groups"])
        os.setgid(plan["gid"])
        os.setuid(plan["uid"])
    # After setuid, which clears it; and the supervisor may have died before it was set.
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(137)
    if plan["no_new_privileges"]:
        ctypes.CDLL(None).prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    os.chdir(plan["cwd"])
    for number in (signal.SIGPIPE, signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD):
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, set())
    os.execvpe(plan["argv"][0], plan["argv"], plan["env"])  # noqa: S606 (a task without a shell is what is wanted)


def spawn(plan: dict[str, Any]) -> tuple[int, int, int, str]:
    """The task's process id, its two outputs, and why it could not be started."""
    out_read, out_write = os.pipe()
    err_read, err_write = os.pipe()
    failed_read, failed_write = os.pipe()
    parent = os.getpid()
    pid = os.fork()
    if pid == 0:
        try:
            become_task(plan, out_write, err_write, parent)
        except (OSError, ValueError) as error:
            os.write(failed_write, explain(plan, error).encode())
        finally:
            # Nothing may escape into a second supervisor.
            os._exit(127)
    for fd in (out_write, err_write, failed_write):
        os.close(fd)
    reason = os.read(failed_read, 4096).decode()
    os.close(failed_read)
    return pid, out_read, err_read, reason


def explain(plan: dict[str, Any], error: Exception) -> str:
    if isinstance(error, FileNotFoundError) and not os.path.isdir(plan["cwd"]):
        return f"the working directory {plan['cwd']} does not exist on this node"
    program, path = plan["argv"][0], plan["env"].get("PATH", os.defpath)
    places = [program] if "/" in program else [os.path.join(folder, program) for folder in path.split(":")]
    # Not by the error's kind: a folder of PATH that may not be entered makes it another one.
    if not any(os.path.isfile(place) for place in places):
        return f"the command {program} was not found on this node (PATH={path})"
    return f"the command {program} could not be started: {error}"


class Supervisor:
    def __init__(self, plan: dict[str, Any], pid: int, outputs: list[Output]) -> None:
        self._plan = plan
        self._pid = pid
        self._outputs = {output.fd: output for output in outputs}
        self._status: int | None = None
        self._kill_at: float | None = None
        self._wake_read, self._wake_write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._poll = select.poll()

    def run(self) -> int:
        """Until everything has ended; the exit code as Docker counts it (128 + signal)."""
        signal.set_wakeup_fd(self._wake_write, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(signal.SIGTERM, self._asked_to_stop)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
        for fd in (self._wake_read, *self._outputs):
            os.set_blocking(fd, False)
            self._poll.register(fd, select.POLLIN)
        self._reap()
        while self._status is None:
            self._turn(self._timeout())
            self._reap()
            if self._kill_at is not None and time.monotonic() >= self._kill_at and self._status is None:
                self._signal(signal.SIGKILL)
        self._end_the_rest()
        assert self._status is not None
        return (
            os.waitstatus_to_exitcode(self._status) if os.WIFEXITED(self._status) else 128 + os.WTERMSIG(self._status)
        )

    def _timeout(self) -> float | None:
        """Milliseconds until the grace period ends."""
        return None if self._kill_at is None else max(self._kill_at - time.monotonic(), 0.01) * 1000

    def _turn(self, timeout: float | None) -> None:
        for fd, _ in self._poll.poll(timeout):
            if fd == self._wake_read:
                with contextlib.suppress(BlockingIOError):
                    os.read(fd, 4096)
            elif not self._outputs[fd].read():
                self._poll.unregister(fd)
                del self._outputs[fd]

    def _reap(self) -> None:
        with contextlib.suppress(ChildProcessError):
            while True:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if pid == 0:
                    return
                if pid == self._pid:
                    self._status = status

    def _asked_to_stop(self, *_: object) -> None:
        if self._kill_at is None:
            self._kill_at = time.monotonic() + self._plan["stop_grace"]
            self._signal(self._plan["stop_signal"])

    def _signal(self, number: int) -> None:
        if self._status is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._pid, number)

    def _end_the_rest(self) -> None:
        """What the main process left behind is killed, as in a container; then the last of the output is read."""
        deadline = time.monotonic() + DRAIN_MOST
        while time.monotonic() < deadline:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._pid, signal.SIGKILL)
            left = children()
            for pid in left:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            self._reap()
            if not left and not self._outputs:
                return
            self._turn(20)


def children() -> list[int]:
    with open(f"/proc/self/task/{os.getpid()}/children") as file:
        return [int(word) for word in file.read().split()]


def main(directory: str, ready: int) -> None:
    # Who learns that the task runs may stop it at once: that waits until it is understood.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    os.set_inheritable(ready, False)
    lock = os.open(os.path.join(directory, "lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        # The agent was killed between starting a supervisor and learning of it; the first one does the work.
        os.write(ready, b"ok\n")
        return
    with open(os.path.join(directory, "plan.json")) as file:
        plan = json.load(file)
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    log = LogFiles(os.path.join(directory, "log"), max_bytes=plan["log_max_bytes"], max_files=plan["log_max_files"])
    pid, stdout, stderr, reason = spawn(plan)
    if reason:
        os.waitpid(pid, 0)
        write_json(directory, "exit.json", {"code": 127, "error": reason})
        os.write(ready, reason.encode() + b"\n")
        return
    own = os.getpid()
    write_json(directory, "state.json", {
        "pid": pid, "start": start_time(pid), "shim_pid": own, "shim_start": start_time(own),
    })  # fmt: skip
    os.write(ready, b"ok\n")
    os.close(ready)
    code = Supervisor(plan, pid, [Output(stdout, 1, log), Output(stderr, 2, log)]).run()
    write_json(directory, "exit.json", {"code": code, "error": ""})


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
