"""A stack on two hosts whose services reach each other by name, over the network between them."""

from collections.abc import Iterator

import pytest

from tests.lab.cluster import Cluster
from tests.lab.commands import CommandFailed
from tests.lab.host import Host
from tests.lab.images import python_image
from tests.lab.lab import Lab
from tests.lab.wait import eventually

pytestmark = [pytest.mark.lab, pytest.mark.timeout(180)]
LAB_HOSTS = 2

STACK = """
services:
  web:
    image: site:1
    networks: [inner]
    ports: ["8080:80"]
    deploy: {placement: {constraints: ["node.hostname==%s"]}}
  db:
    image: site:1
    networks: {inner: {aliases: [store]}}
    deploy: {replicas: 2, placement: {constraints: ["node.hostname==%s"]}}
networks:
  inner:
"""
NETWORKS = {"h1": ["bridge", "demo_inner", "host", "ingress", "none"], "h2": ["bridge", "host", "none"]}
"""What `docker network ls` shows on the manager and on the worker."""


@pytest.fixture
def cluster(lab: Lab) -> Iterator[Cluster]:
    server = ["python3", "-m", "http.server", "80", "--directory", "/var/www"]
    lab.load_image(python_image("site:1", server, {"/var/www/index.html": "hello"}))
    with Cluster(lab, managers=1) as made:
        yield made


def container(host: Host, service: str) -> str:
    return host.docker("ps", "-q", "--filter", f"label=com.docker.swarm.service.name={service}").split()[0]


def looked_up(host: Host, web: str, name: str) -> set[str]:
    """What a name stands for in the container."""
    lines = host.docker("exec", web, "nslookup", "-type=a", name).split("Name:")[1:]
    return {word for line in lines for word in line.split() if word.startswith("10.0.")}


def two_addresses(host: Host, web: str, name: str) -> set[str]:
    found = looked_up(host, web, name)
    return found if len(found) == 2 else set()


def fetched(host: Host, web: str, name: str) -> str:
    """What the container gets from the server of that name."""
    program = f"import urllib.request as u; print(u.urlopen('http://{name}/', timeout=5).read().decode())"
    return host.docker("exec", web, "python3", "-c", program).strip()


def links(host: Host) -> str:
    return host.run(["ip", "-o", "link"]).stdout


def test_services_of_a_stack_reach_each_other_by_name_across_hosts(cluster: Cluster) -> None:
    here, there = cluster.lab.hosts
    cluster.deploy("demo", STACK % (here.name, there.name))
    cluster.wait_running("demo_db", 2)
    cluster.wait_running("demo_web", 1)
    web = container(here, "demo_web")
    for name in ("db", "demo_db", "store", "tasks.db"):
        eventually(lambda name=name: two_addresses(here, web, name), 20, name, retry_on=(CommandFailed,))
        eventually(lambda name=name: fetched(here, web, name) == "hello", 20, name, retry_on=(CommandFailed,))

    # A published port leads to a task that is on a network; listings show the network, not a node's part of it.
    for host in (here, there):
        eventually(lambda host=host: cluster.fetch(host, 8080) == "hello", 20, "the port", retry_on=(OSError,))
        shown = host.run(["docker", "-H", "unix:///run/essaim/essaim.sock", "network", "ls", "--format", "{{.Name}}"])
        assert sorted(shown.stdout.split()) == NETWORKS[host.name], host.name

    # A daemon that starts anew leaves the tasks' traffic alone, and serves names again.
    before = two_addresses(here, web, "db")
    cluster.daemons[here.name].kill()
    assert fetched(here, web, sorted(before)[0]) == "hello"
    cluster.start_daemon(here)
    eventually(
        lambda: two_addresses(here, web, "db") == before, 30, "names are served again", retry_on=(CommandFailed,)
    )

    there.docker("kill", container(there, "demo_db"))
    eventually(
        lambda: two_addresses(here, web, "db") not in (set(), before), 30, "the name follows the replacement",
        retry_on=(CommandFailed,),
    )  # fmt: skip
    assert fetched(here, web, "db") == "hello"

    cluster.essaim("stack", "rm", "demo")
    for host in (here, there):
        eventually(lambda host=host: " es" not in links(host), 40, f"links of {host.name} are gone")
        assert "essaim.network" not in host.docker("network", "ls", "--format", "{{.Labels}}")
