"""`./install` on a system of its own: this machine's files below a layer that takes the writes, without systemd."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.bare_system import ROOT, System
from tests.lab.wait import eventually

pytestmark = [pytest.mark.root, pytest.mark.timeout(300)]


@pytest.fixture
def system(tmp_path: Path) -> Iterator[System]:
    made = System(tmp_path, {**os.environ, "PYTHON": sys.executable})
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
