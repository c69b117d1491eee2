"""Three hosts with Engines: who reaches whom, and how hosts and Engines are lost and come back."""

import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest

from tests.lab.commands import CommandFailed
from tests.lab.host import Host
from tests.lab.images import busybox_image
from tests.lab.lab import Lab
from tests.lab.wait import eventually

pytestmark = pytest.mark.lab
# Seconds: real processes on a machine that others use too.
DEADLINE = 30
RECEIVE = """
import socket, sys
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind((sys.argv[1], 7000)); print("ready", flush=True)
print(s.recv(99), flush=True)
"""
SEND = "import socket, sys; socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'one', (sys.argv[1], 7000))"


@pytest.fixture(scope="module")
def page(shared_lab: Lab) -> str:
    """An image that serves the name of the host it was given as its page."""
    script = 'echo "$NAME" > /var/www/index.html; exec httpd -f -p 80 -h /var/www'
    return shared_lab.load_image(busybox_image("page:1", ["sh", "-c", script]))


def serve(host: Host, image: str, *options: str) -> str:
    # KILL, because an Engine that stops or restarts gives containers ten seconds to heed a gentler signal.
    return host.docker(
        "run", "--detach", "--stop-signal", "KILL", "--publish", "80:80", "--env", f"NAME={host.name}", *options, image
    )


def fetch(source: Host, target: Host) -> str:
    """The page of `target` as `source` gets it; a failure raises `CommandFailed`."""
    return source.run(["curl", "--silent", "--show-error", "--max-time", "1", f"http://{target.address}/"]).stdout


def reaches(source: Host, target: Host) -> bool:
    try:
        return fetch(source, target) == f"{target.name}\n"
    except CommandFailed:
        return False


def test_containers_published_on_hosts_are_reached_from_hosts_and_test(lab: Lab, page: str) -> None:
    for host in lab.hosts:
        serve(host, page)
    for target in lab.hosts:
        for source in lab.hosts:
            eventually(partial(reaches, source, target), DEADLINE, f"{source} reaching {target}")
        url = f"http://{target.address}/"
        here = subprocess.run(["curl", "--silent", "--max-time", "5", url], capture_output=True, text=True, check=True)
        assert here.stdout == f"{target.name}\n"


def test_host_has_its_own_name_and_processes_and_no_way_out(lab: Lab) -> None:
    first, second = lab.hosts[:2]
    assert first.run(["hostname"]).stdout == "h1\n"
    assert "default" not in first.run(["ip", "route"]).stdout
    assert first.run(["getent", "hosts", "h2"]).stdout.split()[0] == second.address
    first.run(["touch", "/run/only-here"])
    assert second.run(["ls", "/run/only-here"], check=False).returncode != 0
    marker = second.popen(["sleep", "1234"])
    assert "sleep 1234" in second.inner_pids().values()
    assert "sleep 1234" not in first.inner_pids().values()
    marker.kill()


def test_partition_cuts_the_named_sides_only_until_healed(lab: Lab, page: str) -> None:
    first, second, third = lab.hosts
    for host in lab.hosts:
        serve(host, page)
        eventually(partial(reaches, host, host), DEADLINE, f"page of {host}")
    lab.partition(first, [second])
    assert not reaches(first, second)
    assert not reaches(second, first)
    assert reaches(first, third)
    assert reaches(third, second)
    lab.isolate(third)
    assert not reaches(first, third)
    lab.heal()
    for source, target in ((first, second), (second, first), (first, third)):
        eventually(partial(reaches, source, target), DEADLINE, f"{source} reaching {target} again")


def test_cut_one_way_loses_only_what_goes_that_way(lab: Lab) -> None:
    first, second = lab.hosts[:2]
    received = second.popen([sys.executable, "-c", RECEIVE, second.address])
    eventually(lambda: "ready" in received.stdout_path.read_text(), DEADLINE, "listening on port 7000")
    # A fixed neighbour entry stands in for ARP, whose answers are cut.
    mac = second.run(["ip", "-brief", "link", "show", "eth0"]).stdout.split()[2]
    first.run(["ip", "neigh", "replace", second.address, "lladdr", mac, "dev", "eth0"])
    lab.cut(second, first)

    def arrived() -> bool:
        first.run([sys.executable, "-c", SEND, second.address])
        return "one" in received.stdout_path.read_text()

    eventually(arrived, DEADLINE, "a datagram along the open way")
    assert first.run(["busybox", "ping", "-c1", "-W1", second.address], check=False).returncode == 1
    lab.heal()
    assert first.run(["busybox", "ping", "-c1", "-W5", second.address], check=False).returncode == 0


def test_crash_ends_all_processes_and_boot_finds_the_disk_again(lab: Lab, page: str) -> None:
    first, second = lab.hosts[:2]
    container = serve(first, page, "--restart", "always")
    program = first.popen(["sleep", "1000"])
    eventually(lambda: reaches(second, first), DEADLINE, "the page before the crash")
    started = time.monotonic()
    first.crash()
    assert time.monotonic() - started < DEADLINE
    assert first.cgroup.pids() == set()
    assert program.returncode is not None
    assert not reaches(second, first)
    with pytest.raises(CommandFailed, match="h1: true: the host is down"):
        first.run(["true"])
    first.boot()
    assert first.docker("ps", "--quiet", "--no-trunc") == container
    eventually(lambda: reaches(second, first), DEADLINE, "the page after the boot")


def test_paused_host_answers_nothing_until_resumed(lab: Lab, page: str) -> None:
    first, second = lab.hosts[:2]
    serve(first, page)
    eventually(lambda: reaches(second, first), DEADLINE, "the page before the pause")
    first.pause()
    assert not reaches(second, first)
    first.resume()
    eventually(lambda: reaches(second, first), DEADLINE, "the page after the pause")


def test_unplugged_host_is_reached_by_nobody_and_its_socket_still_works(lab: Lab, page: str) -> None:
    first, second = lab.hosts[:2]
    serve(first, page)
    eventually(lambda: reaches(second, first), DEADLINE, "the page before the cable was pulled")
    first.unplug()
    assert not reaches(second, first)
    assert first.docker("info", "--format", "{{.Name}}") == "h1"
    first.plug()
    eventually(lambda: reaches(second, first), DEADLINE, "the page with the cable back")


def test_killed_engine_leaves_containers_and_restarts(lab: Lab, page: str) -> None:
    first, second = lab.hosts[:2]
    container = serve(first, page)
    eventually(lambda: reaches(second, first), DEADLINE, "the page")
    first.kill_engine()
    with pytest.raises(CommandFailed, match=r"h1: docker ps: exit code"):
        first.docker("ps")
    assert any(args.startswith("httpd") for args in first.inner_pids().values())
    first.restart_engine()
    assert first.docker("ps", "--all", "--quiet", "--no-trunc") == container


def test_bridge_keeps_its_address_when_the_host_with_the_lowest_one_is_lost(lab: Lab) -> None:
    """What the others remember of the test's address stays right."""
    before = address_of(f"elab{lab.number}")
    lowest = min(lab.hosts, key=lambda host: address_of(f"elab{lab.number}h{host.index}"))
    lowest.crash()
    assert address_of(f"elab{lab.number}") == before


def address_of(interface: str) -> str:
    return Path(f"/sys/class/net/{interface}/address").read_text().strip()
