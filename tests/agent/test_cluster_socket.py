"""Which mounts of a task's container show the cluster's socket instead of the Engine's."""

from typing import Any

import pytest

from essaim.agent.runtime.docker.cluster_socket import USUAL, with_cluster_socket

OURS = "/run/essaim/docker.sock"


def changed(mount: dict[str, Any]) -> dict[str, Any]:
    body = {"Image": "portainer", "HostConfig": {"Mounts": [mount], "Init": True}}
    found = with_cluster_socket(body, USUAL | {"/srv/docker.sock"}, OURS)
    assert found["Image"] == "portainer"
    assert found["HostConfig"]["Init"] is True
    assert body["HostConfig"] == {"Mounts": [mount], "Init": True}  # the specification is not touched
    return dict(found["HostConfig"]["Mounts"][0])


@pytest.mark.parametrize(
    "source",
    ["/var/run/docker.sock", "/run/docker.sock", "/run//docker.sock", "/var/run/./docker.sock", "/srv/docker.sock"],
)
def test_mount_of_the_engines_socket_shows_the_clusters(source: str) -> None:
    mount = {"Type": "bind", "Source": source, "Target": "/var/run/docker.sock", "ReadOnly": True}
    assert changed(mount) == {**mount, "Source": OURS}


@pytest.mark.parametrize(
    "mount",
    [
        {"Type": "bind", "Source": "/var/run", "Target": "/host"},
        {"Type": "bind", "Source": "/data/docker.sock", "Target": "/var/run/docker.sock"},
        {"Type": "volume", "Source": "/var/run/docker.sock", "Target": "/x"},
        {"Type": "tmpfs", "Target": "/var/run/docker.sock"},
        {"Type": "bind", "Source": None, "Target": "/x"},
    ],
)
def test_other_mounts_stay(mount: dict[str, Any]) -> None:
    assert changed(mount) == mount


def test_container_without_mounts_stays() -> None:
    assert with_cluster_socket({"Image": "a"}, USUAL, OURS)["HostConfig"]["Mounts"] == []
