"""`./install` on bare Debian systems, as debootstrap makes them: no Python, no systemd, essential packages alone.

Needs debootstrap, a Debian mirror and some minutes: with --long only.
"""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.bare_system import ROOT, System
from tests.lab.wait import eventually

LONG = bool(os.environ.get("ESSAIM_TEST_LONG"))
pytestmark = [
    pytest.mark.root,
    pytest.mark.long,
    pytest.mark.timeout(1200),
    pytest.mark.skipif(not LONG, reason="a whole Debian is fetched: with --long only"),
]
SHARED = ("/etc/resolv.conf", "/etc/pip.conf", "/etc/ssl/certs/ca-certificates.crt")
"""What a machine may need to reach its mirrors, where it has them."""
WEB = ("service", "create", "--detach", "--name", "web", "--publish", "8099:8000", "host")
SERVE = ("sh", "-c", "exec python3 -m http.server $PORT")
ASK = "import urllib.request as r; print(r.urlopen('http://127.0.0.1:8099/', timeout=5).status)"


@pytest.fixture(params=["bookworm", "trixie"])
def system(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[System]:
    lower = tmp_path / "debian"
    made = subprocess.run(
        ["debootstrap", "--variant=minbase", request.param, str(lower)], capture_output=True, text=True, check=False
    )
    assert made.returncode == 0, made.stdout[-2000:] + made.stderr
    base = tmp_path / "system"
    base.mkdir()
    folders = tuple(word for name, word in os.environ.items() if name == "PIP_FIND_LINKS" and os.path.isdir(word))
    shared = (*(path for path in SHARED if os.path.exists(path)), *folders)
    environment = {name: word for name, word in os.environ.items() if name.startswith(("PIP_", "SSL_", "http"))}
    bare = System(base, environment, str(lower), shared)
    yield bare
    bare.end()
    shutil.rmtree(lower)


def test_install_on_a_bare_debian_serves_and_uninstall_leaves_nothing(system: System) -> None:
    install = str(ROOT / "install")
    done = system.run(install)
    assert done.returncode == 0, done.stdout + done.stderr
    before = {name for name in system.written() if "essaim" in name}
    assert "/etc/systemd/system/essaimd.service" in before

    with system.daemon():
        eventually(lambda: system.run("essaim", "info").returncode == 0, 60, "the daemon answers")
        assert system.run("essaim", "swarm", "init", "--advertise-addr", "127.0.0.1").returncode == 0
        created = system.run("essaim", *WEB, *SERVE)
        assert created.returncode == 0, created.stderr
        eventually(
            lambda: system.inside("python3", "-c", ASK) == "200\n", 60, "a replica answers at the published port"
        )
        gone = system.run(install, "--uninstall", "--force")
        assert gone.returncode == 0, gone.stdout + gone.stderr
    assert {name for name in system.written() if "essaim" in name} == set()
