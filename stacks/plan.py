"""What a deploy or a removal of a stack does, as a list of operations that both print (`--dry-run`) and are carried
out in their order.

The one who carries them out asks the manager; nothing here does. A service's operation may name secrets and configs
that an earlier operation creates: pass its spec through `convert.resolve_service` with the ids known by then.

Pure: no I/O.
"""

import base64
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

import msgspec

from essaim.cluster.objects import Config, ConfigSpec, NetworkSpec, Secret, SecretSpec
from essaim.cluster.service import Service, ServiceSpec, TaskSpec

from .convert import Stack, resolve_service
from .difference import Change, changes
from .values import DEPENDS_LABEL, IMAGE_LABEL, NAMESPACE_LABEL

Verb: TypeAlias = Literal["create", "update", "verify", "unchanged", "remove", "wait"]
Kind: TypeAlias = Literal["network", "secret", "config", "service"]
Spec: TypeAlias = NetworkSpec | SecretSpec | ConfigSpec | ServiceSpec


class PlanError(Exception):
    """The stack cannot be deployed to this cluster; each message is one line for the user."""

    def __init__(self, messages: list[str]) -> None:
        self.messages = messages
        super().__init__("\n".join(messages))


@dataclass(frozen=True, slots=True)
class Existing:
    """What the cluster holds. `networks` are those of swarm scope, name to id; the others may be all of their kind."""

    services: Collection[Service] = ()
    networks: Mapping[str, str] = field(default_factory=dict)
    secrets: Collection[Secret] = ()
    configs: Collection[Config] = ()


@dataclass(frozen=True, slots=True)
class Operation:
    """One step. `spec` is what to send; `id` and `version` name what is updated or removed.

    `verify`: send the spec as an update: a secret's content cannot be read back, and the manager refuses to change it.
    `wait`: until the service `name` has reached `condition` (service_started, service_healthy,
    service_completed_successfully; at removal `gone`: its tasks have ended) for the service `dependent`; a failure
    counts only if it is `required`.
    """

    verb: Verb
    kind: Kind
    name: str
    spec: Spec | None = None
    id: str = ""
    version: int = 0
    changes: tuple[Change, ...] = ()
    condition: str = ""
    required: bool = True
    dependent: str = ""

    def __str__(self) -> str:
        if self.verb == "wait":
            return f"wait       {self.kind} {self.name} until {self.condition.removeprefix('service_')}"
        lines = [f"{self.verb:<10} {self.kind} {self.name}"]
        lines += [f"             {change}" for change in self.changes]
        return "\n".join(lines)


@dataclass(frozen=True, slots=True)
class Plan:
    operations: list[Operation]

    @property
    def is_empty(self) -> bool:
        """Does nothing change?"""
        return all(operation.verb in ("unchanged", "verify", "wait") for operation in self.operations)

    def __str__(self) -> str:
        verbs = [operation.verb for operation in self.operations]
        counts = [f"{verbs.count(verb)} to {verb}" for verb in ("create", "update", "remove") if verbs.count(verb)]
        summary = ", ".join(counts) or "nothing to change"
        return "\n".join([*(str(operation) for operation in self.operations), f"Plan: {summary}."])


def plan(stack: Stack, existing: Existing, prune: bool = False, keep_images: bool = True) -> Plan:
    """The operations of a deploy, in order. Raises PlanError.

    `keep_images`: a service whose `image:` is the same as at its last deploy keeps the digest that was pinned then.
    """
    messages = _missing(stack, existing)
    messages += _changed_contents(stack, existing)
    if messages:
        raise PlanError(messages)
    operations = _pruned(stack, existing) if prune else []
    for network in stack.networks:
        name = network.name or ""
        known = existing.networks.get(name)
        operations.append(
            Operation("create", "network", name, network)
            if known is None
            else Operation("unchanged", "network", name, network, known)
        )
    operations += _secrets(stack, existing)
    operations += _configs(stack, existing)
    return Plan(operations + _services(stack, existing, keep_images))


def removal(namespace: str, existing: Existing) -> Plan:
    """The operations of `stack rm`: dependents before what they depend on, then what no service uses any more.

    `existing` may hold more than the stack; of networks it holds those of the stack only.
    """
    mine = [service for service in existing.services if _in_stack(service.spec.labels, namespace)]
    operations = _remove_services(mine)
    operations += [
        Operation("remove", "secret", secret.spec.name or "", id=secret.id)
        for secret in existing.secrets
        if _in_stack(secret.spec.labels, namespace)
    ]
    operations += [
        Operation("remove", "config", config.spec.name or "", id=config.id)
        for config in existing.configs
        if _in_stack(config.spec.labels, namespace)
    ]
    operations += [Operation("remove", "network", name, id=id_) for name, id_ in existing.networks.items()]
    return Plan(operations)


def _in_stack(labels: Mapping[str, str] | None, namespace: str) -> bool:
    return (labels or {}).get(NAMESPACE_LABEL) == namespace


def _remove_services(services: list[Service]) -> list[Operation]:
    """Dependents first by the label that conversion wrote; what is depended on goes when their tasks have ended."""
    by_name = {service.spec.name or "": service for service in services}
    needs = {name: _needs(service, by_name) for name, service in by_name.items()}
    operations: list[Operation] = []
    awaited: set[str] = set()
    for name in _dependents_first(needs):
        for dependent in (other for other, needed in needs.items() if name in needed and other not in awaited):
            awaited.add(dependent)
            operations.append(Operation("wait", "service", dependent, id=by_name[dependent].id, condition="gone"))
        service = by_name[name]
        operations.append(Operation("remove", "service", name, id=service.id, version=service.version.index))
    return operations


def _needs(service: Service, known: Collection[str]) -> list[str]:
    label = (service.spec.labels or {}).get(DEPENDS_LABEL) or ""
    return [name for name in label.split(",") if name in known and name != service.spec.name]


def _dependents_first(needs: Mapping[str, list[str]]) -> list[str]:
    """Within that the newest last. A circle, which only hand-written labels can hold, is cut somewhere."""
    found: dict[str, None] = {}
    for root in needs:
        chain = {root: iter(needs[root])}
        while chain:
            name = next(reversed(chain))
            needed = next((other for other in chain[name] if other not in found and other not in chain), None)
            if needed is None:
                found[name] = None
                chain.pop(name)
            else:
                chain[needed] = iter(needs[needed])
    return list(reversed(found))


def _missing(stack: Stack, existing: Existing) -> list[str]:
    """External objects that are not there, in the words of `docker stack deploy`."""
    secrets = {secret.spec.name for secret in existing.secrets}
    configs = {config.spec.name for config in existing.configs}
    found = [
        f'network "{name}" is declared as external, but could not be found. '
        "You need to create a swarm-scoped network before the stack is deployed"
        for name in stack.external_networks
        if name not in existing.networks
    ]
    found += [f"secret not found: {name}" for name in stack.external_secrets if name not in secrets]
    found += [f"config not found: {name}" for name in stack.external_configs if name not in configs]
    return found


def _changed_contents(stack: Stack, existing: Existing) -> list[str]:
    stored = {config.spec.name: config.spec.data for config in existing.configs}
    return [
        f"config {spec.name}: its content has changed, and a config's content is fixed: "
        "give it another name in the file (configs.NAME.name), and services move to the new one"
        for spec in stack.configs
        if spec.name in stored and _bytes(stored[spec.name]) != _bytes(spec.data)
    ]


def _bytes(data: bytes | str | None) -> bytes:
    return base64.b64decode(data) if isinstance(data, str) else data or b""


def _pruned(stack: Stack, existing: Existing) -> list[Operation]:
    wanted = {spec.name for spec in stack.services}
    gone = [
        service
        for service in existing.services
        if _in_stack(service.spec.labels, stack.name) and service.spec.name not in wanted
    ]
    return _remove_services(gone)


def _secrets(stack: Stack, existing: Existing) -> list[Operation]:
    stored = {secret.spec.name: secret for secret in existing.secrets}
    found = []
    for spec in stack.secrets:
        secret = stored.get(spec.name)
        if secret is None:
            found.append(Operation("create", "secret", spec.name or "", spec))
            continue
        change = _labels(secret.spec.labels, spec.labels)
        verb: Verb = "update" if change else "verify"
        found.append(Operation(verb, "secret", spec.name or "", spec, secret.id, secret.version.index, change))
    return found


def _configs(stack: Stack, existing: Existing) -> list[Operation]:
    stored = {config.spec.name: config for config in existing.configs}
    found = []
    for spec in stack.configs:
        config = stored.get(spec.name)
        if config is None:
            found.append(Operation("create", "config", spec.name or "", spec))
            continue
        change = _labels(config.spec.labels, spec.labels)
        verb: Verb = "update" if change else "unchanged"
        found.append(Operation(verb, "config", spec.name or "", spec, config.id, config.version.index, change))
    return found


def _labels(old: dict[str, str] | None, new: dict[str, str] | None) -> tuple[Change, ...]:
    old, new = old or {}, new or {}
    keys = sorted({*old, *new})
    return tuple(Change(f"Labels.{key}", old.get(key), new.get(key)) for key in keys if old.get(key) != new.get(key))


def _services(stack: Stack, existing: Existing, keep_images: bool) -> list[Operation]:
    stored = {service.spec.name: service for service in existing.services}
    secrets = {secret.spec.name or "": secret.id for secret in existing.secrets}
    configs = {config.spec.name or "": config.id for config in existing.configs}
    names = {id_: name for name, id_ in existing.networks.items()}
    found: list[Operation] = []
    restarted: set[str] = set()
    for wanted in stack.services:
        name = wanted.name or ""
        needs = stack.dependencies.get(name, ())
        spec = resolve_service(wanted, secrets, configs)
        service = stored.get(name)
        if service is None:
            operation = Operation("create", "service", name, spec)
        else:
            spec = carried_over(service.spec, spec, keep_images)
            changed = tuple(changes(service.spec, spec, names))
            if not _restarts(changed) and any(need.restart and need.service in restarted for need in needs):
                spec = forced(spec)
                changed = tuple(changes(service.spec, spec, names))
            if _restarts(changed):
                restarted.add(name)
            verb: Verb = "update" if changed else "unchanged"
            operation = Operation(verb, "service", name, spec, service.id, service.version.index, changed)
        if operation.verb != "unchanged":
            found += [
                Operation(
                    "wait", "service", need.service, condition=need.condition, required=need.required, dependent=name
                )
                for need in needs
            ]
        found.append(operation)
    return found


def _restarts(changed: Collection[Change]) -> bool:
    """Do the changes replace the service's tasks?"""
    return any(change.path.startswith("TaskTemplate.") for change in changed)


def forced(spec: ServiceSpec) -> ServiceSpec:
    """The spec whose tasks are replaced though nothing in them changes (`depends_on` with `restart: true`)."""
    task = spec.task_template or TaskSpec()
    return msgspec.structs.replace(
        spec, task_template=msgspec.structs.replace(task, force_update=(task.force_update or 0) + 1)
    )


def carried_over(stored: ServiceSpec, wanted: ServiceSpec, keep_images: bool) -> ServiceSpec:
    """The wanted spec with what a deploy does not touch: the count of forced updates, and the pinned image."""
    old, new = stored.task_template or TaskSpec(), wanted.task_template
    if new is None:
        return wanted
    new = msgspec.structs.replace(new, force_update=old.force_update or 0)
    same_image = (stored.labels or {}).get(IMAGE_LABEL) == (wanted.labels or {}).get(IMAGE_LABEL)
    if keep_images and same_image and old.container_spec is not None and new.container_spec is not None:
        container = msgspec.structs.replace(new.container_spec, image=old.container_spec.image)
        new = msgspec.structs.replace(new, container_spec=container)
        if old.placement is not None and new.placement is not None and not new.placement.platforms:
            placement = msgspec.structs.replace(new.placement, platforms=old.placement.platforms)
            new = msgspec.structs.replace(new, placement=placement)
    return msgspec.structs.replace(wanted, task_template=new)
