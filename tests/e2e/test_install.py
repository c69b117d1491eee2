"""`./install` on a system of its own: this machine's files below a layer that takes the writes, without systemd."""

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.wait import eventually

pytestmark = [pytest.mark.root, pytest.mark.timeout(300)]

ROOT = Path(__file__).parents[2]
START = "ip link set lo up && exec essaimd --runtime process"
MOUNT = """
set -e
mount -t tmpfs none {base}
mkdir {base}/upper {base}/work {base}/root
mount -t overlay overlay -o lowerdir=/,upperdir={base}/upper,workdir={base}/work {base}/root
mount --rbind /dev {base}/root/dev
mount -t proc proc {base}/root/proc
mount -t tmpfs none {base}/root/run
mount -t tmpfs none {base}/root/tmp
mkdir -p {base}/root{checkout}
mount --bind {checkout} {base}/root{checkout}
rm -rf {base}/root/opt/essaim {base}/root/usr/local/bin/essaim* {base}/root/etc/default/essaimd
echo ready
read _
"""


class System:
    """A root folder in mount and process namespaces of its own, which go with their first process."""

    def __init__(self, base: Path) -> None:
        script = MOUNT.format(base=base, checkout=ROOT)
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
        environment = {**os.environ, "PYTHON": sys.executable, "PATH": "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"}
        return subprocess.run(
            self.command(*argv), cwd="/", env=environment, capture_output=True, text=True, check=False, timeout=200
        )

    @contextlib.contextmanager
    def daemon(self) -> Iterator[None]:
        """essaimd, with ports of its own. It is ended by name: the system's processes are numbered apart."""
        quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        process = subprocess.Popen(self.command("unshare", "--net", "sh", "-c", START), cwd="/", **quiet)
        try:
            yield
        finally:
            self.run("pkill", "-KILL", "-f", "bin/essaimd")
            process.wait(20)

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


@pytest.fixture
def system(tmp_path: Path) -> Iterator[System]:
    made = System(tmp_path)
    yield made
    made.end()


def test_install_serves_upgrades_and_uninstall_leaves_nothing(system: System) -> None:
    install = str(ROOT / "install")
    assert system.run("essaim", "--version").returncode == 127

    done = system.run(install)
    assert done.returncode == 0, done.stdout + done.stderr
    assert system.run("essaim", "--version").stdout.startswith("essaim version ")
    assert "/etc/systemd/system/essaimd.service" in system.written()

    with system.daemon():
        eventually(lambda: system.run("essaim", "info").returncode == 0, 60, "the daemon answers")
        system.run("sh", "-c", "echo 'ESSAIMD_OPTIONS=--log-format=json' > /etc/default/essaimd")
        again = system.run(install, "--upgrade")
        assert again.returncode == 0, again.stdout + again.stderr
        assert "json" in system.run("cat", "/etc/default/essaimd").stdout
        assert system.run("essaim", "swarm", "init", "--advertise-addr", "127.0.0.1").returncode == 0

        refused = system.run(install, "--uninstall")
        assert refused.returncode == 1
        assert "add --force" in refused.stderr
        gone = system.run(install, "--uninstall", "--force")
        assert gone.returncode == 0, gone.stdout + gone.stderr
    assert system.written() == set()


def test_install_refuses_what_it_cannot_do_in_one_line(system: System) -> None:
    install = str(ROOT / "install")
    nothing = system.run(install, "--uninstall")
    assert (nothing.returncode, nothing.stderr) == (1, "install: there is no installation in /opt/essaim\n")
    user = system.run("setpriv", "--reuid=65534", "--clear-groups", install)
    assert (user.returncode, user.stderr) == (1, "install: essaim is installed by root: sudo ./install \n")
