"""A whole ServiceSpec out of flags: a new one, or an existing one changed.

Creating is changing an empty specification; the differences are the base that docker sends and the mode.

Pure: a specification and flags to a specification. What does not fit raises ValueError.
"""

from msgspec.structs import replace

from essaim.cli.flags import Flags
from essaim.cli.values.images import with_tag
from essaim.cli.values.pairs import to_map
from essaim.cluster.container import ContainerSpec, DNSConfig, DriverSpec
from essaim.cluster.service import EndpointSpec, Placement, ResourceRequirements, Resources, ServiceSpec, TaskSpec

from .attachments import Ids, change_endpoint, change_files, change_mounts, change_networks
from .container import change_container
from .engine import change_engine
from .health import change_health
from .lists import added, mapped, removed, touched
from .placement import change_mode, change_placement, new_mode
from .policies import change_restart, change_rollout
from .resources import change_resources

LABELS = {
    "placement-strategy": "essaim.placement.strategy",
    "rebalance": "essaim.rebalance",
    "schedule": "essaim.schedule",
}
"""Flags beyond docker's, which services carry as labels so that stack files can say them too."""


def new_service(image: str, args: list[str], flags: Flags, ids: Ids) -> ServiceSpec:
    """What `service create` posts."""
    container = ContainerSpec(image=with_tag(image), args=args or None, init=False, dns_config=DNSConfig())
    base = ServiceSpec(
        name=flags.text("name"),
        labels={},
        task_template=TaskSpec(
            container_spec=container,
            resources=ResourceRequirements(limits=Resources(), reservations=Resources()),
            placement=Placement(),
            force_update=0,
        ),
        mode=new_mode(flags),
        endpoint_spec=EndpointSpec(mode="vip"),
    )
    return change_parts(base, flags, ids)


def updated_service(spec: ServiceSpec, flags: Flags, ids: Ids) -> ServiceSpec:
    """What `service update` posts."""
    found = replace(change_parts(spec, flags, ids), mode=change_mode(spec.mode, flags))
    if flags.on("force"):
        task = found.task_template or TaskSpec()
        found = replace(found, task_template=replace(task, force_update=(task.force_update or 0) + 1))
    return found


def change_parts(spec: ServiceSpec, flags: Flags, ids: Ids) -> ServiceSpec:
    """Every concern in turn."""
    return replace(
        spec,
        labels=change_labels(spec.labels, flags),
        task_template=change_task(spec, flags, ids),
        networks=None if touched(flags, "network") else spec.networks,
        update_config=change_rollout(spec.update_config, flags, "update"),
        rollback_config=change_rollout(spec.rollback_config, flags, "rollback"),
        endpoint_spec=change_endpoint(spec.endpoint_spec, flags),
    )


def change_labels(current: dict[str, str] | None, flags: Flags) -> dict[str, str] | None:
    labels = current
    if touched(flags, "label"):
        labels = mapped(labels, added(flags, "label"), removed(flags, "label"))
    for flag, label in LABELS.items():
        if flags.given(flag):
            value = flags.text(flag)
            labels = {**(labels or {}), label: value}
            if not value:
                del labels[label]
    return labels


def change_task(spec: ServiceSpec, flags: Flags, ids: Ids) -> TaskSpec:
    task = spec.task_template or TaskSpec()
    container = change_container(task.container_spec or ContainerSpec(), flags)
    container = replace(container, healthcheck=change_health(container.healthcheck, flags))
    container = replace(container, engine_options=change_engine(container.engine_options, flags))
    container = change_files(change_mounts(container, flags), flags, ids)
    # Old clients attached networks to the service itself; a change moves them to the task.
    networks = task.networks if task.networks is not None else spec.networks
    return replace(
        task,
        container_spec=container,
        resources=change_resources(task.resources, flags),
        restart_policy=change_restart(task.restart_policy, flags),
        placement=change_placement(task.placement, flags),
        networks=change_networks(networks, flags, ids.networks) if touched(flags, "network") else task.networks,
        log_driver=change_logs(task.log_driver, flags),
    )


def change_logs(current: DriverSpec | None, flags: Flags) -> DriverSpec | None:
    """`--log-opt` needs a driver on the same command line, as with docker."""
    if not flags.text("log-driver"):
        return None if flags.given("log-driver") else current
    return DriverSpec(name=flags.text("log-driver"), options=to_map(flags.items("log-opt")) or None)
