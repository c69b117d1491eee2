"""ServiceSpec of a service, as `docker stack deploy` builds it.

Pure: no I/O.
"""

from typing import Any

from essaim.cluster.container import DriverSpec
from essaim.cluster.numerals import whole
from essaim.cluster.service import (
    DiscreteResource,
    Empty,
    EndpointSpec,
    GenericResource,
    NetworkAttachmentConfig,
    Placement,
    PlacementPreference,
    Platform,
    PortConfig,
    Replicated,
    ReplicatedJob,
    ResourceRequirements,
    Resources,
    RestartPolicy,
    ServiceMode,
    ServiceSpec,
    SpreadOver,
    TaskSpec,
    UpdateConfig,
)
from essaim.stacks.canonical.units import parse_cpus
from essaim.stacks.canonical.values import (
    DEPENDS_LABEL,
    IMAGE_LABEL,
    NAMESPACE_LABEL,
    SpecError,
    labels,
    texts,
    value,
)

from .container_spec import container_spec, object_name


def service_spec(name: str, service: dict[str, Any], file: dict[str, Any], namespace: str) -> ServiceSpec:
    """`file` is the whole file in plain canonical data. Raises SpecError."""
    deploy = service.get("deploy") or {}
    own = {NAMESPACE_LABEL: namespace, IMAGE_LABEL: service["image"]}
    if service.get("depends_on"):
        own[DEPENDS_LABEL] = ",".join(sorted(f"{namespace}_{needed}" for needed in service["depends_on"]))
    return ServiceSpec(
        name=f"{namespace}_{name}",
        labels=labels(deploy.get("labels"), **own),
        task_template=TaskSpec(
            container_spec=container_spec(service, file, namespace),
            resources=_resources(service),
            restart_policy=_restart_policy(service),
            placement=_placement(service),
            networks=_networks(name, service, file.get("networks") or {}, namespace),
            log_driver=_log_driver(service.get("logging")),
            force_update=0,
        ),
        mode=_mode(service),
        update_config=_update(deploy.get("update_config")),
        rollback_config=_update(deploy.get("rollback_config")),
        endpoint_spec=_endpoint(service),
    )


def replicas(service: dict[str, Any]) -> int | None:
    """As deploy.replicas or scale say."""
    found = value(service, "deploy", "replicas")
    return service.get("scale") if found is None else found


def _mode(service: dict[str, Any]) -> ServiceMode:
    mode = value(service, "deploy", "mode") or "replicated"
    count = replicas(service)
    if mode in ("global", "global-job"):
        if count is not None:
            keys = ("scale",) if value(service, "deploy", "replicas") is None else ("deploy", "replicas")
            raise SpecError(f"can only be given in the modes replicated and replicated-job, not in {mode}", *keys)
        return ServiceMode(global_=Empty()) if mode == "global" else ServiceMode(global_job=Empty())
    if mode == "replicated-job":
        return ServiceMode(replicated_job=ReplicatedJob(max_concurrent=count, total_completions=count))
    return ServiceMode(replicated=Replicated(replicas=count))


def _resources(service: dict[str, Any]) -> ResourceRequirements:
    limits = value(service, "deploy", "resources", "limits") or {}
    reserved = value(service, "deploy", "resources", "reservations") or {}
    pids = limits.get("pids", service.get("pids_limit"))
    upper = Resources(
        nano_cpus=_nano(limits.get("cpus", service.get("cpus"))),
        memory_bytes=limits.get("memory", service.get("mem_limit")),
        pids=None if pids in (None, 0) else max(pids, 0) or None,
    )
    lower = Resources(
        nano_cpus=_nano(reserved.get("cpus")),
        memory_bytes=reserved.get("memory", service.get("mem_reservation")),
        generic_resources=_generic(reserved.get("generic_resources")),
    )
    return ResourceRequirements(
        limits=None if upper == Resources() else upper,
        reservations=None if lower == Resources() else lower,
        swap_bytes=_swap(service.get("memswap_limit"), upper.memory_bytes),
        memory_swappiness=service.get("mem_swappiness"),
    )


def _swap(total: int | None, memory: int | None) -> int | None:
    """Compose counts memory and swap together, Swarm the swap alone; -1 is unlimited in both."""
    if total is None or total == 0:
        return None
    if total < 0:
        return -1
    if memory is None or total < memory:
        raise SpecError("needs a memory limit that it is not smaller than", "memswap_limit")
    return total - memory


def _nano(text: str | None) -> int | None:
    return None if text is None else parse_cpus(text)


def _generic(entries: list[dict[str, Any]] | None) -> list[GenericResource] | None:
    if not entries:
        return None
    found = [entry.get("discrete_resource_spec") or {} for entry in entries]
    return [
        GenericResource(
            discrete_resource_spec=DiscreteResource(kind=entry.get("kind", ""), value=entry.get("value", 0))
        )
        for entry in found
    ]


def _restart_policy(service: dict[str, Any]) -> RestartPolicy | None:
    own = value(service, "deploy", "restart_policy")
    if own is not None:
        return RestartPolicy(
            condition=own.get("condition"),
            delay=own.get("delay"),
            max_attempts=own.get("max_attempts"),
            window=own.get("window"),
        )
    restart = service.get("restart")
    if restart is None:
        return None
    name, _, count = str(restart).partition(":")
    conditions = {"no": "none", "": "none", "false": "none", "always": "any", "unless-stopped": "any"}
    attempts = whole(count)
    if name == "on-failure" and (attempts is not None or not count):
        return RestartPolicy(condition="on-failure", max_attempts=attempts)
    if name not in conditions or count:
        allowed = '"no", always, unless-stopped, on-failure, on-failure:NUMBER'
        raise SpecError(f'"{restart}" is no restart policy; allowed: {allowed}', "restart")
    return RestartPolicy(condition=conditions[name])


def _placement(service: dict[str, Any]) -> Placement:
    own = value(service, "deploy", "placement") or {}
    preferences = [
        PlacementPreference(spread=SpreadOver(spread_descriptor=entry.get("spread", "")))
        for entry in own.get("preferences") or ()
    ]
    platforms = None
    if service.get("platform"):
        system, _, architecture = str(service["platform"]).partition("/")
        platforms = [Platform(os=system, architecture=architecture.partition("/")[0] or None)]
    return Placement(
        constraints=own.get("constraints") or None,
        preferences=preferences or None,
        max_replicas=own.get("max_replicas_per_node") or None,
        platforms=platforms,
    )


def _networks(
    name: str, service: dict[str, Any], networks: dict[str, Any], namespace: str
) -> list[NetworkAttachmentConfig] | None:
    """By target name, each with the service's own name as the last alias."""
    if service.get("network_mode"):
        return None
    found = []
    for key, own in (service.get("networks") or {"default": None}).items():
        target = object_name(networks.get(key), key, namespace)
        aliases = [*((own or {}).get("aliases") or ()), name] if is_user_defined(target) else None
        options = texts((own or {}).get("driver_opts"))
        found.append(NetworkAttachmentConfig(target=target, aliases=aliases, driver_opts=options))
    return sorted(found, key=lambda attachment: attachment.target or "")


def is_user_defined(network: str) -> bool:
    """Is it a network that somebody created, not one that every Engine has?"""
    return network not in ("host", "none", "bridge", "default")


def _log_driver(own: dict[str, Any] | None) -> DriverSpec | None:
    if not own:
        return None
    return DriverSpec(name=own.get("driver"), options=texts(own.get("options")))


def _update(own: dict[str, Any] | None) -> UpdateConfig | None:
    if own is None:
        return None
    parallelism = own.get("parallelism")
    return UpdateConfig(
        parallelism=1 if parallelism is None else parallelism,
        delay=own.get("delay"),
        failure_action=own.get("failure_action"),
        monitor=own.get("monitor"),
        max_failure_ratio=own.get("max_failure_ratio"),
        order=own.get("order"),
    )


def _endpoint(service: dict[str, Any]) -> EndpointSpec:
    """Ports in the order of their published numbers."""
    ports = [
        PortConfig(
            name=entry.get("name"),
            protocol=entry["protocol"],
            target_port=entry["target"],
            published_port=entry.get("published"),
            publish_mode=entry["mode"],
            app_protocol=entry.get("app_protocol"),
            host_ip=entry.get("host_ip"),
        )
        for entry in service.get("ports") or ()
    ]
    ports.sort(key=lambda port: port.published_port or 0)
    return EndpointSpec(mode=value(service, "deploy", "endpoint_mode"), ports=ports or None)
