"""What of a task's specification a plain process cannot have: named on the task, so that nothing is dropped in silence.

What a process has anyway is no loss and not named: the host's network, process, IPC, user and cgroup namespaces when
they are asked for, its supervisor as `init`, names and labels that only tools look at.

Pure: no I/O, no clock.
"""

from collections.abc import Callable, Iterator
from typing import Any

from essaim.cluster.container import ContainerSpec, Mount
from essaim.cluster.engine_options import EngineOptions, engine_name
from essaim.cluster.service import ResourceRequirements, Resources
from essaim.cluster.task import Task

Test = Callable[[Any], bool]

CONTAINER: dict[str, str] = {
    "hostname": "Hostname", "tty": "TTY", "open_stdin": "OpenStdin", "read_only": "ReadOnly", "hosts": "Hosts",
    "dns_config": "DNSConfig", "sysctls": "Sysctls", "capability_add": "CapabilityAdd",
    "capability_drop": "CapabilityDrop",
}  # fmt: skip
"""Fields of ContainerSpec, with their names in the Engine API."""


def is_of_its_own(mode: Any) -> bool:
    """Does it ask for a namespace of the task's own?"""
    return bool(mode != "host")


OPTIONS: dict[str, Test] = {
    "network_mode": is_of_its_own, "pid_mode": is_of_its_own, "uts_mode": is_of_its_own,
    "userns_mode": is_of_its_own, "cgroupns_mode": is_of_its_own,
    "ipc_mode": lambda mode: mode not in ("host", "shareable"),
    "security_opt": lambda options: any(not is_no_new_privileges(option) for option in options),
}  # fmt: skip
"""EngineOptions that are named only for some values; the others are named whenever they are given."""
NO_LOSS = frozenset({"annotations", "container_name", "cpuset_cpus", "expose", "pull_policy"})
"""EngineOptions that are carried out, or that ask nothing of a process."""
LOG_DRIVERS = (None, "", "json-file", "local", "none")


def is_no_new_privileges(option: str) -> bool:
    return option in ("no-new-privileges", "no-new-privileges:true", "no-new-privileges=true")


def ignored(task: Task) -> list[str]:
    """The keys that have no meaning for a plain process, named as in the Engine API."""
    spec = task.spec.container_spec or ContainerSpec()
    names = [key for attribute, key in CONTAINER.items() if getattr(spec, attribute)]
    names += _privileges(spec)
    names += [f"Mounts[{m.target}]" for m in spec.mounts or [] if not _is_there_already(m)]
    names += _options(spec.engine_options or EngineOptions())
    names += _resources(task.spec.resources or ResourceRequirements())
    driver = task.logging
    if driver is not None and driver.name not in LOG_DRIVERS:
        names.append(f"LogDriver[{driver.name}]")
    if task.networks_attachments:
        names.append("Networks")
    return names


def _privileges(spec: ContainerSpec) -> Iterator[str]:
    own = spec.privileges
    for attribute, key in (
        ("credential_spec", "CredentialSpec"), ("selinux_context", "SELinuxContext"), ("seccomp", "Seccomp"),
        ("apparmor", "AppArmor"),
    ):  # fmt: skip
        if own is not None and getattr(own, attribute):
            yield f"Privileges.{key}"


def _is_there_already(mount: Mount) -> bool:
    """A bind to the same path needs nothing done."""
    return mount.type == "bind" and mount.source == mount.target and not mount.read_only


def _options(options: EngineOptions) -> Iterator[str]:
    for attribute in options.__struct_fields__:
        value = getattr(options, attribute)
        if attribute in NO_LOSS or value in (None, False, [], {}, ""):
            continue
        if OPTIONS.get(attribute, bool)(value):
            yield engine_name(attribute)


def _resources(resources: ResourceRequirements) -> Iterator[str]:
    limits = resources.limits or Resources()
    if limits.nano_cpus:
        yield "Resources.Limits.NanoCPUs"
    if limits.pids:
        yield "Resources.Limits.Pids"
    if resources.swap_bytes is not None:
        yield "Resources.SwapBytes"
    if resources.memory_swappiness is not None:
        yield "Resources.MemorySwappiness"
