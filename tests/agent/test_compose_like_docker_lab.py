"""One Compose file with everything that an Engine can do, started for real by the agent, and compared field by field
(`docker inspect`) with containers that `docker run` makes of the same options."""

import asyncio
import json
import os
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from essaim.agent.runtime.docker.runtime import DockerRuntime
from essaim.agent.runtime.interface import Rejected, StartFailed, Work
from essaim.cluster.service import ServiceSpec, TaskSpec
from essaim.stacks.convert.convert import convert
from essaim.stacks.read.load import Source, load
from tests.lab.commands import CommandFailed
from tests.lab.host import Host
from tests.lab.images import busybox_image
from tests.lab.lab import Lab

from .doubles import LOG, MEMORY, NODE, make_task
from .test_docker_like_swarm import _json, differing_fields

pytestmark = [pytest.mark.lab, pytest.mark.timeout(120)]
LAB_HOSTS = 1

COMPOSE = """
services:
  privileged: {image: "box:1", privileged: true, runtime: runc}
  devices:
    image: box:1
    devices: ["/dev/null:/dev/nothing:r", /dev/zero]
    device_cgroup_rules: ["c 1:3 mr"]
    group_add: ["777", "888"]
    ipc: shareable
  rights:
    image: box:1
    cap_add: [NET_ADMIN, SYS_TIME]
    cap_drop: [MKNOD]
    security_opt: [no-new-privileges:true, label=disable, "seccomp:./seccomp.json"]
    user: "1:1"
    read_only: true
    userns_mode: host
    init: true
    stop_signal: SIGINT
    tmpfs: ["/run:size=1m,mode=755"]
  limits:
    image: box:1
    ulimits: {nofile: {soft: 100, hard: 200}, nproc: 500}
    sysctls: {net.core.somaxconn: 64, kernel.msgmax: 65536}
    shm_size: 8m
    mem_limit: 64m
    memswap_limit: 96m
    mem_swappiness: 10
    pids_limit: 50
    cpu_shares: 512
    cpuset: "0"
    cpus: "0.5"
    oom_score_adj: 100
    oom_kill_disable: true
    cgroup_parent: /essaim-test
  quota: {image: "box:1", cpu_period: 50ms, cpu_quota: 25000}
  names:
    image: box:1
    container_name: of-its-own
    hostname: name
    domainname: lan
    dns: [10.0.0.8, 10.0.0.9]
    dns_search: [lan, wan]
    dns_opt: ["ndots:2"]
    extra_hosts: ["db:10.0.0.7", "six=::1"]
    expose: ["9000-9001/udp", "80"]
    mac_address: 02:42:ac:11:00:99
    stdin_open: true
    tty: true
    working_dir: /tmp
    environment: {A: "1", B: "two words"}
  host: {image: "box:1", network_mode: host, pid: host, ipc: host, uts: host, cgroup: host}
  alone: {image: "box:1", network_mode: none, cgroupns_mode: private, ipc: private}
  mounts:
    image: box:1
    volumes:
      - /usr:/host:ro
      - {type: bind, source: /etc, target: /etc2, read_only: true, bind: {propagation: rprivate}}
      - data:/data
      - {type: volume, source: plain, target: /plain, volume: {nocopy: true, labels: {a: b}}}
      - {type: tmpfs, target: /scratch, tmpfs: {size: 1m, mode: 0755}}
      - /anonymous
  logs:
    image: box:1
    logging: {driver: json-file, options: {max-size: 1m, max-file: "2", tag: "{{.Name}}", labels: a}}
    healthcheck: {test: "true", interval: 5s, timeout: 2s, retries: 4, start_period: 3s}
    command: [sleep, "1000"]
    entrypoint: [busybox]
  silent: {image: "box:1", logging: {driver: none}, healthcheck: {disable: true}}
  gpus: {image: "box:1", gpus: all}
  some_gpus:
    image: box:1
    deploy:
      resources:
        reservations:
          devices: [{driver: nvidia, device_ids: ["0", "1"], capabilities: [utility, gpu], options: {a: b}}]
  storage: {image: "box:1", storage_opt: {size: 1G}}
volumes:
  data: {driver: local, driver_opts: {type: tmpfs, device: tmpfs, o: "size=1m"}, labels: {c: d}}
  plain: {}
"""
OF_STACK = "volume-label=com.docker.stack.namespace=ns"
DRIVER = "volume-driver=local,volume-opt=type=tmpfs,volume-opt=device=tmpfs,volume-opt=o=size=1m"
FLAGS: dict[str, list[str]] = {
    "privileged": ["--privileged", "--runtime", "runc"],
    "devices": [
        "--device", "/dev/null:/dev/nothing:r", "--device", "/dev/zero", "--device-cgroup-rule", "c 1:3 mr",
        "--group-add", "777", "--group-add", "888", "--ipc", "shareable",
    ],
    "rights": [
        "--cap-add", "NET_ADMIN", "--cap-add", "SYS_TIME", "--cap-drop", "MKNOD",
        "--security-opt", "no-new-privileges:true", "--security-opt", "label=disable",
        "--security-opt", "seccomp=SECCOMP", "--user", "1:1", "--read-only", "--userns", "host", "--init",
        "--stop-signal", "SIGINT", "--mount", "type=tmpfs,target=/run,tmpfs-size=1m,tmpfs-mode=755",
    ],
    "limits": [
        "--ulimit", "nofile=100:200", "--ulimit", "nproc=500", "--sysctl", "net.core.somaxconn=64",
        "--sysctl", "kernel.msgmax=65536", "--shm-size", "8m", "--memory", "64m", "--memory-swap", "96m",
        "--memory-swappiness", "10", "--pids-limit", "50", "--cpu-shares", "512", "--cpuset-cpus", "0", "--cpus", "0.5",
        "--oom-score-adj", "100", "--oom-kill-disable", "--cgroup-parent", "/essaim-test",
    ],
    "quota": ["--cpu-period", "50000", "--cpu-quota", "25000"],
    "names": [
        "--hostname", "name", "--domainname", "lan", "--dns", "10.0.0.8", "--dns", "10.0.0.9",
        "--dns-search", "lan", "--dns-search", "wan", "--dns-opt", "ndots:2", "--add-host", "db:10.0.0.7",
        "--add-host", "six:::1", "--expose", "9000-9001/udp", "--expose", "80",
        "--interactive", "--tty", "--workdir", "/tmp", "--env", "A=1", "--env", "B=two words",
    ],
    "host": ["--network", "host", "--pid", "host", "--ipc", "host", "--uts", "host", "--cgroupns", "host"],
    "alone": ["--network", "none", "--cgroupns", "private", "--ipc", "private"],
    "mounts": [
        "--mount", "type=bind,source=/usr,target=/host,readonly",
        "--mount", "type=bind,source=/etc,target=/etc2,readonly,bind-propagation=rprivate",
        "--mount", f"type=volume,source=ns_data,target=/data,{DRIVER},volume-label=c=d,{OF_STACK}",
        "--mount", f"type=volume,source=ns_plain,target=/plain,volume-nocopy,volume-label=a=b,{OF_STACK}",
        "--mount", "type=tmpfs,target=/scratch,tmpfs-size=1m,tmpfs-mode=755",
        "--mount", "type=volume,target=/anonymous",
    ],
    "logs": [
        "--log-driver", "json-file", "--log-opt", "max-size=1m", "--log-opt", "max-file=2",
        "--log-opt", "tag={{.Name}}", "--log-opt", "labels=a",
        "--health-cmd", "true", "--health-interval", "5s", "--health-timeout", "2s",
        "--health-retries", "4", "--health-start-period", "3s", "--entrypoint", "busybox",
    ],
    "silent": ["--log-driver", "none", "--no-healthcheck"],
    "gpus": ["--gpus", "all"],
    "some_gpus": ["--gpus", 'driver=nvidia,"device=0,1",capabilities=utility,options=a=b'],
    "storage": ["--storage-opt", "size=1G"],
}  # fmt: skip
ARGUMENTS = {"logs": ["sleep", "1000"]}
NOT_HERE = {
    "privileged": "unable to apply caps",
    "gpus": "could not select device driver",
    "some_gpus": "could not select device driver",
    "storage": "storage-opt",
}
"""What a machine without GPUs, project quotas or all rights cannot start, and how its Engine says so. There both must
be refused, and the containers are compared as far as they come; on a machine that can, both must run."""


def tasks_of(folder: Path) -> dict[str, ServiceSpec]:
    """The services as a deploy would send them."""
    (folder / "seccomp.json").write_text('{"defaultAction": "SCMP_ACT_ALLOW"}')
    stack = convert(load([Source("stack.yml", COMPOSE)], {}, folder), "ns")
    assert stack.warnings == []
    return {(spec.name or "").removeprefix("ns_"): spec for spec in stack.services}


def dockers(host: Host, name: str, folder: Path) -> tuple[Any, str]:
    """The container that `docker` makes of the flags, as far as it comes, and what it said."""
    flags = [flag.replace("SECCOMP", str(folder / "seccomp.json")) for flag in FLAGS[name]]
    try:
        container = host.docker("create", *flags, "box:1", *ARGUMENTS.get(name, []))
    except CommandFailed as error:
        return None, str(error)
    said = ""
    try:
        host.docker("start", container)
    except CommandFailed as error:
        said = str(error)
    found = _json(host, "inspect", container)
    host.docker("rm", "--force", "--volumes", container)
    return found, said


async def ours(host: Host, runtime: DockerRuntime, name: str, spec: ServiceSpec) -> tuple[Any, str]:
    task = make_task(name, spec=spec.task_template or TaskSpec())
    task = msgspec.structs.replace(task, service_name=spec.name)
    said = ""
    try:
        left_out = await runtime.prepare(Work(task, NODE))
        assert left_out == []
        await runtime.start(name)
    except Rejected as error:
        return None, str(error)
    except StartFailed as error:
        said = str(error)
    container = "of-its-own" if name == "names" else f"ns_{name}.1.{name}"
    found = await asyncio.to_thread(_json, host, "inspect", container)
    await runtime.remove(name)
    return found, said


def alike(inspected: Any) -> Any:
    """Without names that the Engine makes up, and without what is empty."""
    text = re.sub(r"[0-9a-f]{64}", "hash", json.dumps(inspected))
    return json.loads(
        text, object_hook=lambda found: {key: value for key, value in found.items() if value not in ({}, None)}
    )


@pytest.fixture
def host(lab: Lab) -> Host:
    lab.load_image(busybox_image("box:1"))
    return lab.hosts[0]


@pytest.fixture
async def runtime(host: Host) -> AsyncIterator[DockerRuntime]:
    made = DockerRuntime(
        engine_url=host.engine_url,
        data_addr=host.address,
        environment=dict(os.environ),
        memory_dirs=[MEMORY],
        log=LOG,
    )
    await made.recover(NODE.id)
    yield made
    await made.close()


async def test_containers_of_a_compose_file_are_what_docker_run_makes_of_the_same_options(
    host: Host, runtime: DockerRuntime, tmp_path: Path
) -> None:
    differing: dict[str, Any] = {}
    failed: dict[str, tuple[str, str]] = {}
    at_once = asyncio.Semaphore(4)

    async def compare(name: str, spec: ServiceSpec) -> None:
        async with at_once:
            theirs, they_said = await asyncio.to_thread(dockers, host, name, tmp_path)
            mine, we_said = await ours(host, runtime, name, spec)
        if they_said and name in NOT_HERE:
            assert NOT_HERE[name] in they_said, (name, they_said)
            assert NOT_HERE[name] in we_said, (name, we_said)
        elif they_said or we_said or not (theirs["State"]["Running"] and mine["State"]["Running"]):
            failed[name] = (they_said, we_said)
        if theirs is not None and mine is not None:
            differing[name] = differing_fields(alike(theirs), alike(mine))

    await asyncio.gather(*(compare(name, spec) for name, spec in tasks_of(tmp_path).items()))
    assert failed == {}, failed
    # The docker command stays attached to what it makes.
    assert differing["names"].pop(".Config.StdinOnce") == (True, None)
    # Newer docker commands do not ask older Engines for it.
    assert differing["names"].pop(".Config.MacAddress") == (None, "02:42:ac:11:00:99")
    different = {name: found for name, found in differing.items() if found}
    assert different == {}, json.dumps(different, indent=1)
    assert set(differing) >= set(FLAGS) - {"storage"}
