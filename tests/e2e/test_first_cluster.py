"""The course's stack on three hosts with real containers: deployed, served from every node, made whole after losses."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.images import ROOT, redis, whoami
from tests.lab.cluster import Cluster
from tests.lab.commands import CommandFailed
from tests.lab.host import Host
from tests.lab.lab import Lab
from tests.lab.wait import eventually

pytestmark = [pytest.mark.lab, pytest.mark.timeout(180)]

WEB = (ROOT / "examples" / "web.yml").read_text()


@pytest.fixture(scope="module")
def images(shared_lab: Lab) -> None:
    shared_lab.load_image(whoami())
    shared_lab.load_image(redis())


@pytest.fixture
def cluster(lab: Lab, images: None) -> Iterator[Cluster]:
    with Cluster(lab) as made:
        yield made


def replicas_seen(cluster: Cluster, host: Host, wanted: int, port: int = 4000) -> set[str]:
    """The tasks that answer through one host's gateway, over 60 connections at most."""
    seen: set[str] = set()
    for _ in range(60):
        seen.add(json.loads(cluster.fetch(host, port, "/api"))["Task"])
        if len(seen) == wanted:
            break
    return seen


def wait_all_seen(cluster: Cluster, host: Host, wanted: int) -> None:
    eventually(
        lambda: len(replicas_seen(cluster, host, wanted)) == wanted,
        30,
        f"{host.name} reaches {wanted} replicas",
        retry_on=(OSError,),
    )


def test_stack_is_spread_and_served_from_every_host_and_made_whole(cluster: Cluster) -> None:
    cluster.deploy("demo", WEB)
    tasks = cluster.wait_running("demo_web", 5)
    per_host = sorted(sum(t["Node"] == host.name for t in tasks) for host in cluster.lab.hosts)
    assert per_host == [1, 2, 2]
    for host in cluster.lab.hosts:
        wait_all_seen(cluster, host, 5)

    # A container dies: restart_policy on-failure replaces the task in its slot.
    host = cluster.lab.hosts[1]
    victim = host.docker("ps", "-q", "--filter", "label=com.docker.swarm.service.name=demo_web").split()[0]
    before = {t["ID"] for t in tasks}
    host.docker("kill", victim)
    eventually(
        lambda: {t["ID"] for t in cluster.running("demo_web")} - before, 30, "the killed container's task is replaced"
    )
    cluster.wait_running("demo_web", 5)

    # A host is lost with everything on it: its replicas come up on the others.
    lost = cluster.lab.hosts[2]
    lost.crash()
    survivors = cluster.lab.hosts[:2]

    def moved() -> bool:
        running = cluster.running("demo_web")
        return len(running) == 5 and all(t["Node"] != lost.name for t in running)

    eventually(moved, 60, "all replicas run on the two hosts left")
    for host in survivors:
        wait_all_seen(cluster, host, 5)
    assert {n["Hostname"]: n["Status"] for n in cluster.nodes()}[lost.name] == "Down"

    # It comes back with an empty Engine: nothing is started twice.
    lost.boot()
    cluster.start_daemon(lost)
    eventually(lambda: [n["Status"] for n in cluster.nodes()] == ["Ready"] * 3, 60, "the lost host is ready again")
    assert len(cluster.wait_running("demo_web", 5)) == 5
    wait_all_seen(cluster, lost, 5)

    cluster.essaim("stack", "rm", "demo")
    eventually(
        lambda: not any(h.docker("ps", "-q") for h in cluster.lab.hosts), 60, "no container is left after stack rm"
    )


def test_secret_of_the_course_is_mounted_from_memory_and_gone_with_the_task(cluster: Cluster) -> None:
    cluster.essaim("secret", "create", "my_secret_data", text="This is a secret\n")
    cluster.essaim(
        "service", "create", "--detach", "--name", "monservice", "--secret", "my_secret_data", "redis:alpine"
    )
    (task,) = cluster.wait_running("monservice", 1)
    host = next(h for h in cluster.lab.hosts if h.name == task["Node"])
    container = host.docker("ps", "-q", "--filter", "label=com.docker.swarm.service.name=monservice")
    assert host.docker("exec", container, "cat", "/run/secrets/my_secret_data") == "This is a secret"
    kind = host.docker("exec", container, "stat", "-f", "-c", "%T", "/run/secrets/my_secret_data")
    assert kind == "tmpfs"
    mode = host.docker("exec", container, "stat", "-c", "%a %u %g", "/run/secrets/my_secret_data")
    assert mode == "444 0 0"

    with pytest.raises(CommandFailed, match="in use by the following service: monservice"):
        cluster.essaim("secret", "rm", "my_secret_data")
    mounts = json.loads(host.docker("inspect", "-f", "{{json .Mounts}}", container))
    source = next(Path(m["Source"]) for m in mounts if m["Destination"] == "/run/secrets/my_secret_data")
    assert host.run(["stat", "-f", "-c", "%T", source]).stdout.strip() == "tmpfs"
    cluster.essaim("service", "rm", "monservice")
    eventually(
        lambda: host.run(["ls", source], check=False).returncode != 0, 30, "the secret's file is gone with its task"
    )
    cluster.essaim("secret", "rm", "my_secret_data")


def test_secret_with_an_absolute_target_appears_there(cluster: Cluster) -> None:
    cluster.essaim("secret", "create", "my_secret_data", text="This is a secret\n")
    cluster.essaim(
        "service", "create", "--detach", "--name", "abs",
        "--secret", "source=my_secret_data,target=/var/run/my_secret_data,mode=0400", "redis:alpine",
    )  # fmt: skip
    (task,) = cluster.wait_running("abs", 1)
    host = next(h for h in cluster.lab.hosts if h.name == task["Node"])
    container = host.docker("ps", "-q", "--filter", "label=com.docker.swarm.service.name=abs")
    assert host.docker("exec", container, "cat", "/var/run/my_secret_data") == "This is a secret"
    assert host.docker("exec", container, "stat", "-c", "%a", "/var/run/my_secret_data") == "400"


def test_haproxy_configuration_balances_over_the_gateways(cluster: Cluster) -> None:
    """The real haproxy, outside the cluster, with the configuration that the cluster rendered."""
    cluster.deploy("demo", WEB)
    cluster.wait_running("demo_web", 5)
    rendered = cluster.lab.directory / "haproxy.cfg"
    rendered.write_text(cluster.essaim("lb", "render", "haproxy") + "\n")
    outside = cluster.lab.hosts[2]
    cluster.essaim("swarm", "leave", "--force", host=outside)
    outside.stop_processes()
    outside.run(["haproxy", "-c", "-f", rendered])
    outside.popen(["haproxy", "-db", "-f", rendered], name="haproxy")
    cluster.wait_running("demo_web", 5)
    wait_all_seen(cluster, outside, 5)
