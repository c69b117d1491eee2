"""Tasks as the orchestrators make and judge them: a new task from a service, and whether one is out of date.

A task is dirty when what it runs differs from what its service declares now. The spec version is the quick answer
when it is equal; when it is not, the contents decide, so that a change that concerns no task (replicas, labels,
update policy, the number of a published port) restarts nothing.

Pure: identifiers and times come in.
"""

import re
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple
from urllib.parse import urlsplit

import msgspec

from essaim.cluster.container import DriverSpec
from essaim.cluster.node import Node
from essaim.cluster.numerals import port as port_number
from essaim.cluster.service import PortConfig, Service, ServiceSpec, TaskSpec
from essaim.cluster.shape import Version
from essaim.cluster.task import RestartRecord, Task, TaskState, TaskStatus

from .constraints import satisfies

_AUTH_SERVER = re.compile(r"traefik\.http\.middlewares\.[^.]+\.forwardauth\.address", re.IGNORECASE)
_ROUTED_PORT = re.compile(r"traefik\.(?:http|tcp|udp)\.services\.[^.]+\.loadbalancer\.server\.port", re.IGNORECASE)

MOST_TASKS = 200_000
"""Of one service: what one manager's memory holds, and more than any cluster runs."""


@dataclass(frozen=True, slots=True)
class Template:
    """What a new task is made from: a specification of the service and its version."""

    spec: ServiceSpec
    version: Version | None


def task_spec(spec: ServiceSpec) -> TaskSpec:
    """What its tasks are to be. Networks of the service itself, where the API had them once, count when the task's own
    part names none."""
    template = spec.task_template or TaskSpec()
    if template.networks or not spec.networks:
        return template
    return msgspec.structs.replace(template, networks=spec.networks)


def current_template(service: Service) -> Template:
    return Template(service.spec, service.spec_version)


def wanted_tasks(spec: ServiceSpec) -> int:
    """How many tasks a replicated service, or runs a replicated job, asks for; 0 of those on every node."""
    mode = spec.mode
    if mode is None or mode.replicated is not None:
        return (mode.replicated.replicas if mode and mode.replicated else None) or 0
    if mode.replicated_job is None:
        return 0
    total = mode.replicated_job.total_completions
    return (mode.replicated_job.max_concurrent or 0) if total is None else total


def published_ports(service: Service) -> list[PortConfig]:
    """The service's ports as allocated."""
    return (service.endpoint.ports if service.endpoint else None) or []


class Asked(NamedTuple):
    """A port that gateways ask for leave to let requests pass: of the first service that has one of the names."""

    names: tuple[str, ...]
    port: int


def asked_addresses(labels: dict[str, str] | None) -> list[Asked]:
    """Of the auth servers that labels name, those that may be services, as gateways look them up."""
    found: list[Asked] = []
    stack = (labels or {}).get("com.docker.stack.namespace")
    for key, value in (labels or {}).items():
        if not _AUTH_SERVER.fullmatch(key):
            continue
        try:
            parts = urlsplit(value)
            host, port = (parts.hostname or "").removeprefix("tasks."), parts.port
        except ValueError:
            continue
        if parts.scheme == "http" and host:
            found.append(Asked((f"{stack}_{host}", host) if stack else (host,), port or 80))
    return found


def routed_ports(labels: dict[str, str] | None, name: str = "") -> list[int]:
    """Target ports of the service of this name that its routing labels mean, without their being published."""
    found = {value for key, value in (labels or {}).items() if _ROUTED_PORT.fullmatch(key)}
    ports = {number for value in found if (number := port_number(value)) is not None}
    ports |= {asked.port for asked in asked_addresses(labels) if name.lower() in map(str.lower, asked.names)}
    return sorted(ports)


def task_ports(service: Service) -> list[PortConfig]:
    """Every port of a task that its node must make reachable. Published port 0: through routing labels only."""
    ports = list(published_ports(service))
    known = {port.target_port for port in ports if (port.protocol or "tcp") == "tcp"}
    for target in sorted({*routed_ports(service.spec.labels, service.spec.name or ""), *(service.asked_ports or ())}):
        if target not in known:
            ports.append(PortConfig(protocol="tcp", target_port=target, published_port=0, publish_mode="ingress"))
    return ports


def new_task(
    service: Service,
    template: Template,
    *,
    task_id: str,
    slot: int | None = None,
    node_id: str | None = None,
    desired: str = "running",
    start_after: datetime | None = None,
    restarts: RestartRecord | None = None,
    now: datetime,
    iteration: Version | None = None,
    generation: int = 1,
    log_driver: DriverSpec | None = None,
    why: str | None = None,
) -> Task:
    """A task that waits for placement. `slot` for replicated services, `node_id` for global ones; `why` it waits."""
    name = service.spec.name or service.id
    return Task(
        id=task_id,
        name=f"{name}.{slot if slot is not None else node_id}.{task_id}",
        spec=task_spec(template.spec),
        service_id=service.id,
        service_name=name,
        slot=slot,
        node_id=node_id,
        status=TaskStatus(timestamp=now, state="pending", message="pending task scheduling", err=why),
        desired_state=desired,
        job_iteration=iteration,
        spec_version=template.version,
        ports=task_ports(service) or None,
        start_after=start_after,
        service_labels=service.spec.labels,
        restarts=restarts,
        generation=generation,
        log_driver=log_driver,
    )


def _needs(ports: list[PortConfig] | None) -> set[tuple[object, ...]]:
    """What a task's node has to do for its ports: the published port matters only in host mode."""
    return {
        (p.protocol or "tcp", p.target_port, p.published_port if p.publish_mode == "host" else None)
        for p in ports or []
    }


def is_dirty(service: Service, task: Task, node: Node | None) -> bool:
    """Whether the task has to be replaced to be what its service declares. `node` is where it is, if anywhere."""
    if task.spec_version is not None and task.spec_version == service.spec_version:
        return False
    wanted = task_spec(service.spec)
    if task.spec != wanted:
        if msgspec.structs.replace(task.spec, placement=wanted.placement) != wanted:
            return True
        constraints = wanted.placement.constraints if wanted.placement else None
        if node is None or not satisfies(node, constraints or []):
            return True
    return _needs(task.ports) != _needs(task_ports(service))


def is_up(task: Task) -> bool:
    """It runs, and neither its own health check nor that of its node's gateway denies it."""
    status = task.status
    return task.state == TaskState.RUNNING and status.healthy is not False and status.reachable is not False


def is_gone(node: Node | None) -> bool:
    """What runs on the node cannot be counted on: it is down, or was removed."""
    return node is None or node.status.state == "down"


def is_stateless(spec: ServiceSpec) -> bool:
    """It keeps nothing in volumes or folders of its node, so that two copies may run for a moment."""
    template = spec.task_template
    container = template.container_spec if template else None
    return not any(
        (mount.type or "volume") in ("bind", "volume", "cluster") and not mount.read_only
        for mount in (container.mounts if container else None) or []
    )
