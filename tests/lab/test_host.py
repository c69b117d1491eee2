"""Programs and images on a host."""

import os
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from tests.lab import cgroups
from tests.lab.cgroups import Cgroup
from tests.lab.commands import CommandFailed
from tests.lab.images import python_image
from tests.lab.lab import Lab
from tests.lab.process import HostProcess, joining
from tests.lab.wait import DeadlinePassed, eventually, eventually_async

pytestmark = pytest.mark.lab
LAB_HOSTS = 1
# Seconds: real processes on a machine that others use too.
DEADLINE = 30

SERVER = """
import http.server, os, sys
sys.path.insert(0, "/srv")
import page.text
class Page(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.end_headers(); self.wfile.write(page.text.TEXT.encode())
http.server.ThreadingHTTPServer(("", 80), Page).serve_forever()
"""


def test_run_uses_environment_input_and_folder_and_drops_proxies(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.invalid")
    script = 'cat; echo "$GREETING ${HTTPS_PROXY-none}"; pwd'
    done = lab.hosts[0].run(["sh", "-c", script], text="in\n", env={"GREETING": "hi"}, cwd="/usr")
    assert done.stdout == "in\nhi none\n/usr\n"


def test_run_that_fails_says_where_what_and_why(lab: Lab) -> None:
    with pytest.raises(CommandFailed, match=r"h1: ls /nowhere: exit code 2\n.*No such file") as failure:
        lab.hosts[0].run(["ls", "/nowhere"])
    assert failure.value.returncode == 2


def test_run_past_its_time_kills_what_it_started(lab: Lab) -> None:
    with pytest.raises(CommandFailed, match=r"h1: sh -c .*: not done within 0\.5 s"):
        lab.hosts[0].run(["sh", "-c", "sleep 4242 & wait"], timeout=0.5)
    assert "sleep 4242" not in lab.hosts[0].inner_pids().values()


def test_popen_runs_the_checkout_and_signals_reach_the_program(lab: Lab) -> None:
    script = """
import signal, sys, essaim.raft
def end(*_): print("ended", flush=True); sys.exit(3)
signal.signal(signal.SIGTERM, end)
print("started", file=sys.stderr, flush=True)
signal.pause()
"""
    program = lab.hosts[0].popen([sys.executable, "-c", script], name="program")
    eventually(lambda: "started" in program.stderr_path.read_text(), DEADLINE, "the program starting")
    assert os.readlink(f"/proc/{program.pid}/exe") == os.path.realpath(sys.executable)
    report = lab.report()
    assert "h1 program (running)" in report
    assert "started" in report
    assert program.terminate() == 3
    assert program.stdout_path.read_text() == "ended\n"


def test_popen_killed_reports_the_signal_and_its_daemons_are_stopped(lab: Lab) -> None:
    host = lab.hosts[0]
    program = host.popen(["sh", "-c", "setsid sleep 4343 & echo $!; wait"])
    eventually(lambda: "sleep 4343" in host.inner_pids().values(), DEADLINE, "the daemon starting")
    program.kill()
    assert program.returncode == -signal.SIGKILL
    assert "sleep 4343" in host.inner_pids().values()
    host.stop_processes()
    assert "sleep 4343" not in host.inner_pids().values()


def test_popen_stopped_process_goes_on_when_continued(lab: Lab) -> None:
    program = lab.hosts[0].popen(["sh", "-c", "while :; do echo beat; sleep 0.01; done"])

    def state() -> str:
        return Path(f"/proc/{program.pid}/stat").read_text().rpartition(")")[2].split()[0]

    program.signal(signal.SIGSTOP)
    eventually(lambda: state() == "T", DEADLINE, "the program stopping")
    size = program.stdout_path.stat().st_size
    program.signal(signal.SIGCONT)
    eventually(lambda: program.stdout_path.stat().st_size > size, DEADLINE, "the program going on")


def stopped_program(lab: Lab) -> HostProcess:
    """A program that is stopped, and its nsenter with it: that stops itself when it hears of it."""
    program = lab.hosts[0].popen(["sleep", "4344"])
    program.signal(signal.SIGSTOP)
    parent = int(Path(f"/proc/{program.pid}/stat").read_text().rpartition(")")[2].split()[1])

    def both_stopped() -> bool:
        stats = [Path(f"/proc/{pid}/stat").read_text() for pid in (program.pid, parent)]
        return all(stat.rpartition(")")[2].split()[0] == "T" for stat in stats)

    eventually(both_stopped, DEADLINE, "the program and its nsenter stopping")
    return program


def test_popen_ended_after_a_stop_is_seen_to_end(lab: Lab) -> None:
    program = stopped_program(lab)
    program.signal(signal.SIGCONT)
    assert program.terminate() == -signal.SIGTERM


def test_popen_killed_while_stopped_is_seen_to_end(lab: Lab) -> None:
    program = stopped_program(lab)
    program.kill()
    assert program.returncode == -signal.SIGKILL


def test_python_image_serves_files_of_the_test(lab: Lab, tmp_path: Path) -> None:
    (tmp_path / "page").mkdir()
    (tmp_path / "page" / "text.py").write_text("TEXT = 'bonjour'\n")
    image = python_image("server:1", ["python3", "/server.py"], {"/server.py": SERVER, "/srv": tmp_path}, "ENV A=b")
    host = lab.hosts[0]
    assert lab.load_image(image) == "server:1"
    container = host.docker("run", "--detach", "--publish", "8080:80", "server:1")

    def page() -> str:
        with urllib.request.urlopen(f"http://{host.address}:8080/", timeout=2) as answer:
            return str(answer.read().decode())

    assert eventually(page, DEADLINE, "the page", retry_on=(OSError,)) == "bonjour"
    assert "A=b" in host.docker("exec", container, "env")
    modules = "import asyncio, ssl, sqlite3, json, ctypes, hashlib; print('all')"
    assert host.docker("exec", container, "python3", "-c", modules) == "all"


@pytest.mark.parametrize("mounts", ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"])
def test_cgroup_of_either_version_freezes_and_kills_its_members(
    mounts: str, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    if not os.path.ismount(mounts):
        pytest.skip(f"{mounts} is not mounted here")
    monkeypatch.setattr(cgroups, "MOUNTS", Path(mounts))
    top = Cgroup(f"/essaim-test-{os.getpid()}")
    request.addfinalizer(top.remove)
    group = top.below("deep")
    group.create()
    with subprocess.Popen(joining(group.procs, ["sleep", "60"])) as program:
        eventually(lambda: group.pids() == {program.pid}, DEADLINE, "joining the group")
        top.freeze()
        group.thaw()
        top.kill()
        assert top.pids() == set()
        assert program.wait(DEADLINE) == -signal.SIGKILL


async def test_eventually_async_returns_the_result_or_says_what_was_seen() -> None:
    answers = iter([0, 0, 7])

    async def look() -> int:
        return next(answers)

    assert await eventually_async(look, DEADLINE, "a seven", every=0) == 7

    async def never() -> int:
        return 0

    with pytest.raises(DeadlinePassed, match=r"a seven: not within 0\.05 s; last seen: 0"):
        await eventually_async(never, 0.05, "a seven", every=0.01)


def test_eventually_past_its_deadline_says_what_was_seen_last() -> None:
    with pytest.raises(DeadlinePassed, match=r"a seven: not within 0\.1 s; last seen: 0"):
        eventually(lambda: 0, 0.1, "a seven", every=0.01)
