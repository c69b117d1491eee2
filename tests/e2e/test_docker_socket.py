"""Stacks that mount Docker's socket, as their authors wrote them: the stock client (Shepherd's way), Traefik's provider
for Swarm, and the requests of Portainer and Swarmpit, from within containers; and all of it over a daemon's restart."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.cluster import BIN, Cluster
from tests.lab.commands import CommandFailed
from tests.lab.host import Host
from tests.lab.images import busybox_image
from tests.lab.lab import Lab
from tests.lab.wait import eventually

pytestmark = [pytest.mark.lab, pytest.mark.timeout(180)]
LAB_HOSTS = 2
CLIENT = Path("/usr/local/bin/docker")
SOCKET = "/run/essaim/docker.sock"

STACK = f"""
services:
  web:
    image: page:1
    command: httpd -f -p 80 -h /var/www
    networks: [inside]
    deploy:
      replicas: 2
      labels:
        traefik.enable: "true"
        traefik.http.routers.web.rule: Host(`web.test`)
        traefik.http.routers.web.entrypoints: front
        traefik.http.services.web.loadbalancer.server.port: "80"
  proxy:
    image: page:1
    command: >-
      /traefik --entrypoints.front.address=:8000 --providers.swarm=true --providers.swarm.exposedbydefault=false
      --providers.swarm.network=tools_inside --providers.swarm.refreshseconds=1 --log.level=INFO
    networks: [inside]
    ports: ["8000:8000"]
    volumes:
      - /var/run/docker.sock:/var/run/docker.sock:ro
      - {BIN}/traefik:/traefik:ro
    deploy: {{placement: {{constraints: [node.role == manager]}}}}
  shell:
    image: page:1
    command: sleep 1000
    networks: [inside]
    volumes:
      - /var/run/docker.sock:/var/run/docker.sock
      - {CLIENT}:/usr/bin/docker:ro
    deploy: {{mode: global}}
networks:
  inside: {{driver: overlay}}
"""

PORTAINER = [
    "/v1.29/_ping", "/v1.29/info", "/v1.29/version", "/v1.29/swarm", "/v1.29/nodes", "/v1.29/services",
    "/v1.41/services?status=true", "/v1.41/tasks", "/v1.41/networks", "/v1.41/volumes", "/v1.41/images/json?all=0",
    "/v1.41/containers/json?all=1", "/v1.41/secrets", "/v1.41/configs", "/v1.41/system/df", "/v1.41/plugins",
    "/v1.41/events?since=0&until=1",
]  # fmt: skip
SWARMPIT = [
    "/v1.30/version", "/v1.30/info", "/v1.30/nodes", "/v1.30/services", "/v1.30/tasks", "/v1.30/networks",
    "/v1.30/volumes", "/v1.30/secrets", "/v1.30/configs",
]  # fmt: skip


@pytest.fixture
def cluster(lab: Lab) -> Iterator[Cluster]:
    lab.load_image(busybox_image("page:1", ["sh"], {"/var/www/index.html": "first\n"}))
    lab.load_image(busybox_image("page:2", ["sh"], {"/var/www/index.html": "second\n"}))
    with Cluster(lab, managers=1, flags=("--serve-docker-socket",)) as made:
        yield made


def container(host: Host, service: str) -> str:
    """The one that runs of a service on this host."""
    found = host.docker("ps", "-q", "--filter", f"label=com.docker.swarm.service.name=tools_{service}").split()
    assert len(found) == 1, found
    return found[0]


def shell(host: Host, *words: str) -> str:
    """The stock client in a container, at the place where Docker's socket is mounted."""
    return host.docker("exec", container(host, "shell"), "docker", *words)


def served_by_traefik(host: Host) -> str:
    asking = ["curl", "-sS", "-f", "--max-time", "5", "-H", "Host: web.test", f"http://{host.address}:8000/"]
    return host.run(asking).stdout


def test_stacks_that_mount_dockers_socket_see_the_cluster(cluster: Cluster) -> None:
    manager, worker = cluster.lab.hosts
    cluster.deploy("tools", STACK)
    for service, count in (("web", 2), ("proxy", 1), ("shell", 2)):
        cluster.wait_running(f"tools_{service}", count)

    # What Shepherd does: list, inspect, update each service's image.
    assert set(shell(manager, "service", "ls", "--format", "{{.Name}}").split()) == {
        "tools_web", "tools_proxy", "tools_shell",
    }  # fmt: skip
    assert len(shell(manager, "node", "ls", "-q").split()) == 2
    image = "{{.Spec.TaskTemplate.ContainerSpec.Image}}"
    assert shell(manager, "service", "inspect", "tools_web", "-f", image).startswith("page:1")
    # The containers beside them are the host's own, as ever.
    assert container(manager, "shell")[:12] in shell(manager, "ps", "-q").split()

    # On a worker it is Swarm's answer, and the host's containers.
    with pytest.raises(CommandFailed, match="This node is not a swarm manager"):
        shell(worker, "service", "ls")
    assert container(worker, "shell")[:12] in shell(worker, "ps", "-q").split()
    assert shell(worker, "info", "-f", "{{.Swarm.LocalNodeState}} {{.Swarm.ControlAvailable}}") == "active false"

    for path in [*PORTAINER, *SWARMPIT]:
        fetched = manager.run(["curl", "-sS", "-w", "%{http_code}", "--unix-socket", SOCKET, f"http://docker{path}"])
        assert fetched.stdout.endswith("200"), (path, fetched.stdout[-300:])

    # Traefik finds the service by its labels, and its replicas.
    def found(text: str) -> bool:
        return served_by_traefik(manager).strip() == text

    eventually(lambda: found("first"), 30, "Traefik serves the service", retry_on=(CommandFailed,))

    # The daemon is killed: the same containers see it again, through the same file.
    before = container(manager, "shell"), container(manager, "proxy")
    daemon = cluster.daemons[manager.name]
    daemon.kill()
    cluster.start_daemon(manager)
    cluster.wait_up(manager)
    assert json.loads(shell(manager, "info", "-f", "{{json .Swarm.ControlAvailable}}")) is True
    shell(manager, "service", "update", "--detach", "--image", "page:2", "tools_web")
    eventually(lambda: found("second"), 40, "Traefik serves the update", retry_on=(CommandFailed,))
    assert (container(manager, "shell"), container(manager, "proxy")) == before
