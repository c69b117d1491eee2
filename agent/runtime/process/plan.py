"""From a task to the plan that its supervisor (shim.py) carries out. What has no meaning here: meaning.py.

Pure: no I/O, no clock; ports, user ids and directories come in.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import msgspec

from essaim.agent.runtime.durations import HealthPlan, health_plan, stop_grace, stop_signal
from essaim.agent.runtime.identity import HOST, WHOAMI, identity, repository
from essaim.agent.runtime.interface import Rejected, Work
from essaim.agent.runtime.resources import generic_resource_env
from essaim.agent.runtime.templates import context
from essaim.cluster.container import ContainerSpec
from essaim.cluster.engine_options import EngineOptions
from essaim.cluster.numerals import whole
from essaim.cluster.service import PortConfig, Resources
from essaim.cluster.sizes import DECIMAL, parse_size
from essaim.cluster.task import Task, TaskEndpoint
from essaim.cluster.templates import TemplateError, expand

from .meaning import ignored, is_no_new_privileges

LOG_MAX_BYTES = 10 << 20
LOG_MAX_FILES = 3
DEFAULT_PORT = 0
"""The target port under which the one port of a task without target ports is kept."""

RLIMITS = {
    "as": "RLIMIT_AS", "core": "RLIMIT_CORE", "cpu": "RLIMIT_CPU", "data": "RLIMIT_DATA", "fsize": "RLIMIT_FSIZE",
    "locks": "RLIMIT_LOCKS", "memlock": "RLIMIT_MEMLOCK", "msgqueue": "RLIMIT_MSGQUEUE", "nice": "RLIMIT_NICE",
    "nofile": "RLIMIT_NOFILE", "nproc": "RLIMIT_NPROC", "rss": "RLIMIT_RSS", "rtprio": "RLIMIT_RTPRIO",
    "sigpending": "RLIMIT_SIGPENDING", "stack": "RLIMIT_STACK",
}  # fmt: skip


class ShimPlan(msgspec.Struct, frozen=True):
    """What shim.py reads; `uid` None: as the daemon itself. `stop_grace` in seconds."""

    argv: list[str]
    env: dict[str, str]
    cwd: str
    uid: int | None
    gid: int | None
    groups: list[int]
    rlimits: dict[str, tuple[int, int]]
    oom_score_adj: int | None
    stop_signal: int
    stop_grace: float
    log_max_bytes: int
    log_max_files: int
    cpus: list[int] = []  # empty: all
    no_new_privileges: bool = False


class ProcessPlan(msgspec.Struct, frozen=True):
    """What the runtime keeps of a task on disk, to find it again."""

    task_id: str
    node_id: str
    name: str
    shim: ShimPlan
    endpoints: list[TaskEndpoint]
    host_ports: list[PortConfig]
    health: HealthPlan | None
    ignored: list[str]


@dataclass(frozen=True, slots=True)
class User:
    uid: int
    gid: int
    groups: tuple[int, ...]
    home: str


@dataclass(frozen=True, slots=True)
class Place:
    """Where a task runs. `ports` by (protocol, target port); `user` None: as the daemon itself."""

    address: str
    ports: Mapping[tuple[str, int], int]
    work_dir: str
    secrets_dir: str
    configs_dir: str
    user: User | None
    environment: Mapping[str, str]
    python: str
    whoami: str
    open_files: tuple[int, int] | None = None


def wanted_ports(task: Task) -> list[tuple[PortConfig, int]]:
    """Each target port with the port it must have on the node, 0 for any free one."""
    wanted: list[tuple[PortConfig, int]] = []
    for port in task.ports or []:
        if port.target_port:
            fixed = (port.published_port or 0) if port.publish_mode == "host" else 0
            wanted.append((port, fixed))
    return wanted or [(PortConfig(target_port=DEFAULT_PORT, protocol="tcp"), 0)]


def make_plan(work: Work, place: Place) -> ProcessPlan:
    """Raises Rejected."""
    task = work.task
    spec = task.spec.container_spec or ContainerSpec()
    options = spec.engine_options or EngineOptions()
    values = context(task, work.node)
    try:
        env = _environment(work, place, lambda text: expand(text, values))
        argv = _argv(spec, place)
        log_bytes, log_files = _log_limits(task)
        shim = ShimPlan(
            argv=argv,
            env=env,
            cwd=spec.dir or place.work_dir,
            uid=place.user.uid if place.user else None,
            gid=place.user.gid if place.user else None,
            groups=list(place.user.groups) if place.user else [],
            rlimits={
                **({"RLIMIT_NOFILE": place.open_files} if place.open_files else {}),
                **_rlimits(spec, task.spec.resources.limits if task.spec.resources else None),
            },
            oom_score_adj=spec.oom_score_adj,
            stop_signal=stop_signal(spec),
            stop_grace=stop_grace(spec),
            log_max_bytes=log_bytes,
            log_max_files=log_files,
            cpus=cpu_list(options.cpuset_cpus) if options.cpuset_cpus else [],
            no_new_privileges=_no_new_privileges(spec, options),
        )
    except (TemplateError, ValueError) as error:
        raise Rejected(str(error)) from error
    name = env["ESSAIM_TASK_NAME"]
    endpoints, host_ports = _endpoints(task, place)
    return ProcessPlan(
        task.id, work.node.id, name, shim, endpoints, host_ports, health_plan(spec.healthcheck), ignored(task)
    )


def _no_new_privileges(spec: ContainerSpec, options: EngineOptions) -> bool:
    asked = spec.privileges is not None and bool(spec.privileges.no_new_privileges)
    return asked or any(is_no_new_privileges(option) for option in options.security_opt or [])


def _argv(spec: ContainerSpec, place: Place) -> list[str]:
    image = repository(spec.image or "")
    given = [*(spec.command or []), *(spec.args or [])]
    if image == WHOAMI:
        return given if spec.command else [place.python, "-I", "-S", place.whoami, *given]
    if image != HOST:
        raise Rejected(
            f"this node runs tasks as plain processes and has no images: {spec.image or 'an empty image'} cannot run "
            f"here. Use the image {HOST} (the node's own file system, with a command) or {WHOAMI}, or run the "
            "daemon with --runtime docker on a machine with a Docker Engine"
        )
    if not given:
        raise Rejected(f"the image {HOST} has no command of its own: give one (command or args)")
    return given


def _environment(work: Work, place: Place, expanded: Callable[[str], str]) -> dict[str, str]:
    spec = work.task.spec.container_spec or ContainerSpec()
    env = dict(place.environment)
    if place.user:
        env["HOME"] = place.user.home
    env |= identity(work.task, work.node)
    env |= {"HOST": place.address, "ESSAIM_SECRETS_DIR": place.secrets_dir, "ESSAIM_CONFIGS_DIR": place.configs_dir}
    for index, (port, _) in enumerate(wanted_ports(work.task)):
        number = str(place.ports[port.protocol or "tcp", port.target_port or DEFAULT_PORT])
        if index == 0:
            env["PORT"] = number
        if port.target_port:
            env.setdefault(f"PORT_{port.target_port}", number)
    for entry in generic_resource_env(work.task.assigned_generic_resources or []):
        name, _, value = entry.partition("=")
        env[name] = value
    for entry in spec.env or []:
        name, equals, value = entry.partition("=")
        if equals:
            env[name] = expanded(value)
        else:
            # Docker's way to take a variable out of the image's environment.
            env.pop(name, None)
    return env


def _endpoints(task: Task, place: Place) -> tuple[list[TaskEndpoint], list[PortConfig]]:
    endpoints, host_ports = [], []
    for port, _ in wanted_ports(task):
        if not port.target_port:
            continue
        protocol = port.protocol or "tcp"
        number = place.ports[protocol, port.target_port]
        endpoints.append(
            TaskEndpoint(protocol=protocol, target_port=port.target_port, address=place.address, port=number)
        )
        if port.publish_mode == "host":
            host_ports.append(msgspec.structs.replace(port, published_port=number))
    return endpoints, host_ports


def _rlimits(spec: ContainerSpec, limits: Resources | None) -> dict[str, tuple[int, int]]:
    """A memory limit becomes a limit of the data segment: the nearest thing that needs no rights."""
    found: dict[str, tuple[int, int]] = {}
    if limits and limits.memory_bytes:
        found["RLIMIT_DATA"] = (limits.memory_bytes, limits.memory_bytes)
    for ulimit in spec.ulimits or []:
        if ulimit.name not in RLIMITS:
            raise Rejected(f"unknown ulimit {ulimit.name}; known are {', '.join(sorted(RLIMITS))}")
        soft = ulimit.soft if ulimit.soft is not None else -1
        found[RLIMITS[ulimit.name]] = (soft, ulimit.hard if ulimit.hard is not None else soft)
    return found


def _log_limits(task: Task) -> tuple[int, int]:
    """Bytes of a log file and the number of files, from the log driver's usual options."""
    driver = task.logging
    if driver and driver.name == "none":
        return 0, 0
    options = (driver.options if driver else None) or {}
    max_bytes = parse_size(options["max-size"], DECIMAL) if "max-size" in options else LOG_MAX_BYTES
    given = options.get("max-file", str(LOG_MAX_FILES))
    count = whole(given, 9)
    if count is None:
        raise ValueError(f'the log option max-file must be a number of files, found "{given[:40]}"')
    return max_bytes, max(count, 1)


def cpu_list(text: str) -> list[int]:
    """`0-2,5` as numbers. Raises ValueError."""
    found: set[int] = set()
    for part in text.split(","):
        match = re.fullmatch(r"\s*([0-9]{1,5})(?:-([0-9]{1,5}))?\s*", part)
        if match is None or int(match[2] or match[1]) < int(match[1]):
            raise ValueError(f'"{text}" is no list of CPUs such as 0-2,5')
        found |= set(range(int(match[1]), int(match[2] or match[1]) + 1))
    return sorted(found)
