"""A lab leaves nothing behind, whatever happens to the process that made it."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.lab import commands, registry
from tests.lab.commands import LabUnavailable
from tests.lab.host import Host
from tests.lab.images import busybox_image
from tests.lab.lab import Lab
from tests.lab.leftovers import leftovers
from tests.lab.wait import eventually

pytestmark = pytest.mark.lab
# Seconds: real processes on a machine that others use too.
DEADLINE = 30
ROOT = Path(__file__).parents[2]

# A test process of its own, with containers, a daemon that left its group, and a partition.
OWNER = """
from tests.lab.images import busybox_image
from tests.lab.lab import Lab
import signal
with Lab(hosts=2) as lab:
    image = lab.load_image(busybox_image("idle:1"))
    for host in lab.hosts:
        host.docker("run", "--detach", image)
        host.run(["sh", "-c", "setsid sleep 4321 > /dev/null 2>&1 &"])
    lab.partition(*lab.hosts)
    lab.hosts[1].pause()
    print(lab.number, lab.directory, lab._keeper.pid, flush=True)
    signal.pause()
"""
# The same, cut short while it starts.
STARTING = """
from tests.lab import registry
from tests.lab.lab import Lab
claim = registry.claim
def claimed():
    record = claim()
    print(record.number, record.directory, flush=True)
    return record
registry.claim = claimed
Lab(hosts=3).start()
"""


@dataclass
class Owner:
    process: subprocess.Popen[str]
    number: int
    directory: Path
    keeper: int = 0


@contextlib.contextmanager
def owner(script: str, *wrapper: str) -> Iterator[Owner]:
    """A process that runs the script, which prints what its lab is."""
    argv = [*wrapper, sys.executable, "-c", script]
    with subprocess.Popen(argv, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            words = process.stdout.readline().split()
            if not words:
                raise AssertionError(process.communicate()[1])
            yield Owner(process, int(words[0]), Path(words[1]), int(words[2]) if words[2:] else 0)
        finally:
            process.kill()
            process.communicate()


def removed(lab: Owner) -> bool:
    left = leftovers(lab.number, lab.directory)
    # The number may have been taken by another lab meanwhile; the folder's name says whose it is.
    record = registry.read(lab.number)
    return not left or (record is not None and record.directory != str(lab.directory))


def test_lab_of_three_hosts_starts_in_time_and_leaves_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    started = time.monotonic()
    with Lab(hosts=3) as lab:
        took = time.monotonic() - started
        number, directory = lab.number, lab.directory
        assert [host.docker("info", "--format", "{{.Name}}") for host in lab.hosts] == ["h1", "h2", "h3"]
        assert leftovers(number, directory) != []
        lab.load_image(busybox_image("idle:1"))
        lab.hosts[0].docker("run", "--detach", "idle:1")
        stopping = time.monotonic()
    with capsys.disabled():
        print(f"\nlab: 3 hosts up in {took:.1f} s, removed in {time.monotonic() - stopping:.1f} s")
    assert took < 60
    assert leftovers(number, directory) == []


def test_exception_in_lab_is_raised_and_nothing_left() -> None:
    lab = Lab(hosts=1, engines=False)
    claimed: list[registry.Record] = []

    def fail() -> None:
        with lab:
            claimed.append(registry.read(lab.number) or pytest.fail("no record"))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError) as failure:
        fail()
    assert any("== h1 10.77." in note for note in failure.value.__notes__)
    assert leftovers(claimed[0].number, Path(claimed[0].directory)) == []


def test_start_that_fails_is_raised_and_nothing_left(monkeypatch: pytest.MonkeyPatch) -> None:
    claimed: list[registry.Record] = []
    boot = Host.boot

    def fail_on_the_second(host: Host) -> None:
        boot(host)
        if host.index == 2:
            claimed.append(registry.read(int(host.address.split(".")[2])) or pytest.fail("no record"))
            raise RuntimeError("no boot today")

    monkeypatch.setattr(Host, "boot", fail_on_the_second)
    with pytest.raises(RuntimeError, match="no boot today"):
        Lab(hosts=2, engines=False).start()
    assert leftovers(claimed[0].number, Path(claimed[0].directory)) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_owner_ended_by_signal_leaves_nothing(number: signal.Signals) -> None:
    with owner(OWNER) as lab:
        assert leftovers(lab.number, lab.directory) != []
        lab.process.send_signal(number)
        eventually(lambda: removed(lab), DEADLINE, f"lab {lab.number} removed after {number.name}")


@pytest.mark.parametrize("delay", [0.0, 0.1, 0.3, 0.6])
def test_owner_killed_while_starting_leaves_nothing(delay: float) -> None:
    with owner(STARTING) as lab:
        # Not a wait for something: the moment of the kill is what is varied.
        threading.Event().wait(delay)
        lab.process.kill()
        lab.process.wait()
        eventually(lambda: removed(lab) or registry.sweep(), DEADLINE, f"lab {lab.number} removed")
        eventually(lambda: removed(lab), DEADLINE, f"nothing left of lab {lab.number}")


def test_lab_without_owner_and_keeper_is_removed_by_the_next() -> None:
    with owner(OWNER) as abandoned:
        os.kill(abandoned.keeper, signal.SIGKILL)
        abandoned.process.kill()
        abandoned.process.wait()
        with Lab(hosts=1, engines=False):
            assert removed(abandoned)


def test_labs_at_the_same_time_do_not_meet() -> None:
    with Lab(hosts=1, engines=False) as one, Lab(hosts=1, engines=False) as other:
        assert one.number != other.number
        ping = ["busybox", "ping", "-c1", "-W1"]
        assert one.hosts[0].run([*ping, one.test_address]).returncode == 0
        assert one.hosts[0].run([*ping, other.hosts[0].address], check=False).returncode != 0
        number, directory = one.number, one.directory
        one.stop()
        assert leftovers(number, directory) == []
        assert other.hosts[0].run([*ping, other.test_address]).returncode == 0


def test_living_owner_of_the_same_pid_only_counts_with_its_start_time() -> None:
    mine = registry.identity(os.getpid())
    assert mine is not None
    assert registry.is_alive(mine)
    boot, pid, start = mine.split()
    assert not registry.is_alive(f"{boot} {pid} {int(start) - 1}")
    assert not registry.is_alive(f"another-boot {pid} {start}")


def test_lab_without_root_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(LabUnavailable, match=r"needs root: run \./test as root"):
        Lab(hosts=1).start()


def test_lab_without_a_program_names_it_and_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commands, "NEEDED", ("sh", "no-such-program"))
    with pytest.raises(LabUnavailable, match=r"not here: no-such-program; run tools/debian\.sh"):
        Lab(hosts=1).start()


FIREWALLED = """
from tests.lab.lab import Lab
with Lab(hosts=2, engines=False) as lab:
    lab.hosts[0].run(["busybox", "ping", "-c1", "-W5", lab.hosts[1].address])
    print(lab.number, lab.directory, flush=True)
"""


def test_hosts_reach_each_other_where_the_machine_drops_forwarded_packets() -> None:
    # As an Engine leaves a machine. In a network namespace of its own, because the machine is others' too.
    setup = 'ip link set lo up && iptables -P FORWARD DROP && exec "$@"'
    with owner(FIREWALLED, "unshare", "--net", "sh", "-c", setup, "sh") as lab:
        assert lab.process.wait(DEADLINE) == 0
        assert removed(lab)
