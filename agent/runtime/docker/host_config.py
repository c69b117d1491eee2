"""The `HostConfig` of a task's container: resources, rights, mounts, network, logs.

Pure: no I/O, no clock.
"""

import json
from typing import Any

import msgspec

from essaim.cluster.container import ContainerSpec, DNSConfig, DriverSpec, Mount, Privileges
from essaim.cluster.engine_options import EngineOptions
from essaim.cluster.service import ResourceRequirements, Resources, TaskSpec
from essaim.cluster.task import Task

ELSEWHERE = {"Domainname", "MacAddress", "Expose", "ContainerName", "PullPolicy", "NetworkMode", "SecurityOpt"}
"""EngineOptions that are no plain fields of HostConfig."""
NODE_NETWORKS = ("host", "none", "bridge")


def host_config(
    task: Task, spec: ContainerSpec, options: EngineOptions, mounts: list[Mount], bindings: dict[str, Any]
) -> dict[str, Any]:
    """Only what is set: the rest is the Engine's default."""
    config: dict[str, Any] = {
        **_resources(task.spec.resources),
        "Mounts": [msgspec.to_builtins(mount) for mount in mounts],
        "PortBindings": bindings,
        "GroupAdd": spec.groups,
        "ReadonlyRootfs": spec.read_only,
        "Init": spec.init,
        "Sysctls": spec.sysctls,
        "CapAdd": spec.capability_add,
        "CapDrop": spec.capability_drop,
        "Ulimits": _ulimits(spec),
        "OomScoreAdj": spec.oom_score_adj,
        "Isolation": "default",
        "ExtraHosts": [entry for line in spec.hosts or [] for entry in extra_hosts(line)],
        "LogConfig": _log_config(task.logging),
        "SecurityOpt": [*security_options(spec.privileges), *(options.security_opt or [])],
        "NetworkMode": network_mode(task.spec, options),
        **_dns(spec.dns_config),
    }
    config |= {key: value for key, value in msgspec.to_builtins(options).items() if key not in ELSEWHERE}
    return {key: value for key, value in config.items() if value not in (None, [], {}, "")}


def network_mode(task: TaskSpec, options: EngineOptions) -> str | None:
    """A network of the node itself, when one is asked for; swarm-scoped networks are not the Engine's business."""
    if options.network_mode:
        return options.network_mode
    return next((n.target for n in task.networks or [] if n.target in NODE_NETWORKS), None)


def _resources(resources: ResourceRequirements | None) -> dict[str, Any]:
    if resources is None:
        return {}
    limits = resources.limits or Resources()
    memory_swap = resources.swap_bytes
    if memory_swap is not None and memory_swap >= 0 and limits.memory_bytes:
        # A service says how much swap, the Engine counts memory and swap together; -1 is no limit for both.
        memory_swap += limits.memory_bytes
    return {
        "NanoCpus": limits.nano_cpus or None,
        "Memory": limits.memory_bytes or None,
        "PidsLimit": limits.pids or None,
        "MemorySwap": memory_swap,
        "MemorySwappiness": resources.memory_swappiness,
    }


def _ulimits(spec: ContainerSpec) -> list[dict[str, Any]]:
    return [{"Name": u.name, "Soft": u.soft or 0, "Hard": u.hard or 0} for u in spec.ulimits or []]


def extra_hosts(line: str) -> list[str]:
    """Swarm writes `ADDRESS NAME [ALIAS...]` as in /etc/hosts, the Engine wants `NAME:ADDRESS`."""
    address, *names = line.split()
    return [f"{name}:{address}" for name in names]


def _log_config(driver: DriverSpec | None) -> dict[str, Any] | None:
    """Options without a driver (`logging: {options: ...}`) are for the one that the Engine takes by default."""
    if driver is None or not (driver.name or driver.options):
        return None
    return {"Type": driver.name or "", "Config": driver.options or {}}


def _dns(config: DNSConfig | None) -> dict[str, Any]:
    if config is None:
        return {}
    return {"Dns": config.nameservers, "DnsSearch": config.search, "DnsOptions": config.options}


def security_options(privileges: Privileges | None) -> list[str]:
    """Privileges in the words of `--security-opt`."""
    if privileges is None:
        return []
    found: list[str] = []
    if privileges.no_new_privileges:
        found.append("no-new-privileges")
    if privileges.seccomp and privileges.seccomp.mode == "unconfined":
        found.append("seccomp=unconfined")
    elif privileges.seccomp and privileges.seccomp.mode == "custom" and privileges.seccomp.profile:
        # The Engine takes the profile itself here, in one line.
        found.append("seccomp=" + json.dumps(json.loads(privileges.seccomp.profile)))
    if privileges.apparmor and privileges.apparmor.mode == "disabled":
        found.append("apparmor=unconfined")
    selinux = privileges.selinux_context
    if selinux and selinux.disable:
        found.append("label=disable")
    elif selinux:
        parts = {"user": selinux.user, "role": selinux.role, "type": selinux.type, "level": selinux.level}
        found += [f"label={name}:{value}" for name, value in parts.items() if value]
    return found
