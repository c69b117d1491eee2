"""API versions: which are spoken, and from which version on each newer field is sent.

A field that the client's version does not know is left out of replies. The table names the first version that has the
field (source: the Engine API's own version history); paths are Docker's keys, lists are passed through.

Pure: data and functions on it.
"""

import functools
from typing import Any

from essaim.cluster.errors import InvalidArgument
from essaim.cluster.numerals import whole

Version = tuple[int, int]

OLDEST: Version = (1, 24)
NEWEST: Version = (1, 56)


def text(version: Version) -> str:
    return f"{version[0]}.{version[1]}"


def parse(wanted: str) -> Version:
    """The client's version. Raises InvalidArgument in an Engine's words when it is too old or too new."""
    major, minor = (whole(part, 6) for part in wanted.partition(".")[::2])
    if major is None or minor is None or len(wanted) > 8:
        raise InvalidArgument(f"invalid API version {wanted[:20]!r}")
    version = (major, minor)
    if version < OLDEST:
        raise InvalidArgument(
            f"client version {wanted} is too old. Minimum supported API version is {text(OLDEST)}, please upgrade your "
            "client to a newer version"
        )
    if version > NEWEST:
        raise InvalidArgument(f"client version {wanted} is too new. Maximum supported API version is {text(NEWEST)}")
    return version


_SPEC: dict[str, Version] = {
    "TaskTemplate.Runtime": (1, 25),
    "TaskTemplate.PluginSpec": (1, 30),
    "TaskTemplate.Placement.Preferences": (1, 27),
    "TaskTemplate.Placement.Platforms": (1, 30),
    "TaskTemplate.Placement.MaxReplicas": (1, 40),
    "TaskTemplate.Resources.Limits.Pids": (1, 41),
    "TaskTemplate.Resources.Reservations.GenericResources": (1, 32),
    "TaskTemplate.Resources.SwapBytes": (1, 52),
    "TaskTemplate.Resources.MemorySwappiness": (1, 52),
    "TaskTemplate.ContainerSpec.Hostname": (1, 25),
    "TaskTemplate.ContainerSpec.Healthcheck": (1, 25),
    "TaskTemplate.ContainerSpec.Healthcheck.StartInterval": (1, 44),
    "TaskTemplate.ContainerSpec.Mounts.BindOptions.NonRecursive": (1, 40),
    "TaskTemplate.ContainerSpec.Mounts.BindOptions.CreateMountpoint": (1, 42),
    "TaskTemplate.ContainerSpec.Mounts.BindOptions.ReadOnlyNonRecursive": (1, 44),
    "TaskTemplate.ContainerSpec.Mounts.BindOptions.ReadOnlyForceRecursive": (1, 44),
    "TaskTemplate.ContainerSpec.Mounts.VolumeOptions.Subpath": (1, 45),
    "TaskTemplate.ContainerSpec.Mounts.TmpfsOptions.Options": (1, 46),
    "TaskTemplate.ContainerSpec.Mounts.ImageOptions": (1, 48),
    "TaskTemplate.ContainerSpec.Hosts": (1, 25),
    "TaskTemplate.ContainerSpec.DNSConfig": (1, 25),
    "TaskTemplate.ContainerSpec.Secrets": (1, 25),
    "TaskTemplate.ContainerSpec.Configs": (1, 30),
    "TaskTemplate.ContainerSpec.StopSignal": (1, 28),
    "TaskTemplate.ContainerSpec.ReadOnly": (1, 28),
    "TaskTemplate.ContainerSpec.Privileges": (1, 29),
    "TaskTemplate.ContainerSpec.Isolation": (1, 35),
    "TaskTemplate.ContainerSpec.Init": (1, 37),
    "TaskTemplate.ContainerSpec.Sysctls": (1, 40),
    "TaskTemplate.ContainerSpec.CapabilityAdd": (1, 41),
    "TaskTemplate.ContainerSpec.CapabilityDrop": (1, 41),
    "TaskTemplate.ContainerSpec.Ulimits": (1, 41),
    "TaskTemplate.ContainerSpec.OomScoreAdj": (1, 46),
    "Mode.ReplicatedJob": (1, 41),
    "Mode.GlobalJob": (1, 41),
    "UpdateConfig.MaxFailureRatio": (1, 25),
    "UpdateConfig.Monitor": (1, 25),
    "UpdateConfig.Order": (1, 29),
    "RollbackConfig": (1, 28),
    "EndpointSpec.Ports.PublishMode": (1, 25),
}

FIELDS: dict[str, dict[str, Version]] = {
    "service": {
        **{f"Spec.{path}": since for path, since in _SPEC.items()},
        **{f"PreviousSpec.{path}": since for path, since in _SPEC.items()},
        "ServiceStatus": (1, 41),
        "JobStatus": (1, 41),
    },
    "task": {
        **{
            f"Spec.{path.removeprefix('TaskTemplate.')}": since
            for path, since in _SPEC.items()
            if path.startswith("TaskTemplate.")
        },
        "JobIteration": (1, 41),
        "Status.PortStatus": (1, 25),
    },
    "node": {"Description.TLSInfo": (1, 30)},
    "secret": {"Spec.Driver": (1, 31), "Spec.Templating": (1, 37)},
    "config": {"Spec.Templating": (1, 37)},
    "network": {"ConfigOnly": (1, 30), "ConfigFrom": (1, 30), "Ingress": (1, 29), "EnableIPv4": (1, 48)},
    "swarm": {
        "TLSInfo": (1, 30),
        "RootRotationInProgress": (1, 30),
        "DefaultAddrPool": (1, 39),
        "SubnetSize": (1, 39),
        "DataPathPort": (1, 40),
    },
}
"""Noun -> path of a field -> the first version that has it."""

_LAST_CHANGE = {noun: max(fields.values()) for noun, fields in FIELDS.items()}


def knows_all(noun: str, version: Version) -> bool:
    """Nothing has to be left out for this client."""
    return version >= _LAST_CHANGE.get(noun, OLDEST)


@functools.cache
def newer(noun: str, version: Version) -> tuple[bytes, ...]:
    """The last names of the fields that this client does not know: what holds none of these words needs no trimming.
    (Without JSON's quotes, which are too common for a quick search.)"""
    fields = FIELDS.get(noun, {})
    return tuple({path.rpartition(".")[2].encode() for path, since in fields.items() if version < since})


def trim(noun: str, value: Any, version: Version) -> None:
    """Take the fields that are newer than `version` out of a JSON object (in place)."""
    for path, since in FIELDS.get(noun, {}).items():
        if version < since:
            _remove(value, path.split("."))


def _remove(value: Any, path: list[str]) -> None:
    if isinstance(value, list):
        for item in value:
            _remove(item, path)
    elif isinstance(value, dict):
        if len(path) == 1:
            value.pop(path[0], None)
        elif path[0] in value:
            _remove(value[path[0]], path[1:])
