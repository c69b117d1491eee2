"""Images from a private registry through the whole cluster: credentials handed on, digests pinned at deploy."""

import json
import sys
from collections.abc import Iterator

import pytest

from tests.lab.cluster import Cluster
from tests.lab.images import busybox_image
from tests.lab.lab import Lab
from tests.lab.private_registry import AUTH, DEAF, REGISTRY, push, start_registries
from tests.lab.wait import eventually

pytestmark = [pytest.mark.lab, pytest.mark.timeout(180)]
LAB_HOSTS = 1
IMAGE = f"{REGISTRY}/app:1"
STACK = f"""
services:
  app:
    image: {IMAGE}
    stop_grace_period: 1s
"""


@pytest.fixture
def cluster(lab: Lab) -> Iterator[Cluster]:
    lab.load_image(busybox_image("box:1"))
    lab.load_image(busybox_image("box:2", ["sleep", "99999"]))
    start_registries(lab.hosts[0])
    with Cluster(lab, managers=1) as made:
        yield made


def deploy(cluster: Cluster, *flags: str) -> None:
    cluster.essaim("stack", "deploy", "--detach=true", *flags, "-c", "-", "s", text=STACK)


def image_of(cluster: Cluster) -> str:
    return cluster.essaim("service", "inspect", "s_app", "--format", "{{.Spec.TaskTemplate.ContainerSpec.Image}}")


def test_digest_is_pinned_at_deploy_and_moved_by_policy(cluster: Cluster) -> None:
    first = push(cluster.first, "app:1")
    digest = first.partition("@")[2]
    deploy(cluster, "--with-registry-auth")
    assert image_of(cluster) == f"{IMAGE}@{digest}"
    (task,) = cluster.wait_running("s_app", 1)

    # The tag moves. An unchanged image is not asked for again, unless always.
    second = push(cluster.first, "app:1", "box:2").partition("@")[2]
    assert second != digest
    deploy(cluster, "--with-registry-auth", "--resolve-image", "changed")
    assert image_of(cluster) == f"{IMAGE}@{digest}"
    assert [t["ID"] for t in cluster.wait_running("s_app", 1)] == [task["ID"]]
    deploy(cluster, "--with-registry-auth", "--resolve-image", "always")
    assert image_of(cluster) == f"{IMAGE}@{second}"
    cluster.wait_running("s_app", 1)


def test_deploy_without_credentials_warns_and_the_task_says_why(cluster: Cluster) -> None:
    push(cluster.first, "app:1")
    cluster.first.docker("logout", REGISTRY)
    done = cluster.run("service", "create", "--detach", "--restart-condition", "none", "--name", "x", IMAGE)
    assert "could not be accessed on a registry" in done.stderr
    (failed,) = cluster.wait_state("x", "Rejected")
    assert "No such image" in failed["Error"]


OLD_CLIENT = """
import http.client, json, socket, sys
def call(method, path, body=None):
    one = http.client.HTTPConnection("d")
    one.sock = socket.socket(socket.AF_UNIX)
    one.sock.connect("/run/essaim/essaim.sock")
    headers = {"Content-Type": "application/json", "X-Registry-Auth": sys.argv[3]}
    one.request(method, path, json.dumps(body) if body else None, headers)
    return json.loads(one.getresponse().read())
found = call("GET", "/v1.29/services/app")
spec = found["Spec"]
spec["TaskTemplate"]["ContainerSpec"]["Image"] = sys.argv[2]
spec["TaskTemplate"]["ForceUpdate"] = spec["TaskTemplate"].get("ForceUpdate", 0) + 1
call("POST", f"/v{sys.argv[1]}/services/app/update?version={found['Version']['Index']}", spec)
"""


def test_tag_that_moved_is_run_for_clients_that_do_not_pin(cluster: Cluster) -> None:
    """Portainer posts a tag with API 1.29 and leaves its digest to the manager; docker-py does not, and nodes pull."""
    host = cluster.first
    push(host, "app:1")
    cluster.essaim(
        "service", "create", "-d", "--no-resolve-image", "--with-registry-auth", "--stop-grace-period", "1s", "--name",
        "app", IMAGE,
    )  # fmt: skip
    cluster.wait_running("app", 1)
    for version, pushed in (("1.29", "box:2"), ("1.41", "box:1")):
        digest = push(host, "app:1", pushed).partition("@")[2]
        # The node has the other build under the tag, as one that has pulled before.
        host.docker("tag", "box:1" if pushed == "box:2" else "box:2", IMAGE)
        wanted = json.loads(host.docker("inspect", pushed))[0]["Id"]
        host.run([sys.executable, "-c", OLD_CLIENT, version, IMAGE, AUTH])

        def runs_what_was_pushed(wanted: str = wanted) -> bool:
            names = host.docker("ps", "-q", "--no-trunc").split()
            return [json.loads(host.docker("inspect", name))[0]["Image"] for name in names] == [wanted]

        eventually(runs_what_was_pushed, 40, f"the build that was pushed runs, for API {version}")
        image = cluster.essaim("service", "inspect", "app", "--format", "{{.Spec.TaskTemplate.ContainerSpec.Image}}")
        assert image == (f"{IMAGE}@{digest}" if version == "1.29" else IMAGE)


SLOW_STACK = f"""
services:
  slow: {{image: "{DEAF}/slow:1"}}
  never: {{image: "{REGISTRY}/elsewhere:1", pull_policy: never, restart: "no"}}
  app: {{image: "{IMAGE}", pull_policy: always, stop_grace_period: 1s}}
"""


def test_registry_that_does_not_answer_holds_up_nothing_else_and_pull_policies_count(cluster: Cluster) -> None:
    push(cluster.first, "app:1")
    flags = ("--detach=true", "--with-registry-auth", "--resolve-image", "never")
    cluster.essaim("stack", "deploy", *flags, "-c", "-", "s", text=SLOW_STACK)
    cluster.wait_running("s_app", 1)
    assert image_of(cluster) == IMAGE
    (refused,) = cluster.wait_state("s_never", "Rejected")
    assert "its pull policy is never" in refused["Error"]
    said = "waiting for its registry"
    eventually(lambda: any(said in text for text in messages_of(cluster, "s_slow")), 30, "progress is shown")


def messages_of(cluster: Cluster, service: str) -> list[str]:
    """What the tasks of a service say of themselves."""
    found = []
    for task in cluster.tasks(service, running=False):
        call = ["curl", "-s", "--unix-socket", "/run/essaim/essaim.sock", f"http://d/tasks/{task['ID']}"]
        found.append(str(json.loads(cluster.first.run(call).stdout)["Status"]["Message"]))
    return found
