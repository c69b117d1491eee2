"""Tasks that mount the Engine's socket get the cluster's API instead, which is what a stack written for Swarm expects
there: services, nodes and tasks beside containers and images.

Pure: a container's description in, another one out.
"""

import posixpath
from collections.abc import Collection
from typing import Any

USUAL = frozenset({"/var/run/docker.sock", "/run/docker.sock"})


def with_cluster_socket(body: dict[str, Any], sockets: Collection[str], replacement: str) -> dict[str, Any]:
    """The body of `POST /containers/create`, in which bind mounts of `sockets` show `replacement` instead."""
    config = body.get("HostConfig", {})
    mounts = [
        {**mount, "Source": replacement}
        if mount.get("Type") == "bind" and posixpath.normpath(mount.get("Source") or "") in sockets
        else mount
        for mount in config.get("Mounts", [])
    ]
    return {**body, "HostConfig": {**config, "Mounts": mounts}}
