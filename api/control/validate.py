"""What a service's specification must fulfil by itself, in Swarm's words; what depends on other objects is elsewhere.

Pure: a specification in, nothing or an error out.
"""

import re

from essaim.cluster.container import ContainerSpec, HealthConfig, Mount
from essaim.cluster.errors import ClusterError, InvalidArgument
from essaim.cluster.service import (
    EndpointSpec,
    PortConfig,
    Resources,
    RestartPolicy,
    ServiceMode,
    ServiceSpec,
    TaskSpec,
    UpdateConfig,
)
from essaim.scheduler.tasks import MOST_TASKS, wanted_tasks

from .errors import invalid, unknown
from .gateway_labels import check_gateway_labels
from .placeholders import check_placeholders
from .spec_labels import check_labels, is_job
from .text_limits import check_texts

MAX_NAME = 63
NAME = re.compile(r"[a-zA-Z0-9](?:[-_]*[a-zA-Z0-9]+)*")
_PART = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
IMAGE = re.compile(
    rf"(?:[a-zA-Z0-9.\-]+(?::\d+)?/|\[[a-fA-F0-9:]+\](?::\d+)?/)?{_PART}(?:/{_PART})*"
    r"(?::\w[\w.\-]{0,127})?(?:@[A-Za-z][A-Za-z0-9+._\-]*:[0-9a-fA-F]{32,})?",
    re.ASCII,
)
CONSTRAINT_KEY = re.compile(r"[a-z_][a-z0-9\-_.]+", re.IGNORECASE | re.ASCII)
CONSTRAINT_VALUE = re.compile(r"[a-z0-9:\-_\s.*()?+\[\]\\^$|/]+", re.IGNORECASE | re.ASCII)
MIN_MEMORY = 4 << 20
MIN_CPU = 1_000_000
MIN_HEALTH_INTERVAL = 1_000_000
MAX_MODE = 0o7777
MOUNT_TYPES = {"bind", "volume", "tmpfs", "npipe", "image", "cluster"}
APP_PROTOCOLS = {None, "", "tcp", "http"}


def check(spec: ServiceSpec) -> None:
    """Raises ClusterError (mostly InvalidArgument)."""
    check_texts(spec)
    _mode(spec.mode)
    _runtime(spec.task_template or TaskSpec())
    _name(spec.name)
    task = spec.task_template or TaskSpec()
    if task.resources is not None:
        _resources(task.resources.limits)
        _resources(task.resources.reservations)
    _restart(task.restart_policy)
    if task.placement is not None:
        for constraint in task.placement.constraints or []:
            _constraint(constraint)
        if (task.placement.max_replicas or 0) < 0:
            raise InvalidArgument(f"invalid MaxReplicas {task.placement.max_replicas}: it cannot be negative")
    if task.container_spec is not None:
        _container(task.container_spec)
    if spec.update_config is not None and is_job(spec.mode):
        raise invalid("Jobs may not have an update config")
    _update("update", spec.update_config)
    _update("rollback", spec.rollback_config)
    _endpoint(spec.endpoint_spec)
    check_labels(spec)
    check_gateway_labels(spec.labels)
    if (wanted := wanted_tasks(spec)) > MOST_TASKS:
        raise invalid(f"{wanted} tasks are wanted, and a service has {MOST_TASKS} at most")


def _name(name: str | None) -> None:
    if not name:
        raise invalid("name must be provided")
    if not NAME.fullmatch(name):
        raise invalid("name must be valid as a DNS name component")
    if len(name) > MAX_NAME:
        raise invalid(f"name must be {MAX_NAME} characters or fewer")


def _mode(mode: ServiceMode | None) -> None:
    if mode is None:
        return
    chosen = [m for m in (mode.replicated, mode.global_, mode.replicated_job, mode.global_job) if m is not None]
    if len(chosen) > 1:
        raise InvalidArgument("must specify only one service mode")
    job = mode.replicated_job
    counts = {
        "Replicas": mode.replicated.replicas if mode.replicated else None,
        "MaxConcurrent": job.max_concurrent if job else None,
        "TotalCompletions": job.total_completions if job else None,
    }
    for key, count in counts.items():
        if count is not None and count < 0:
            raise InvalidArgument(f"invalid {key} {count}: it cannot be negative")


def _runtime(task: TaskSpec) -> None:
    runtime = task.runtime or "container"
    wanted = {"container": task.container_spec, "plugin": task.plugin_spec, "attachment": task.network_attachment_spec}
    others = [spec for name, spec in wanted.items() if name != runtime and spec is not None]
    if runtime not in wanted:
        raise InvalidArgument("unsupported runtime")
    if others or wanted[runtime] is None:
        raise InvalidArgument("mismatched Runtime and *Spec fields")
    if runtime != "container":
        raise InvalidArgument(f"services of runtime {runtime} are not supported; use runtime container")
    if not (task.container_spec and task.container_spec.image):
        raise invalid("ContainerSpec: image reference must be provided")


def _resources(resources: Resources | None) -> None:
    if resources is None:
        return
    if resources.memory_bytes and resources.memory_bytes < MIN_MEMORY:
        raise invalid(f"invalid memory value {resources.memory_bytes}: Must be at least 4MiB")
    if resources.nano_cpus and resources.nano_cpus < MIN_CPU:
        raise invalid(f"invalid cpu value {resources.nano_cpus / 1e9:g}: Must be at least {MIN_CPU / 1e9:g}")
    for generic in resources.generic_resources or []:
        discrete = generic.discrete_resource_spec
        if discrete is not None and discrete.value < 0:
            raise invalid(f"invalid value {discrete.value} of generic resource {discrete.kind}: it cannot be negative")


def _restart(policy: RestartPolicy | None) -> None:
    if policy is None:
        return
    if policy.condition not in (None, "", "none", "on-failure", "any"):
        raise InvalidArgument(f'invalid RestartCondition: "{policy.condition}"')
    if policy.delay is not None and policy.delay < 0:
        raise invalid("TaskSpec: restart-delay cannot be negative")
    if policy.window is not None and policy.window < 0:
        raise invalid("TaskSpec: restart-window cannot be negative")
    if policy.max_attempts is not None and policy.max_attempts < 0:
        raise invalid("TaskSpec: restart-max-attempts cannot be negative")


def _constraint(text: str) -> None:
    operator = "==" if "==" in text else "!="
    key, found, value = (part.strip() for part in text.partition(operator))
    if not found:
        raise _bad_constraint("constraint expected one operator from ==, !=")
    if not CONSTRAINT_KEY.fullmatch(key):
        raise _bad_constraint(f"key '{key}' is invalid")
    if not CONSTRAINT_VALUE.fullmatch(value):
        raise _bad_constraint(f"value '{value}' is invalid")


def _bad_constraint(message: str) -> ClusterError:
    return unknown(message)


def _container(container: ContainerSpec) -> None:
    check_placeholders(container)
    if not IMAGE.fullmatch(container.image or ""):
        raise invalid(f'ContainerSpec: "{(container.image or "")[:200]}" is not a valid repository/tag')
    if container.stop_grace_period is not None and container.stop_grace_period < 0:
        raise invalid("ContainerSpec: stop-grace-period cannot be negative")
    targets: set[str] = set()
    for mount in container.mounts or []:
        _mount(mount)
        if mount.target in targets:
            raise invalid(f"ContainerSpec: duplicate mount point: {mount.target}")
        targets.add(mount.target or "")
    _health(container.healthcheck)
    files = [reference.file for reference in container.secrets or []]
    files += [reference.file for reference in container.configs or []]
    for file in files:
        mode = file.mode if file else None
        if mode is not None and not 0 <= mode <= MAX_MODE:
            raise invalid(f"ContainerSpec: invalid file mode {mode}: use 0 to 0o7777")
    score = container.oom_score_adj or 0
    if not -1000 <= score <= 1000:
        raise invalid(f"ContainerSpec: invalid OomScoreAdj {score}: use -1000 to 1000")


def _mount(mount: Mount) -> None:
    kind = mount.type or ""
    if kind not in MOUNT_TYPES:
        raise InvalidArgument(f"invalid MountType: {kind!r}: use {', '.join(sorted(MOUNT_TYPES))}")
    if not mount.target:
        raise InvalidArgument(f'invalid mount config for type "{kind}": field Target must not be empty')
    if kind == "bind" and not mount.source:
        raise InvalidArgument('invalid mount config for type "bind": field Source must not be empty')
    if kind == "tmpfs" and mount.tmpfs_options is not None:
        if (mount.tmpfs_options.size_bytes or 0) < 0:
            raise InvalidArgument(f"invalid size {mount.tmpfs_options.size_bytes} of a tmpfs: it cannot be negative")
        if not 0 <= (mount.tmpfs_options.mode or 0) <= MAX_MODE:
            raise InvalidArgument(f"invalid mode {mount.tmpfs_options.mode} of a tmpfs: use 0 to 0o7777")
    if kind == "tmpfs" and mount.source:
        raise InvalidArgument('invalid mount config for type "tmpfs": field Source must not be specified')


def _health(health: HealthConfig | None) -> None:
    if health is None:
        return
    named = {
        "Interval": health.interval,
        "Timeout": health.timeout,
        "StartPeriod": health.start_period,
        "StartInterval": health.start_interval,
    }
    for name, value in named.items():
        if value and value < MIN_HEALTH_INTERVAL:
            raise invalid(f"ContainerSpec: {name} in HealthConfig cannot be less than 1ms")
    if health.retries is not None and health.retries < 0:
        raise invalid("ContainerSpec: Retries in HealthConfig cannot be negative")


def _update(kind: str, update: UpdateConfig | None) -> None:
    if update is None:
        return
    actions = ("", None, "pause", "continue", "rollback") if kind == "update" else ("", None, "pause", "continue")
    if update.failure_action not in actions:
        raise InvalidArgument(f"unrecognized {kind} failure action {update.failure_action}")
    if update.order not in ("", None, "stop-first", "start-first"):
        raise InvalidArgument(f"unrecognized {kind} order {update.order}")
    for name, value in {"parallelism": update.parallelism, "delay": update.delay, "monitor": update.monitor}.items():
        if value is not None and value < 0:
            raise invalid(f"TaskSpec: {kind}-{name} cannot be negative")
    if update.max_failure_ratio is not None and not 0 <= update.max_failure_ratio <= 1:
        raise invalid(f"TaskSpec: {kind}-maxfailureratio cannot be less than 0 or bigger than 1")


def _endpoint(endpoint: EndpointSpec | None) -> None:
    if endpoint is None:
        return
    if endpoint.mode not in (None, "", "vip", "dnsrr"):
        raise InvalidArgument(f'invalid EndpointSpec.Mode "{endpoint.mode}": use vip or dnsrr')
    seen: set[tuple[object, ...]] = set()
    for port in endpoint.ports or []:
        _port(port)
        ingress = (port.publish_mode or "ingress") == "ingress"
        if ingress and endpoint.mode == "dnsrr":
            raise invalid("EndpointSpec: port published with ingress mode can't be used with dnsrr mode")
        if port.published_port:
            key = (port.published_port, port.protocol or "tcp", port.host_ip or "", ingress)
            if key in seen:
                raise invalid("EndpointSpec: duplicate published ports provided")
            seen.add(key)


def _port(port: PortConfig) -> None:
    if port.protocol not in (None, "", "tcp", "udp", "sctp"):
        raise InvalidArgument(f'invalid protocol "{port.protocol}": use tcp, udp or sctp')
    if port.publish_mode not in (None, "", "ingress", "host"):
        raise InvalidArgument(f'invalid PublishMode "{port.publish_mode}": use ingress or host')
    if port.app_protocol not in APP_PROTOCOLS:
        raise InvalidArgument(f'invalid AppProtocol "{port.app_protocol}": use tcp or http')
    if not 0 < (port.target_port or 0) < 65536:
        raise InvalidArgument(f"invalid TargetPort {port.target_port}: use 1 to 65535")
    if not 0 <= (port.published_port or 0) < 65536:
        raise InvalidArgument(f"invalid PublishedPort {port.published_port}: use 1 to 65535, or 0 to have one chosen")
