"""`./demo --once`, as a newcomer runs it but in this test run's own environment."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.lab.lab import Lab

LAB_HOSTS = 1

ROOT = Path(__file__).parents[2]


@pytest.mark.timeout(150)
def test_demo_once_serves_from_every_node_and_leaves_nothing_behind(tmp_path: Path) -> None:
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, ROOT / "examples" / "demo.py", "--once"],
        env=environment, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    for number in (1, 2, 3):
        assert f"http://127.0.0.{number}:4000  reached all 5 replicas" in done.stdout
    assert list(tmp_path.iterdir()) == []
    left = subprocess.run(["pgrep", "-f", str(tmp_path)], capture_output=True, text=True, check=False)
    assert left.stdout == ""


@pytest.mark.lab
@pytest.mark.timeout(240)
def test_demo_once_with_containers_on_a_docker_engine(lab: Lab) -> None:
    host = lab.hosts[0]
    command = [sys.executable, ROOT / "examples" / "demo.py", "--once", "--runtime", "docker"]
    done = host.run(command, check=False, timeout=200, env={"TMPDIR": str(lab.directory)})
    assert done.returncode == 0, done.stdout + done.stderr
    for number in (1, 2, 3):
        assert f"http://127.0.0.{number}:4000  reached all 5 replicas" in done.stdout
    assert host.docker("ps", "-aq") == ""
