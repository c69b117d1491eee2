"""`./demo`, as a newcomer runs it but in this test run's own environment."""

import os
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from tests.lab.lab import Lab
from tests.ports import free_port

LAB_HOSTS = 1

ROOT = Path(__file__).parents[2]


DEMO = [sys.executable, str(ROOT / "examples" / "demo.py")]
ADDRESSES = ("127.0.0.1", "127.0.0.2", "127.0.0.3")


def assert_nothing_left(folder: Path) -> None:
    assert list(folder.iterdir()) == []
    left = subprocess.run(["pgrep", "-af", str(folder)], capture_output=True, text=True, check=False)
    assert left.stdout == ""


def assert_served_everywhere(output: str, port: int = 4000) -> None:
    for address in ADDRESSES:
        assert f"http://{address}:{port}  reached all 5 replicas" in output, output


def until(demo: "subprocess.Popen[str]", words: str) -> str:
    """What it prints until a line begins with these words."""
    assert demo.stdout is not None
    output = ""
    for line in demo.stdout:
        output += line
        if line.startswith(words):
            break
    return output


def until_it_serves(demo: "subprocess.Popen[str]") -> str:
    return until(demo, "Ctrl-C takes everything down")


# One test, as all of it uses port 4000, which it keeps from the demo that a person would be told to give another one.
@pytest.mark.timeout(300)
def test_demo_serves_until_interrupted_or_once_and_leaves_nothing_behind(tmp_path: Path) -> None:
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    with socket.create_server((ADDRESSES[1], 4000)):
        refused = subprocess.run([*DEMO, "--once"], env=environment, capture_output=True, text=True, check=False)
        assert refused.returncode == 1
        assert "port 4000 on 127.0.0.2 is taken" in refused.stdout
        assert "./demo --port 4001" in refused.stdout
        assert_nothing_left(tmp_path)

        port = free_port(*ADDRESSES)
        other = subprocess.Popen(
            [*DEMO, "--port", str(port)], env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            start_new_session=True,
        )  # fmt: skip
        with other:
            assert_served_everywhere(until_it_serves(other), port)
            # As a terminal does, to the whole group; and again by somebody who does not wait.
            assert other.stdout is not None
            os.killpg(other.pid, signal.SIGINT)
            until(other, "Taking down")
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGINT):
                os.killpg(other.pid, number)
                assert "Still taking down" in other.stdout.readline()
            said = other.stdout.read()
            assert other.wait(60) == 0
            assert said == "Taken down.\n"
        assert_nothing_left(tmp_path)

    once = subprocess.run([*DEMO, "--once"], env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert once.returncode == 0, once.stdout + once.stderr
    assert_served_everywhere(once.stdout)
    assert_nothing_left(tmp_path)

    serving = subprocess.Popen(DEMO, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    with serving:
        assert_served_everywhere(until_it_serves(serving))
        with urllib.request.urlopen(f"http://{ADDRESSES[2]}:4000/", timeout=10) as response:
            assert b"Service: demo_web" in response.read()
        serving.send_signal(signal.SIGINT)
        assert serving.wait(60) == 0
    assert_nothing_left(tmp_path)


@pytest.mark.lab
@pytest.mark.timeout(240)
def test_demo_once_with_containers_on_a_docker_engine(lab: Lab) -> None:
    host = lab.hosts[0]
    command = [sys.executable, ROOT / "examples" / "demo.py", "--once", "--runtime", "docker"]
    done = host.run(command, check=False, timeout=200, env={"TMPDIR": str(lab.directory)})
    assert done.returncode == 0, done.stdout + done.stderr
    assert_served_everywhere(done.stdout)
    assert host.docker("ps", "-aq") == ""
