"""`docker exec`, `logs`, `inspect` and `cp` on a task's container, whichever node it runs on, through any manager."""

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.cluster import Cluster
from tests.lab.commands import CommandFailed
from tests.lab.host import Host
from tests.lab.images import busybox_image
from tests.lab.lab import Lab
from tests.lab.wait import eventually

pytestmark = [pytest.mark.lab, pytest.mark.timeout(240)]

IMAGE = "spread:1"


@pytest.fixture
def cluster(lab: Lab) -> Iterator[Cluster]:
    lab.load_image(busybox_image(IMAGE, ["sh", "-c", "echo begun; exec sleep 1000"]))
    with Cluster(lab) as made:
        yield made


def docker(host: Host, *words: str | Path, text: str = "", check: bool = True) -> tuple[int, str, str]:
    """The stock client on a host's essaimd: its code, output and errors."""
    done = host.run(["docker", "-H", "unix:///run/essaim/essaim.sock", *words], text=text, check=check, timeout=60)
    return done.returncode, done.stdout, done.stderr


def containers(cluster: Cluster) -> dict[str, str]:
    """Host name -> name of the container of the task there."""
    return {
        host.name: host.docker("ps", "--format", "{{.Names}}", "--filter", "label=com.docker.swarm.service.name=all")
        for host in cluster.lab.hosts
    }


def test_containers_of_other_nodes_are_reached_through_every_manager(cluster: Cluster, tmp_path: Path) -> None:
    cluster.essaim("service", "create", "--detach", "--no-resolve-image", "--name", "all", "--mode", "global", IMAGE)
    cluster.wait_running("all", 3)
    found = containers(cluster)
    lines = "".join(f"{number}\n" for number in range(50_000))
    source, back = tmp_path / "source", tmp_path / "back"
    source.write_bytes(os.urandom(8 << 20))
    for manager in cluster.lab.hosts:
        for where, container in found.items():
            # The input's end reaches the command, which answers after it.
            _, counted, _ = docker(manager, "exec", "--interactive", container, "wc", "-l", text=lines)
            assert counted.strip() == "50000"
            assert docker(manager, "exec", container, "sh", "-c", "exit 7", check=False)[0] == 7
            assert docker(manager, "logs", container)[1] == "begun\n"
            (inspected,) = json.loads(docker(manager, "inspect", container)[1])
            assert inspected["Name"] == f"/{container}"
            assert inspected["Config"]["Labels"]["com.docker.swarm.service.name"] == "all"
            assert docker(manager, "exec", container, "hostname")[1].strip() == inspected["Config"]["Hostname"]
            docker(manager, "cp", source, f"{container}:/copied-by-{manager.name}")
            docker(manager, "cp", f"{container}:/copied-by-{manager.name}", back)
            assert back.read_bytes() == source.read_bytes(), (manager.name, where)


def test_node_that_is_lost_ends_what_was_open_to_it(cluster: Cluster) -> None:
    cluster.essaim("service", "create", "--detach", "--no-resolve-image", "--name", "all", "--mode", "global", IMAGE)
    cluster.wait_running("all", 3)
    found = containers(cluster)
    first, second, third = cluster.lab.hosts
    following = [
        host.popen(["docker", "-H", "unix:///run/essaim/essaim.sock", "logs", "-f", found[third.name]], name="follow")
        for host in (first, second)
    ]

    def begun() -> bool:
        outputs = [(host.directory / "log").glob("follow*") for host in (first, second)]
        return all(any("begun" in path.read_text() for path in files) for files in outputs)

    eventually(begun, 30, "both follow the log")
    third.crash()
    for one in following:
        one.wait(30)
    code, _, said = docker(second, "exec", found[third.name], "true", check=False)
    assert code != 0
    assert "is not connected to the leading manager" in said


def test_streams_through_another_manager_when_the_leaders_host_vanishes(cluster: Cluster) -> None:
    """Its link goes down. Streams to a container end: a silent one, and one that has sent what nobody confirms. The
    service's output is followed on, although one of its tasks was on that host."""
    cluster.essaim("service", "create", "--detach", "--no-resolve-image", "--name", "all", "--mode", "global", IMAGE)
    cluster.wait_running("all", 3)
    leader, second, third = cluster.lab.hosts
    container = containers(cluster)[third.name]
    client = ["docker", "-H", "unix:///run/essaim/essaim.sock"]
    silent = second.popen([*client, "logs", "-f", container], name="silent-container")
    service = second.popen([*client, "service", "logs", "-f", "all"], name="silent-service")
    script = f"{' '.join(client)} exec -i {container} sh -c 'echo begun; cat'"
    typing = second.popen(["sh", "-c", f"while sleep 1; do echo word; done | {script}"], name="typing")

    def begun(name: str) -> int:
        return sum(path.read_text().count("begun") for path in (second.directory / "log").glob(f"{name}*"))

    wanted = {"silent-container": 1, "silent-service": 3, "typing": 1}
    eventually(lambda: {name: begun(name) for name in wanted} == wanted, 30, "all three streams flow")
    leader.unplug()
    before = time.monotonic()
    for one in (silent, typing):
        one.wait(30)
    assert time.monotonic() - before < 25

    def updated() -> bool:
        cluster.essaim("service", "update", "--detach", "--force", "all", host=second)
        return True

    eventually(updated, 30, "there is another leader", retry_on=(CommandFailed,))

    def is_followed() -> bool:
        assert service.poll() is None, service.report()
        return begun("silent-service") >= 5

    eventually(is_followed, 60, "what runs anew on the hosts that are left is followed too")
    leader.plug()
