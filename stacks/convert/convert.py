"""Entry point: a `Document` to the objects of a stack, as `docker stack deploy` sends them.

References to secrets and configs carry names; `resolve` puts in the ids once the cluster's objects are known.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path as FilePath
from typing import Any

import msgspec

from essaim.cluster.container import DriverSpec
from essaim.cluster.objects import ConfigSpec, NetworkSpec, SecretSpec
from essaim.cluster.service import ServiceSpec
from essaim.stacks.canonical.values import NAMESPACE_LABEL, SpecError, labels, texts, value
from essaim.stacks.check.answers import answers
from essaim.stacks.check.limits import check_limits, name_problem
from essaim.stacks.check.placeholders import check_placeholders, content_problem
from essaim.stacks.check.rules import check_rules
from essaim.stacks.read.load import Document
from essaim.stacks.source.tree import Node, Path, Problems, plain

from .container_spec import object_name
from .order import start_order
from .service_spec import is_user_defined, service_spec

MAX_SECRET = 500 * 1024
MAX_CONFIG = 1000 * 1024


@dataclass(frozen=True, slots=True)
class Dependency:
    """`service` (full name) must have reached `condition` before the dependent one is created. `restart`: when a
    deploy replaces its tasks, those of the dependent one are replaced too."""

    service: str
    condition: str = "service_started"
    required: bool = True
    restart: bool = False


@dataclass(frozen=True, slots=True)
class Stack:
    """What a stack consists of. `services` stand in the order in which they are to be created; all names are those
    in the cluster (`ns_web`). The external ones must exist already."""

    name: str
    services: list[ServiceSpec] = field(default_factory=list)
    networks: list[NetworkSpec] = field(default_factory=list)
    secrets: list[SecretSpec] = field(default_factory=list)
    configs: list[ConfigSpec] = field(default_factory=list)
    external_networks: list[str] = field(default_factory=list)
    external_secrets: list[str] = field(default_factory=list)
    external_configs: list[str] = field(default_factory=list)
    dependencies: dict[str, list[Dependency]] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)


def convert(document: Document, namespace: str) -> Stack:
    """The objects of the stack. Reads the data of secrets and configs. Raises StackError."""
    problems = Problems()
    warnings = [*document.warnings, *answers(document, namespace, problems)]
    check_rules(document, problems)
    check_limits(document.services, problems)
    check_placeholders(document, problems)
    _check_names(document, namespace, problems)
    problems.stop_if_any()
    file: dict[str, Any] = {
        kind: {name: plain(node) for name, node in getattr(document, kind).items()}
        for kind in ("networks", "volumes", "secrets", "configs")
    }
    services = {name: plain(node) for name, node in document.services.items()}
    for name, service in services.items():
        _read_seccomp(service, document, name, problems)
    _leave_ended(services)
    specs = [_service(name, services[name], document, file, namespace, problems) for name in start_order(services)]
    secrets = [_data_spec("secrets", name, document, namespace, problems) for name in _own(file["secrets"])]
    configs = [_data_spec("configs", name, document, namespace, problems) for name in _own(file["configs"])]
    problems.stop_if_any()
    networks, external = _networks(services, file["networks"], namespace)
    return Stack(
        name=namespace,
        services=[spec for spec in specs if spec is not None],
        networks=networks,
        external_networks=external,
        secrets=[spec for spec in secrets if isinstance(spec, SecretSpec)],
        configs=[spec for spec in configs if isinstance(spec, ConfigSpec)],
        external_secrets=_external("secrets", services, file, namespace),
        external_configs=_external("configs", services, file, namespace),
        dependencies={
            f"{namespace}_{name}": [
                Dependency(
                    f"{namespace}_{needed}", need["condition"], need.get("required", True), bool(need.get("restart"))
                )
                for needed, need in service["depends_on"].items()
            ]
            for name, service in services.items()
            if service.get("depends_on")
        },
        warnings=warnings,
    )


def _service(
    name: str, service: dict[str, Any], document: Document, file: dict[str, Any], namespace: str, problems: Problems
) -> ServiceSpec | None:
    try:
        return service_spec(name, service, file, namespace)
    except SpecError as error:
        node, path = _found_at(document.services[name], ((None, "services"), name), error.keys)
        problems.add(node.place, path, str(error))
        return None


def _found_at(node: Node, path: Path, keys: tuple[str | int, ...]) -> tuple[Node, Path]:
    for key in keys:
        node, path = node.value[key], (path, key)
    return node, path


def _check_names(document: Document, namespace: str, problems: Problems) -> None:
    for kind in ("services", "secrets", "configs"):
        for name, node in getattr(document, kind).items():
            full = f"{namespace}_{name}" if kind == "services" else object_name(plain(node), name, namespace)
            if message := name_problem(kind, full):
                problems.add(node.key_place or node.place, ((None, kind), name), message)


def _leave_ended(services: dict[str, dict[str, Any]]) -> None:
    """What others wait for to complete is not started again, unless the file says how: Swarm's default would run it
    for ever, Compose's runs it once."""
    for service in services.values():
        for needed, need in (service.get("depends_on") or {}).items():
            other = services[needed]
            if need["condition"] == "service_completed_successfully" and not value(other, "deploy", "restart_policy"):
                other["restart"] = other.get("restart") or "no"


def _read_seccomp(service: dict[str, Any], document: Document, name: str, problems: Problems) -> None:
    """Put the profile's text where its path stood: the Engine that applies it may be another machine's."""
    for index, option in enumerate(service.get("security_opt") or ()):
        key, _, path = option.partition("=")
        if key != "seccomp" or not path.startswith("/"):
            continue
        try:
            profile = json.loads(document.files.read(FilePath(path)))
            service["security_opt"][index] = f"seccomp={json.dumps(profile, separators=(',', ':'))}"
        except (OSError, ValueError, RecursionError) as error:
            place = document.services[name].value["security_opt"].place
            problems.add(place, (((None, "services"), name), "security_opt"), f"cannot read {path} as JSON: {error}")


def _own(objects: dict[str, Any]) -> list[str]:
    return [name for name, own in objects.items() if not (own or {}).get("external")]


def _external(kind: str, services: dict[str, Any], file: dict[str, Any], namespace: str) -> list[str]:
    """External secrets or configs that a service uses."""
    found = {
        object_name(file[kind].get(entry["source"]), entry["source"], namespace): None
        for service in services.values()
        for entry in service.get(kind) or ()
        if value(file, kind, entry["source"], "external")
    }
    return sorted(found)


def _networks(
    services: dict[str, Any], networks: dict[str, Any], namespace: str
) -> tuple[list[NetworkSpec], list[str]]:
    """Networks to create, and external ones: those that a service uses."""
    used = dict.fromkeys(
        name
        for service in services.values()
        if not service.get("network_mode")
        for name in service.get("networks") or {"default": None}
    )
    specs, external = [], []
    for name in used:
        own = networks.get(name) or {}
        full = object_name(own, name, namespace)
        if not own.get("external"):
            specs.append(_network(full, own, namespace))
        elif is_user_defined(full):
            external.append(full)
    return specs, external


def _network(name: str, own: dict[str, Any], namespace: str) -> NetworkSpec:
    return NetworkSpec(
        name=name,
        labels=labels(own.get("labels"), **{NAMESPACE_LABEL: namespace}),
        driver=own["driver"] if own.get("driver") not in (None, "", "bridge") else "overlay",
        internal=own.get("internal") or None,
        attachable=own.get("attachable") or None,
        ingress=own.get("ingress") or None,
        enable_ipv6=own.get("enable_ipv6"),
        ipam=_ipam(own.get("ipam")),
        options=_network_options(own),
    )


def _network_options(own: dict[str, Any]) -> dict[str, str] | None:
    """Without those of a bridge where an overlay takes its place."""
    options = own.get("driver_opts") or {}
    if own.get("driver") == "bridge":
        options = {key: text for key, text in options.items() if not key.startswith("com.docker.network.bridge.")}
    return texts(options)


def _ipam(own: dict[str, Any] | None) -> dict[str, Any] | None:
    if not own:
        return None
    names = {"subnet": "Subnet", "ip_range": "IPRange", "gateway": "Gateway", "aux_addresses": "AuxiliaryAddresses"}
    found: dict[str, Any] = {}
    if own.get("driver"):
        found["Driver"] = own["driver"]
    if own.get("options"):
        found["Options"] = own["options"]
    if own.get("config"):
        found["Config"] = [
            {names[key]: child for key, child in entry.items() if key in names} for entry in own["config"]
        ]
    return found


def _data_spec(
    kind: str, name: str, document: Document, namespace: str, problems: Problems
) -> SecretSpec | ConfigSpec | None:
    node: Node = getattr(document, kind)[name]
    path: Path = ((None, kind), name)
    own = plain(node)
    full = object_name(own, name, namespace)
    tags = labels(own.get("labels"), **{NAMESPACE_LABEL: namespace})
    templating = DriverSpec(name=own["template_driver"]) if own.get("template_driver") else None
    data = _data(node, own, document, path, problems)
    limit = MAX_SECRET if kind == "secrets" else MAX_CONFIG
    if data is None:
        return None
    if not data or len(data) > limit:
        problems.add(node.key_place or node.place, path, f"has {len(data)} bytes; allowed: 1 to {limit // 1024} KiB")
    if templating is not None and (message := content_problem(data)):
        source = next((node.value[key] for key in ("content", "file", "environment") if node.get(key)), node)
        problems.add(source.place, path, message)
    if kind == "secrets":
        return SecretSpec(name=full, labels=tags, data=data, templating=templating)
    return ConfigSpec(name=full, labels=tags, data=data, templating=templating)


def _data(node: Node, own: dict[str, Any], document: Document, path: Path, problems: Problems) -> bytes | None:
    if own.get("content") is not None:
        return str(own["content"]).encode()
    if own.get("environment"):
        found = document.environment.get(own["environment"])
        if found is None:
            place = node.value["environment"].place
            problems.add(place, (path, "environment"), f'the variable "{own["environment"]}" is not set')
            return None
        return found.encode(errors="surrogateescape")
    try:
        return document.files.read(FilePath(own["file"]))
    except OSError as error:
        message = f"cannot read {own['file']}: {error.strerror or type(error).__name__}"
        problems.add(node.value["file"].place, (path, "file"), message)
        return None


def resolve(stack: Stack, secrets: Mapping[str, str], configs: Mapping[str, str]) -> Stack:
    """The stack with the ids of its secrets and configs (name to id) in the references. A name that is in neither
    mapping stays without an id: it is created first, or `missing` names it."""
    return replace(stack, services=[resolve_service(spec, secrets, configs) for spec in stack.services])


def resolve_service(spec: ServiceSpec, secrets: Mapping[str, str], configs: Mapping[str, str]) -> ServiceSpec:
    """`resolve` for one service."""
    task = spec.task_template
    container = task.container_spec if task is not None else None
    if task is None or container is None or not (container.secrets or container.configs):
        return spec
    changed = msgspec.structs.replace(
        container,
        secrets=container.secrets
        and [
            msgspec.structs.replace(reference, secret_id=secrets.get(reference.secret_name or "", reference.secret_id))
            for reference in container.secrets
        ],
        configs=container.configs
        and [
            msgspec.structs.replace(reference, config_id=configs.get(reference.config_name or "", reference.config_id))
            for reference in container.configs
        ],
    )
    credential = container.privileges.credential_spec if container.privileges is not None else None
    if container.privileges is not None and credential is not None and (credential.config or "") in configs:
        credential = msgspec.structs.replace(credential, config=configs[credential.config or ""])
        privileges = msgspec.structs.replace(container.privileges, credential_spec=credential)
        changed = msgspec.structs.replace(changed, privileges=privileges)
    return msgspec.structs.replace(spec, task_template=msgspec.structs.replace(task, container_spec=changed))
