"""Containers compared field by field with those that a real swarm makes of the same service, and, for what Swarm
cannot do (EngineOptions), with those that `docker create` makes of the same flags."""

import asyncio
import json
import os
import re
from typing import Any

import msgspec
import pytest

from essaim.agent.runtime.docker.container_config import container_name
from essaim.agent.runtime.docker.runtime import DockerRuntime
from essaim.agent.runtime.interface import Work
from essaim.cluster.container import ContainerSpec, DriverSpec
from essaim.cluster.engine_options import DeviceMapping, EngineOptions
from essaim.cluster.service import PortConfig, TaskSpec
from tests.lab.host import Host
from tests.lab.images import busybox_image
from tests.lab.lab import Lab
from tests.lab.wait import eventually

from .doubles import LOG, MEMORY, NODE, make_task

pytestmark = [pytest.mark.lab, pytest.mark.timeout(120)]
LAB_HOSTS = 1

RAM = "volume-label=l=1,volume-driver=local,volume-opt=type=tmpfs,volume-opt=device=tmpfs,volume-opt=o=size=1m"
FLAGS = {
    "plain": ["box:1"],
    "command": ["box:1", "sleep", "1000"],
    "entrypoint": ["--entrypoint", "sleep", "box:1", "1000"],
    "environment": [
        "--env", "A=1", "--env", "SLOT={{.Task.Slot}}", "--env", "NAME={{.Service.Name}}",
        "--hostname", "h-{{.Task.Slot}}",
        "--user", "nobody", "--workdir", "/tmp", "--group", "777", "--container-label", "c=1", "box:1",
    ],
    "limits": [
        "--limit-cpu", "0.5", "--limit-memory", "64m", "--limit-pids", "50", "--reserve-memory", "16m",
        "--reserve-cpu", "0.1", "--ulimit", "nofile=100:200", "--init", "--stop-signal", "SIGINT",
        "--stop-grace-period", "3s", "--read-only", "--sysctl", "net.ipv4.ip_unprivileged_port_start=80", "box:1",
    ],
    "rights": ["--cap-add", "NET_ADMIN", "--cap-drop", "MKNOD", "--tty", "box:1"],
    "names": ["--host", "db:10.0.0.9", "--dns", "10.0.0.8", "--dns-search", "lan", "--dns-option", "ndots:2", "box:1"],
    "health": [
        "--health-cmd", "true", "--health-interval", "1s", "--health-timeout", "2s", "--health-retries", "4",
        "--health-start-period", "5s", "box:1",
    ],
    "mounts": [
        "--mount", "type=bind,source=/usr,target=/host,readonly",
        "--mount", "type=volume,source=data-{{.Task.Slot}},target=/data",
        "--mount", "type=tmpfs,target=/scratch,tmpfs-size=1m,tmpfs-mode=755",
        "--mount", "type=volume,target=/anonymous", "box:1",
    ],
    "drivers": [
        "--mount", f"type=volume,source=ram-{{{{.Task.Slot}}}},target=/ram,volume-nocopy,{RAM}",
        "--mount", "type=bind,source=/etc,target=/etc2,bind-propagation=rprivate,bind-nonrecursive",
        "--mount", "type=bind,source=/usr,target=/{{.Service.Name}}",
        "--log-driver", "none", "--label", "l=1", "--no-healthcheck", "box:1",
    ],
    "logs": ["--log-driver", "json-file", "--log-opt", "max-size=1m", "box:1"],
    "global": ["--mode", "global", "--env", "SLOT={{.Task.Slot}}", "box:1"],
    "published": ["--publish", "mode=host,published=8099,target=80", "box:1"],
}  # fmt: skip

OPTIONS: dict[str, tuple[list[str], EngineOptions]] = {
    "rights": (
        ["--privileged", "--security-opt", "label=disable", "--cgroupns", "private", "--runtime", "runc"],
        EngineOptions(privileged=True, security_opt=["label=disable"], cgroupns_mode="private", runtime="runc"),
    ),
    "namespaces": (
        ["--pid", "host", "--ipc", "host", "--uts", "host", "--userns", "host", "--network", "host"],
        EngineOptions(pid_mode="host", ipc_mode="host", uts_mode="host", userns_mode="host", network_mode="host"),
    ),
    "devices": (
        ["--device", "/dev/null:/dev/nothing:r", "--device-cgroup-rule", "c 1:3 mr", "--ipc", "shareable"],
        EngineOptions(
            devices=[DeviceMapping(path_on_host="/dev/null", path_in_container="/dev/nothing", cgroup_permissions="r")],
            device_cgroup_rules=["c 1:3 mr"],
            ipc_mode="shareable",
        ),
    ),
    "shares": (
        [
            "--cpu-shares",
            "512",
            "--cpuset-cpus",
            "0",
            "--cpu-period",
            "50000",
            "--cpu-quota",
            "25000",
            "--shm-size",
            "8m",
        ],
        EngineOptions(cpu_shares=512, cpuset_cpus="0", cpu_period=50000, cpu_quota=25000, shm_size=8 << 20),
    ),
    "network": (
        ["--domainname", "lan", "--expose", "9000-9001/udp", "--name", "mine"],
        EngineOptions(domainname="lan", expose=["9000-9001/udp"], container_name="mine"),
    ),
}

OF_ITS_OWN = {
    "Id", "Created", "State", "Name", "ResolvConfPath", "HostnamePath", "HostsPath", "LogPath", "GraphDriver",
    "NetworkSettings",
}  # fmt: skip
"""What two containers never share."""


def flat(value: Any, path: str = "") -> dict[str, Any]:
    if isinstance(value, dict):
        return {key: v for name, inner in value.items() for key, v in flat(inner, f"{path}.{name}").items()}
    if isinstance(value, list):
        return {path: json.dumps(sorted(value, key=str), sort_keys=True)} if value else {}
    return {path: value} if value not in (None, "", False, 0) else {}


def comparable(inspected: dict[str, Any]) -> dict[str, Any]:
    """Without what two containers never share, and with ids that differ replaced."""
    text = json.dumps({key: value for key, value in inspected.items() if key not in OF_ITS_OWN})
    labels = inspected["Config"]["Labels"]
    for label in ("task.id", "node.id", "service.id"):
        text = text.replace(labels[f"com.docker.swarm.{label}"], label)
    text = text.replace(inspected["Id"][:12], "container")
    return flat(json.loads(re.sub(r"[0-9a-f]{64}", "hash", text)))


def swarms_containers(host: Host) -> dict[str, tuple[Any, Any]]:
    """What a real swarm makes of each case: the service, and its container as inspected."""
    host.docker("swarm", "init", "--advertise-addr", host.address)
    for name, flags in FLAGS.items():
        host.docker("service", "create", "--detach", "--no-resolve-image", "--name", name, *flags)
    found = {}
    for name in FLAGS:
        container = eventually(lambda name=name: host.docker("ps", "-q", "--filter", f"name=^{name}\\."), 60, name)
        found[name] = (_json(host, "service", "inspect", name), _json(host, "inspect", container))
    host.docker("swarm", "leave", "--force")
    return found


def _json(host: Host, *words: str) -> Any:
    return json.loads(host.docker(*words))[0]


async def our_container(host: Host, runtime: DockerRuntime, service: Any) -> Any:
    """The container that the agent's runtime makes of a real swarm's service."""
    spec = msgspec.convert(service["Spec"]["TaskTemplate"], TaskSpec)
    ports = msgspec.convert(service["Endpoint"].get("Ports") or [], list[PortConfig])
    task = msgspec.structs.replace(make_task(spec=spec, ports=ports), service_name=service["Spec"]["Name"])
    if "Global" in service["Spec"]["Mode"]:
        task = msgspec.structs.replace(task, slot=None)
    await runtime.prepare(Work(task, NODE))
    await runtime.start("t1")
    found = await asyncio.to_thread(_json, host, "inspect", container_name(task))
    await runtime.remove("t1")
    return found


def differences(swarm: dict[str, Any], ours: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    left, right = comparable(swarm), comparable(ours)
    # The grace period is kept with the container, so that the agent knows it after a restart.
    return {
        key: (left.get(key), right.get(key))
        for key in left | right
        if left.get(key) != right.get(key) and key != ".Config.StopTimeout"
    }


def runtime_of(host: Host) -> DockerRuntime:
    return DockerRuntime(
        engine_url=host.engine_url,
        data_addr=host.address,
        environment=dict(os.environ),
        memory_dirs=[MEMORY],
        log=LOG,
    )


async def test_containers_are_what_swarm_makes_of_the_same_services(lab: Lab) -> None:
    host = lab.hosts[0]
    lab.load_image(busybox_image("box:1"))
    swarm = await asyncio.to_thread(swarms_containers, host)
    runtime = runtime_of(host)
    await runtime.recover(NODE.id)
    differing = {}
    for name, (service, container) in swarm.items():
        differing[name] = differences(container, await our_container(host, runtime, service))
    await runtime.close()
    assert {name: found for name, found in differing.items() if found} == {}


async def test_log_options_without_a_driver_are_those_of_the_engines_own_driver(lab: Lab) -> None:
    host = lab.hosts[0]
    lab.load_image(busybox_image("box:1"))
    theirs = _json(host, "inspect", host.docker("create", "--log-opt", "max-size=1m", "box:1"))
    runtime = runtime_of(host)
    await runtime.recover(NODE.id)
    container = ContainerSpec(image="box:1")
    spec = TaskSpec(container_spec=container, log_driver=DriverSpec(options={"max-size": "1m"}))
    await runtime.prepare(Work(make_task(spec=spec), NODE))
    ours = _json(host, "inspect", "web.1.t1")
    await runtime.remove("t1")
    await runtime.close()
    assert ours["HostConfig"]["LogConfig"] == theirs["HostConfig"]["LogConfig"]
    assert theirs["HostConfig"]["LogConfig"]["Config"] == {"max-size": "1m"}


NEVER_ALIKE = (
    ".Config.Labels", ".Config.Attach", ".Config.StopTimeout", ".Config.Hostname",
    ".HostConfig.ConsoleSize", ".HostConfig.Isolation", ".HostConfig.RestartPolicy",
)  # fmt: skip
"""What the docker command sets of itself, and what every task has."""


async def test_engine_options_are_what_docker_create_makes_of_the_same_flags(lab: Lab) -> None:
    host = lab.hosts[0]
    lab.load_image(busybox_image("box:1"))
    runtime = runtime_of(host)
    await runtime.recover(NODE.id)
    differing = {}
    for name, (flags, options) in OPTIONS.items():
        theirs = _json(host, "inspect", host.docker("create", *flags, "box:1"))
        host.docker("rm", theirs["Id"])
        task = make_task(spec=TaskSpec(container_spec=ContainerSpec(image="box:1", engine_options=options)))
        await runtime.prepare(Work(task, NODE))
        if not options.privileged:
            # A machine that is a container itself may not have all the rights to give.
            await runtime.start("t1")
        ours = _json(host, "inspect", options.container_name or "web.1.t1")
        await runtime.remove("t1")
        differing[name] = differing_fields(theirs, ours)
    await runtime.close()
    assert {name: found for name, found in differing.items() if found} == {}


def without_labels(inspected: dict[str, Any]) -> dict[str, Any]:
    kept = {key: value for key, value in inspected.items() if key not in OF_ITS_OWN}
    return {key: value for key, value in flat(kept).items() if not key.startswith(NEVER_ALIKE)}


def differing_fields(theirs: dict[str, Any], ours: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    left, right = without_labels(theirs), without_labels(ours)
    return {key: (left.get(key), right.get(key)) for key in left | right if left.get(key) != right.get(key)}
