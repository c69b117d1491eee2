"""The plan of a deploy: the operations that bring a cluster to what a stack's files say.

The one who carries them out asks the manager; nothing here does. A service's operation may name secrets and configs
that an earlier operation creates: pass its spec through `convert.resolve_service` with the ids known by then.

Pure: no I/O.
"""

import base64
from collections.abc import Collection

import msgspec

from essaim.cluster.service import ServiceSpec, TaskSpec
from essaim.stacks.canonical.values import IMAGE_LABEL
from essaim.stacks.convert.convert import Stack, resolve_service

from .difference import Change, changes
from .operations import Existing, Operation, Plan, Verb, in_stack
from .removal import remove_services


class PlanError(Exception):
    """The stack cannot be deployed to this cluster; each message is one line for the user."""

    def __init__(self, messages: list[str]) -> None:
        self.messages = messages
        super().__init__("\n".join(messages))


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
        if in_stack(service.spec.labels, stack.name) and service.spec.name not in wanted
    ]
    return remove_services(gone)


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
