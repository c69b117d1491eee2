"""The Docker SDK's own integration tests for swarm mode: what passes against a real Engine passes against essaim.

They come from the source package of an SDK of 5.0 (later ones carry no tests), fetched by pip and checked against
its hash; the SDK under test is the installed one. Nothing of it is kept in the project but the names of the tests that
passed against a real Engine (`sdk_suite_passing.txt`). With `--long` the real Engine is asked anew, and a difference
from the record fails; `ESSAIM_TEST_RECORD=1` beside it rewrites the record.
"""

import hashlib
import os
import subprocess
import sys
import tarfile
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.lab.cluster import BIN
from tests.lab.host import Host
from tests.lab.images import busybox_image
from tests.lab.lab import Lab
from tests.lab.wait import eventually

pytestmark = [pytest.mark.lab, pytest.mark.timeout(420)]
LAB_HOSTS = 2

RELEASE = "docker-5.0.3"
SHA256 = "d916a26b62970e7c2f554110ed6af04c7ccff8e9f81ad17d0d40c75637e227fb"
CACHE = Path(__file__).parents[2] / "build" / "sdk"
PARTS = (
    ("api_service", "models_nodes"),
    ("api_swarm", "api_secret", "api_config", "api_network", "models_swarm", "models_services", "models_networks"),
)
"""Of about the same length, for two clusters at a time: most of it is waiting for tasks."""
PARAMIKO = '"""The suite imports it for tests over SSH, of which none is run."""\n'
RECORD = Path(__file__).with_name("sdk_suite_passing.txt")
SOCKET = "unix:///run/essaim/essaim.sock"


@pytest.fixture(scope="module")
def suite() -> Path:
    """The folder of the SDK's tests."""
    folder = CACHE / RELEASE
    if not (folder / "paramiko.py").exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        name, version = RELEASE.split("-")
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
        subprocess.run(
            [*pip, "--no-build-isolation", "--no-binary", ":all:", "--dest", CACHE, f"{name}=={version}"],
            check=True, capture_output=True,
        )  # fmt: skip
        archive = CACHE / f"{RELEASE}.tar.gz"
        assert hashlib.sha256(archive.read_bytes()).hexdigest() == SHA256
        with tarfile.open(archive) as tar:
            members = [m for m in tar.getmembers() if m.name.startswith(f"{RELEASE}/tests/")]
            # Debian 12's Python 3.11.2 has no filters yet; what they would refuse is not in an archive of this hash.
            tar.extractall(CACHE, members, **({"filter": "data"} if hasattr(tarfile, "data_filter") else {}))
        (folder / "paramiko.py").write_text(PARAMIKO)
    return folder


def outcomes(host: Host, suite: Path, engine: str, names: Iterable[str]) -> dict[str, str]:
    """Run files of the suite inside a host: test -> passed, skipped, or what failed."""
    report = host.directory / "sdk-suite.xml"
    files = [f"tests/integration/{name}_test.py" for name in names]
    options = ["-q", "-c", "/dev/null", "--rootdir", suite, "-p", "no:cacheprovider", f"--junitxml={report}"]
    plain = ["-p", "no:asyncio", "-p", "no:xdist", "-p", "no:blockbuster"]
    env = {"DOCKER_HOST": engine, "PYTHONPATH": str(suite), "PYTHONDONTWRITEBYTECODE": "1"}
    done = host.run(
        [sys.executable, "-m", "pytest", *options, *plain, *files], env=env, cwd=suite, check=False, timeout=360
    )
    assert report.exists(), done.stdout + done.stderr
    return {f"{case.get('classname')}.{case.get('name')}": _outcome(case) for case in _cases(report)}


def _cases(report: Path) -> list[ElementTree.Element]:
    return list(ElementTree.parse(report).getroot().iter("testcase"))


def _outcome(case: ElementTree.Element) -> str:
    for kind in ("failure", "error"):
        if (found := case.find(kind)) is not None:
            return (found.text or kind)[-1500:]
    return "skipped" if case.find("skipped") is not None else "passed"


def load_images(lab: Lab) -> None:
    """Those that the suite's services name: without them tasks fail and are replaced while it counts them."""
    for name in ("alpine:3.10", "alpine:latest"):
        lab.load_image(busybox_image(name, ["sh"]))


def recorded() -> set[str]:
    return set(RECORD.read_text().split())


def test_what_passes_against_a_real_engine_passes_against_essaim(lab: Lab, suite: Path) -> None:
    load_images(lab)

    def part(host: Host, names: Iterable[str]) -> dict[str, str]:
        host.popen([BIN / "essaimd", "--state-dir", host.directory / "essaim"], name="essaimd")
        eventually(
            lambda: host.run(["docker", "-H", SOCKET, "version"], check=False).returncode == 0, 30, "essaimd answers"
        )
        return outcomes(host, suite, SOCKET, names)

    with ThreadPoolExecutor() as pool:
        got = dict(chain.from_iterable(found.items() for found in pool.map(part, lab.hosts, PARTS)))
    expected = recorded()
    assert len(expected) > 100
    worse = {name: got.get(name, "not run") for name in expected if got.get(name) != "passed"}
    assert not worse, "\n\n".join(f"== {name}\n{what}" for name, what in sorted(worse.items()))


@pytest.mark.skipif(not os.environ.get("ESSAIM_TEST_LONG"), reason="only with --long")
def test_record_is_what_passes_against_a_real_engine(lab: Lab, suite: Path) -> None:
    """Its manager panics now and then when swarms come and go as fast as here."""
    load_images(lab)
    expected = outcomes(lab.hosts[0], suite, "unix:///run/docker.sock", chain(*PARTS))
    passing = {name for name, outcome in expected.items() if outcome == "passed"}
    if os.environ.get("ESSAIM_TEST_RECORD"):
        RECORD.write_text("".join(f"{name}\n" for name in sorted(passing)))
    assert passing == recorded()
