"""From a task to the body of `POST /containers/create`, as Swarm makes it, and with EngineOptions beyond that.

The name is SERVICE.SLOT.TASKID and the labels `com.docker.swarm.*` are those of Swarm, so that tools which look for
them find essaim's containers too, and the agent its own after a restart.

Pure: no I/O, no clock.
"""

from collections.abc import Callable
from typing import Any

import msgspec

from essaim.agent.runtime.durations import stop_grace
from essaim.agent.runtime.identity import WHOAMI, identity, repository
from essaim.agent.runtime.interface import Rejected, Work
from essaim.agent.runtime.resources import generic_resource_env
from essaim.agent.runtime.templates import context, task_name
from essaim.cluster.container import ContainerSpec, HealthConfig, Mount
from essaim.cluster.engine_options import EngineOptions
from essaim.cluster.task import Task
from essaim.cluster.templates import TemplateError, expand

from .host_config import host_config
from .port_bindings import exposed_ports, port_bindings

LABEL = "com.docker.swarm"
TASK_ID = f"{LABEL}.task.id"
NODE_ID = f"{LABEL}.node.id"

Expand = Callable[[str], str]


def container_name(task: Task) -> str:
    """Swarm's name, or the one that the service asks for."""
    spec = task.spec.container_spec
    options = spec.engine_options if spec else None
    return (options.container_name if options else None) or task_name(task)


def labels(task: Task, spec: ContainerSpec) -> dict[str, str]:
    """The container's own labels, and Swarm's, which win."""
    return {
        **(spec.labels or {}),
        f"{LABEL}.node.id": task.node_id or "",
        f"{LABEL}.service.id": task.service_id or "",
        f"{LABEL}.service.name": task.service_name or "",
        f"{LABEL}.task": "",
        TASK_ID: task.id,
        f"{LABEL}.task.name": task_name(task),
    }


def create_body(work: Work, data_addr: str, files: list[Mount]) -> dict[str, Any]:
    """`files` are the binds of secrets and configs. Raises Rejected for a placeholder that cannot be filled in."""
    values = context(work.task, work.node)
    try:
        return _body(work, data_addr, files, lambda text: expand(text, values))
    except TemplateError as error:
        raise Rejected(str(error)) from error


def _body(work: Work, data_addr: str, files: list[Mount], filled: Expand) -> dict[str, Any]:
    task = work.task
    spec = task.spec.container_spec or ContainerSpec()
    options = spec.engine_options or EngineOptions()
    ports = task.ports or []
    mounts = [_expanded(mount, filled) for mount in spec.mounts or []]
    body: dict[str, Any] = {
        "Image": spec.image,
        "Hostname": filled(spec.hostname or ""),
        "Domainname": options.domainname,
        "User": spec.user,
        "Tty": spec.tty,
        "OpenStdin": spec.open_stdin,
        "Env": _environment(work, spec, filled),
        "Entrypoint": spec.command,
        "Cmd": spec.args,
        "WorkingDir": spec.dir,
        "Labels": labels(task, spec),
        "StopSignal": spec.stop_signal,
        "StopTimeout": _whole_seconds(stop_grace(spec)),
        "Healthcheck": _healthcheck(spec.healthcheck),
        "MacAddress": options.mac_address,
        "ExposedPorts": exposed_ports(ports, options.expose or []),
        "HostConfig": host_config(task, spec, options, [*mounts, *files], port_bindings(ports, data_addr)),
    }
    return {key: value for key, value in body.items() if value not in (None, "", {})}


def _environment(work: Work, spec: ContainerSpec, filled: Expand) -> list[str]:
    parts = [entry.partition("=") for entry in spec.env or []]
    env = [f"{name}{equals}{filled(value)}" for name, equals, value in parts]
    env += generic_resource_env(work.task.assigned_generic_resources or [])
    if repository(spec.image or "") == WHOAMI:
        env += [f"{name}={value}" for name, value in identity(work.task, work.node).items()]
    return env


def _healthcheck(config: HealthConfig | None) -> Any:
    return None if config is None else msgspec.to_builtins(config)


def _whole_seconds(seconds: float) -> int:
    """The Engine counts whole seconds: never less than asked for."""
    return int(-(-seconds // 1))


def _expanded(mount: Mount, filled: Expand) -> Mount:
    """Placeholders are allowed in a mount's source and target, and in a volume's labels and driver options."""
    changes: dict[str, Any] = {
        name: filled(value) for name in ("source", "target") if (value := getattr(mount, name)) is not None
    }
    volume = mount.volume_options
    if volume is not None:
        driver = volume.driver_config
        if driver is not None and driver.options:
            driver = msgspec.structs.replace(driver, options={k: filled(v) for k, v in driver.options.items()})
        named = {key: filled(value) for key, value in volume.labels.items()} if volume.labels else volume.labels
        changes["volume_options"] = msgspec.structs.replace(volume, labels=named, driver_config=driver)
    return msgspec.structs.replace(mount, **changes)
