"""Programs that a lab calls, and how their failures read."""

import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

# What would lead a program inside a host to the outside, or to another Engine than the one it is told.
_FOREIGN = {"http_proxy", "https_proxy", "ftp_proxy", "all_proxy", "no_proxy", "docker_host", "docker_context"}
_PATH = ("/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin")
NEEDED = ("docker", "dockerd", "containerd", "runc", "ip", "iptables", "nft", "nsenter", "unshare", "busybox", "tar")


class LabUnavailable(Exception):
    """This machine or user cannot run a lab; the message says what is missing and what to do."""


class CommandFailed(Exception):
    """A command ended with a non-zero code, or not in time."""

    def __init__(self, where: str, argv: Sequence[str], outcome: str, stdout: str = "", stderr: str = "") -> None:
        self.returncode: int | None = None
        self.stdout = stdout
        self.stderr = stderr
        output = "\n".join(part for part in (stdout.strip(), stderr.strip()) if part)
        super().__init__(f"{where}: {' '.join(argv)}: {outcome}\n{output}".rstrip())


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """The test's own environment without proxies and Docker settings, with the system's folders in PATH."""
    base = {name: value for name, value in os.environ.items() if name.lower() not in _FOREIGN}
    path = base.get("PATH", "").split(os.pathsep)
    base["PATH"] = os.pathsep.join([*path, *(folder for folder in _PATH if folder not in path)]).strip(os.pathsep)
    return base | dict(extra or {})


def require_lab() -> None:
    """Raise `LabUnavailable` unless this is root on a machine with the needed programs."""
    path = environment()["PATH"]
    missing = [name for name in NEEDED if shutil.which(name, path=path) is None]
    if os.geteuid() != 0:
        raise LabUnavailable("a lab of real hosts needs root: run ./test as root, or ./test --fast without the lab")
    if missing:
        raise LabUnavailable(
            f"a lab needs programs that are not here: {', '.join(missing)}; run tools/debian.sh as root"
        )


def call(
    argv: Sequence[str | Path],
    *,
    where: str = "here",
    text: str = "",
    check: bool = True,
    timeout: float = 30.0,
    env: Mapping[str, str] | None = None,
    shown: Sequence[str] | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run to its end with `text` as input. On time-out, all processes of the command are killed.

    `shown` replaces `argv` in messages, where wrappers would only distract.
    """
    names = [str(part) for part in argv]
    shown = shown or names
    with subprocess.Popen(
        names,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(env),
        text=True,
        errors="replace",
        start_new_session=True,  # Ctrl-C reaches the test, which then cleans up in its own order
    ) as process:
        try:
            out, err = process.communicate(text, timeout)
        except BaseException as error:
            kill_group(process.pid)
            out, err = process.communicate()
            if isinstance(error, subprocess.TimeoutExpired):
                raise CommandFailed(where, shown, f"not done within {timeout:g} s", out, err) from None
            raise
    if check and process.returncode:
        failure = CommandFailed(where, shown, f"exit code {process.returncode}", out, err)
        failure.returncode = process.returncode
        raise failure
    return subprocess.CompletedProcess(list(shown), process.returncode, out, err)


def kill_group(pid: int) -> None:
    """SIGKILL to the process group that a command was started as."""
    try:
        os.killpg(pid, 9)
    except ProcessLookupError:
        return
