"""How an Engine completes a service's specification: when it stores it, and when it is asked for the defaults.

Stored: what was sent, plus Labels, Mode, ForceUpdate, Runtime, Isolation; and, only inside parts that were sent, the
end-point's mode, the ports' protocol and publish mode, and the three fields of the update configurations.
With `insertDefaults`: the stop grace period, an empty DNSConfig, the restart policy and both update configurations too.

Pure: specifications in, specifications out.
"""

from msgspec.structs import replace

from essaim.cluster.container import DEFAULT_STOP_GRACE_PERIOD, NANOSECONDS, ContainerSpec, DNSConfig, Mount
from essaim.cluster.service import (
    EndpointSpec,
    PortConfig,
    Replicated,
    RestartPolicy,
    ServiceMode,
    ServiceSpec,
    TaskSpec,
    UpdateConfig,
)

MONITOR = 5 * NANOSECONDS
RESTART_DELAY = 5 * NANOSECONDS


def stored(spec: ServiceSpec) -> ServiceSpec:
    """The specification as it is kept and echoed. References to networks are resolved elsewhere."""
    return replace(
        spec,
        labels=spec.labels if spec.labels is not None else {},
        task_template=_task(spec.task_template or TaskSpec()),
        mode=_mode(spec.mode),
        update_config=_update(spec.update_config),
        rollback_config=_update(spec.rollback_config),
        endpoint_spec=_endpoint(spec.endpoint_spec),
    )


def _task(task: TaskSpec) -> TaskSpec:
    container = task.container_spec
    return replace(
        task,
        container_spec=_container(container) if container else None,
        force_update=task.force_update or 0,
        runtime=task.runtime or "container",
    )


def _container(container: ContainerSpec) -> ContainerSpec:
    mounts = container.mounts
    return replace(
        container,
        isolation=container.isolation or "default",
        mounts=[_mount(m) for m in mounts] if mounts else mounts,
    )


def _mount(mount: Mount) -> Mount:
    return mount if mount.read_only else replace(mount, read_only=None)


def _mode(mode: ServiceMode | None) -> ServiceMode:
    if mode is None or mode == ServiceMode():
        return ServiceMode(replicated=Replicated(replicas=1))
    if mode.replicated is not None and mode.replicated.replicas is None:
        return replace(mode, replicated=Replicated(replicas=1))
    return mode


def _update(update: UpdateConfig | None) -> UpdateConfig | None:
    if update is None:
        return None
    return replace(
        update,
        parallelism=update.parallelism or 0,
        failure_action=update.failure_action or "pause",
        max_failure_ratio=update.max_failure_ratio or 0,
        order=update.order or "stop-first",
    )


def _endpoint(endpoint: EndpointSpec | None) -> EndpointSpec | None:
    if endpoint is None:
        return None
    ports = endpoint.ports
    return replace(endpoint, mode=endpoint.mode or "vip", ports=[_port(p) for p in ports] if ports else None)


def _port(port: PortConfig) -> PortConfig:
    return replace(port, protocol=port.protocol or "tcp", publish_mode=port.publish_mode or "ingress")


def with_defaults(spec: ServiceSpec) -> ServiceSpec:
    """The specification with what applies where nothing was said (`?insertDefaults=true`)."""
    task = spec.task_template or TaskSpec()
    container = task.container_spec
    if container is not None:
        grace = container.stop_grace_period
        container = replace(
            container,
            stop_grace_period=DEFAULT_STOP_GRACE_PERIOD if grace is None else grace,
            dns_config=container.dns_config or DNSConfig(),
        )
    restart = task.restart_policy or RestartPolicy()
    restart = replace(
        restart,
        condition=restart.condition or "any",
        delay=RESTART_DELAY if restart.delay is None else restart.delay,
        max_attempts=restart.max_attempts or 0,
    )
    update = UpdateConfig(
        parallelism=1, failure_action="pause", monitor=MONITOR, max_failure_ratio=0, order="stop-first"
    )
    return replace(
        spec,
        task_template=replace(task, container_spec=container, restart_policy=restart),
        update_config=_monitored(spec.update_config or update),
        rollback_config=_monitored(spec.rollback_config or update),
    )


def _monitored(update: UpdateConfig) -> UpdateConfig:
    return update if update.monitor else replace(update, monitor=MONITOR)
