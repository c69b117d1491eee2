"""What an Engine lacks: fields of the create call by the API version that brought them, and what only Windows has.

An Engine ignores what it does not know. Where that only loses comfort the field is left out and named on the task;
where it would change what a task can see or reach, the task is rejected.

Pure: no I/O, no clock.
"""

from typing import Any

from essaim.agent.runtime.interface import Rejected
from essaim.cluster.container import ContainerSpec

from .engine import Version

COMFORT: dict[tuple[str, ...], Version] = {
    ("Healthcheck", "StartInterval"): (1, 44),
    ("HostConfig", "Annotations"): (1, 43),
}
ESSENTIAL: dict[tuple[str, ...], Version] = {
    ("HostConfig", "DeviceRequests"): (1, 40),
    ("HostConfig", "CgroupnsMode"): (1, 41),
}
ESSENTIAL_IN_MOUNTS: dict[tuple[str, ...], Version] = {
    ("BindOptions", "NonRecursive"): (1, 40),
    ("BindOptions", "CreateMountpoint"): (1, 42),
    ("BindOptions", "ReadOnlyNonRecursive"): (1, 44),
    ("BindOptions", "ReadOnlyForceRecursive"): (1, 44),
    ("VolumeOptions", "Subpath"): (1, 45),
    ("ImageOptions",): (1, 48),
    ("TmpfsOptions", "Options"): (1, 46),
}

MOUNT_TYPES: dict[str, Version] = {"cluster": (1, 42), "image": (1, 48)}


def fit(body: dict[str, Any], version: Version) -> list[str]:
    """Take out of a create call what the Engine is too old for; what was taken out, for the user. Raises Rejected."""
    for path, since in ESSENTIAL.items():
        if version < since and _find(body, path):
            raise Rejected(_too_old(".".join(path), since, version))
    for mount in body.get("HostConfig", {}).get("Mounts", []):
        since = MOUNT_TYPES.get(mount.get("Type") or "", (0, 0))
        if version < since:
            raise Rejected(_too_old(f"Mounts[{mount.get('Target')}] of type {mount['Type']}", since, version))
        for path, since in ESSENTIAL_IN_MOUNTS.items():
            if version < since and _find(mount, path):
                raise Rejected(_too_old(f"Mounts[{mount.get('Target')}]." + ".".join(path), since, version))
    left_out = []
    for path, since in COMFORT.items():
        if version < since and _find(body, path) is not None:
            _find(body, path[:-1]).pop(path[-1])
            left_out.append(_too_old(".".join(path), since, version))
    return left_out


def _find(inside: Any, path: tuple[str, ...]) -> Any:
    for name in path:
        inside = inside.get(name) if isinstance(inside, dict) else None
    return inside


def _too_old(field: str, since: Version, version: Version) -> str:
    return f"{field} needs a Docker Engine with API {_shown(since)} or newer, this node's has {_shown(version)}"


def _shown(version: Version) -> str:
    return f"{version[0]}.{version[1]}"


def only_windows(spec: ContainerSpec) -> list[str]:
    """What the specification asks for and only Windows has, for the user."""
    found = []
    if spec.isolation not in (None, "", "default"):
        found.append("Isolation is for Windows")
    if spec.privileges and spec.privileges.credential_spec:
        found.append("Privileges.CredentialSpec is for Windows")
    return found
