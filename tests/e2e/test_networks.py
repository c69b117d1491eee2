"""A stack on two hosts whose services reach each other by name, over the network between them."""

import contextlib
import json
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.lab.cluster import Cluster
from tests.lab.commands import CommandFailed
from tests.lab.host import Host
from tests.lab.images import python_image
from tests.lab.lab import Lab
from tests.lab.wait import eventually

from .images import ROOT

pytestmark = [pytest.mark.lab, pytest.mark.timeout(180)]
LAB_HOSTS = 2

STACK = """
services:
  web:
    image: site:1
    networks: [inner, back]
    ports: ["8080:80"]
    deploy: {placement: {constraints: ["node.hostname==%s"]}}
  db:
    image: site:1
    networks: {inner: {aliases: [store]}}
    deploy: {replicas: 2, placement: {constraints: ["node.hostname==%s"]}}
  cache:
    image: site:1
    networks: [back]
    ports: ["8081:80"]
    deploy: {placement: {constraints: ["node.hostname==%s"]}}
networks:
  inner:
  back:
    internal: true
    driver_opts: {com.docker.network.driver.mtu: "1300"}
"""
BALANCED = """
services:
  web:
    image: client:1
    networks: [inner]
    deploy: {placement: {constraints: ["node.hostname==%s"]}}
  db:
    image: who:1
    networks: [inner]
    environment: {ROUND: "%s"}
    healthcheck: {test: ["CMD", "wget", "-qO-", "http://127.0.0.1/health"], interval: 500ms, timeout: 9s, retries: 40}
    deploy: {replicas: 3, update_config: {order: %s, monitor: 100ms}, restart_policy: {delay: 0s}}
networks:
  inner:
"""
LOAD = """
import collections, http.client, json, os, sys, time
answers, failures = collections.Counter(), []
while not os.path.exists("/stop"):
    connection = http.client.HTTPConnection(sys.argv[1], timeout=5)
    try:
        connection.request("GET", "/api")
        answers[json.load(connection.getresponse())["Hostname"]] += 1
    except (OSError, ValueError, http.client.HTTPException) as problem:
        failures.append(f"{time.strftime('%H:%M:%S')} {problem!r}")
    connection.close()
    with open("/answered", "w") as progress:
        print(sum(answers.values()), file=progress)
    time.sleep(0.01)
print(json.dumps({"answers": answers, "failures": failures}))
"""
NETWORKS = {"h1": ["bridge", "demo_back", "demo_inner", "host", "ingress", "none"], "h2": ["bridge", "host", "none"]}
"""What `docker network ls` shows on the manager and on the worker."""


@pytest.fixture
def cluster(lab: Lab) -> Iterator[Cluster]:
    server = ["python3", "-m", "http.server", "80", "--directory", "/var/www"]
    lab.load_image(python_image("site:1", server, {"/var/www/index.html": "hello"}))
    with Cluster(lab, managers=1, init=("--data-path-port", "7789")) as made:
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


def virtual_address(cluster: Cluster, service: str) -> str:
    """The service's only one, as `service inspect` says."""
    (shown,) = json.loads(cluster.essaim("service", "inspect", service))
    (virtual,) = shown["Endpoint"]["VirtualIPs"]
    return str(virtual["Addr"]).partition("/")[0]


@contextlib.contextmanager
def load_from(host: Host, container_id: str, name: str) -> Iterator[dict[str, Any]]:
    """New connections to the name, one after the other, until the block ends; then what came of them is in the result:
    `answers` by replica and `failures`."""
    result: dict[str, Any] = {}
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(host.docker, "exec", container_id, "python3", "/load.py", name)
        try:
            yield result
        finally:
            host.docker("exec", container_id, "touch", "/stop")
            result.update(json.loads(running.result()))
            host.docker("exec", container_id, "rm", "/stop")


def answered(host: Host, container_id: str) -> int:
    """How many answers the load has had by now."""
    return int(host.docker("exec", container_id, "cat", "/answered").strip() or 0)


def reached(host: Host, container_id: str, vip: str) -> set[str]:
    """The replicas that the container's new flows to the address go to."""
    pid = host.docker("inspect", "-f", "{{.State.Pid}}", container_id)
    shown = host.run(["nsenter", "-t", pid, "-n", "nft", "list", "ruleset"]).stdout
    chains = dict(re.findall(r"chain (\w+) \{(.*?)\n\t\}", shown, re.DOTALL))
    name = dict(re.findall(r"([0-9.]+) : goto (\w+)", shown)).get(vip, "")
    return set(re.findall(r"10[.][0-9.]+", chains.get(name, "")))


def updated(cluster: Cluster, service: str) -> bool:
    (shown,) = json.loads(cluster.essaim("service", "inspect", service))
    return bool((shown.get("UpdateStatus") or {}).get("State") == "completed")


def links(host: Host) -> str:
    return host.run(["ip", "-o", "link"]).stdout


def test_services_of_a_stack_reach_each_other_by_name_across_hosts(cluster: Cluster) -> None:
    here, there = cluster.lab.hosts
    cluster.deploy("demo", STACK % (here.name, there.name, there.name))
    cluster.wait_running("demo_db", 2)
    cluster.wait_running("demo_web", 1)
    web = container(here, "demo_web")
    vip = virtual_address(cluster, "demo_db")
    for name in ("db", "demo_db", "store"):
        eventually(lambda name=name: looked_up(here, web, name) == {vip}, 20, name, retry_on=(CommandFailed,))
    for name in ("db", "tasks.db"):
        eventually(lambda name=name: fetched(here, web, name) == "hello", 20, name, retry_on=(CommandFailed,))
    before = two_addresses(here, web, "tasks.db")
    assert vip not in before

    # The other network's names are known too; it ends at its nodes, and its port is published all the same.
    eventually(lambda: fetched(here, web, "cache") == "hello", 20, "cache", retry_on=(CommandFailed,))
    assert "mtu 1300" in there.docker("exec", container(there, "demo_cache"), "ip", "link")
    for host in (here, there):
        assert "dstport 7789 " in host.run(["ip", "-d", "link", "show", "type", "vxlan"]).stdout
        eventually(lambda host=host: cluster.fetch(host, 8081) == "hello", 20, "its port", retry_on=(OSError,))

    # A published port leads to a task that is on a network; listings show the network, not a node's part of it.
    for host in (here, there):
        eventually(lambda host=host: cluster.fetch(host, 8080) == "hello", 20, "the port", retry_on=(OSError,))
        shown = host.run(["docker", "-H", "unix:///run/essaim/essaim.sock", "network", "ls", "--format", "{{.Name}}"])
        assert sorted(shown.stdout.split()) == NETWORKS[host.name], host.name

    # A daemon that starts anew leaves the tasks' traffic alone, and serves names again.
    cluster.daemons[here.name].kill()
    assert fetched(here, web, vip) == "hello"
    cluster.start_daemon(here)
    eventually(lambda: looked_up(here, web, "db") == {vip}, 30, "names are served again", retry_on=(CommandFailed,))

    # Whatever somebody removes is made again within seconds: a link under the feet of its containers ...
    wires = re.findall(r"esvx[0-9]+", links(here))
    for wire in wires:
        here.run(["ip", "link", "del", wire])
    eventually(lambda: set(re.findall(r"esvx[0-9]+", links(here))) == set(wires), 10, "the links are there again")
    eventually(lambda: fetched(here, web, "db") == "hello", 10, "over the new link", retry_on=(CommandFailed,))

    # ... and networks that have no container at the moment.
    there.run(["sh", "-c", "docker kill $(docker ps -q) && docker network prune --force"])
    eventually(
        lambda: two_addresses(here, web, "tasks.db") not in (set(), before), 30, "the name follows the replacements",
        retry_on=(CommandFailed,),
    )  # fmt: skip
    assert looked_up(here, web, "db") == {vip}
    # The replacement runs before it listens.
    eventually(lambda: fetched(here, web, "db") == "hello", 20, "the replacement", retry_on=(CommandFailed,))

    # Nothing of the networks stays: on a node that leaves with its tasks, and on one whose last task has gone.
    cluster.essaim("swarm", "leave", host=there)
    cluster.essaim("stack", "rm", "demo")
    for host in (here, there):
        eventually(lambda host=host: " es" not in links(host), 40, f"links of {host.name} are gone")
        assert "essaim.network" not in host.docker("network", "ls", "--format", "{{.Labels}}")


def test_virtual_address_spreads_and_outlives_replicas_and_daemons(cluster: Cluster) -> None:
    here, there = cluster.lab.hosts
    cluster.lab.load_image(
        python_image("who:1", ["python3", "/whoami.py"], {"/whoami.py": ROOT / "agent/runtime/whoami.py"})
    )
    cluster.lab.load_image(python_image("client:1", ["sleep", "infinity"], {"/load.py": LOAD}))
    cluster.deploy("demo", BALANCED % (here.name, "1", "stop-first"))
    cluster.wait_running("demo_db", 3)
    cluster.wait_running("demo_web", 1)
    web, vip = container(here, "demo_web"), virtual_address(cluster, "demo_db")
    eventually(lambda: looked_up(here, web, "db") == {vip}, 20, "the virtual address", retry_on=(CommandFailed,))

    # By the address: names are the daemon's to tell, and it is away for a moment.
    with load_from(here, web, vip) as load:
        eventually(lambda: len(reached(here, web, vip)) == 3, 20, "all replicas are reached")
        cluster.daemons[here.name].kill()
        cluster.start_daemon(here)
        cluster.wait_up(here)
        eventually(lambda: looked_up(here, web, "db") == {vip}, 30, "names again", retry_on=(CommandFailed,))
        cluster.deploy("demo", BALANCED % (here.name, "2", "stop-first"))
        eventually(lambda: updated(cluster, "demo_db"), 60, "the service is updated", retry_on=(CommandFailed,))
    assert not load["failures"]
    assert len(load["answers"]) > 3
    assert virtual_address(cluster, "demo_db") == vip

    # A replica that is killed takes its connections with it; no new one goes there once the leader knows.
    with load_from(here, web, "db") as load:
        there.docker("kill", container(there, "demo_db"))
        cluster.wait_running("demo_db", 3)
        eventually(lambda: len(reached(here, web, vip)) == 3, 20, "all replicas are reached again")
        eventually(lambda: answered(here, web) > 100, 30, "a hundred answers", retry_on=(CommandFailed,))
    assert len(load["answers"]) >= 3
    assert sum(load["answers"].values()) > 20 * len(load["failures"])
