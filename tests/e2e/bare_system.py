"""A system of its own to install on: the files of another one below a layer that takes the writes, without systemd."""

import contextlib
import os
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

ROOT = Path(__file__).parents[2]

LOOPBACK = """python3 -c 'import fcntl, socket, struct
fcntl.ioctl(socket.socket(), 0x8914, struct.pack("16sh", b"lo", 0x41))'"""
"""Bare systems have no ip command: SIOCSIFFLAGS, IFF_UP | IFF_RUNNING."""
START = f"{LOOPBACK} && exec essaimd --runtime process"
MOUNT = """
set -e
mount -t tmpfs none {base}
mkdir {base}/upper {base}/work {base}/root
mount -t overlay overlay -o lowerdir={lower},upperdir={base}/upper,workdir={base}/work {base}/root
mount --rbind /dev {base}/root/dev
mount -t proc proc {base}/root/proc
mount -t tmpfs none {base}/root/run
mount -t tmpfs none {base}/root/tmp
mkdir -p {base}/root{checkout}
mount --bind {checkout} {base}/root{checkout}
{more}
rm -rf {base}/root/opt/essaim {base}/root/usr/local/bin/essaim* {base}/root/etc/default/essaimd
echo ready
read _
"""


EACH = 'for p in /proc/[0-9]*; do grep -q "bin/essaim[d]" $p/cmdline 2>/dev/null && {}; done'
"""The system's daemons; the brackets keep the pattern from finding this command itself."""
KILL = EACH.format("kill -9 ${p#/proc/}")
INSIDE = EACH.format('exec nsenter --net=$p/ns/net "$@"')


def _shown(base: Path, path: str) -> str:
    target = f"{base}/root{path}"
    if os.path.isdir(path):
        return f"mkdir -p {target}; mount --bind {path} {target}"
    return f"mkdir -p $(dirname {target}); cat {path} > {target}"


class System:
    """A root folder in mount and process namespaces of its own, which go with their first process."""

    def __init__(
        self, base: Path, environment: Mapping[str, str], lower: str = "/", shared: tuple[str, ...] = ()
    ) -> None:
        """`lower`: the root folder that is below; `shared`: absolute paths of this machine that it is to have, too."""
        more = "\n".join(_shown(base, path) for path in shared)
        script = MOUNT.format(base=base, checkout=ROOT, lower=lower, more=more)
        self._environment = {**environment, "PATH": "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"}
        command = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "bash", "-c", script]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "ready\n"
        child = subprocess.run(["pgrep", "-P", str(self._process.pid)], capture_output=True, text=True, check=True)
        self._first = child.stdout.strip()
        self.base = base

    def command(self, *argv: str) -> list[str]:
        enter = ["nsenter", "--mount", "--pid", "--target", self._first]
        return [*enter, "chroot", str(self.base / "root"), *argv]

    def run(self, *argv: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(*argv),
            cwd="/",
            env=self._environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )

    @contextlib.contextmanager
    def daemon(self) -> Iterator[None]:
        """essaimd, with ports of its own. It is ended by name: the system's processes are numbered apart."""
        quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        process = subprocess.Popen(self.command("unshare", "--net", "sh", "-c", START), cwd="/", **quiet)
        try:
            yield
        finally:
            self.run("sh", "-c", KILL)
            process.wait(20)

    def inside(self, *argv: str) -> str:
        """What a command prints that runs in the daemon's network namespace."""
        return self.run("sh", "-c", INSIDE, "sh", *argv).stdout

    def written(self) -> set[str]:
        """Files and links in the layer, but for what pip and Python keep for themselves."""
        listed = self.run_outside("find", f"{self.base}/upper", "(", "-type", "f", "-o", "-type", "l", ")")
        names = {line.removeprefix(f"{self.base}/upper") for line in listed.splitlines()}
        return {name for name in names if not name.startswith(("/root/.cache/", "/var/cache/", "/var/lib/dpkg"))}

    def run_outside(self, *argv: str) -> str:
        command = ["nsenter", "--mount", "--target", self._first, *argv]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    def end(self) -> None:
        self._process.kill()
        self._process.communicate()
