"""What a service's specification refers to: networks by name or ID, secrets and configs by ID.

Pure: the store in, a resolved specification or an error out.
"""

from collections.abc import Sequence

from msgspec.structs import replace

from essaim.cluster.container import ConfigReference, ContainerSpec, SecretReference
from essaim.cluster.errors import ClusterError, InvalidArgument, NotFound
from essaim.cluster.service import NetworkAttachmentConfig, ServiceSpec, TaskSpec
from essaim.cluster.store import Store

from . import lookup
from .errors import invalid

LOCAL_NETWORKS = {"host", "bridge", "none", "default"}
"""Networks that every node has by itself; a service may name them."""

Attachments = list[NetworkAttachmentConfig] | None


def resolve(store: Store, spec: ServiceSpec) -> ServiceSpec:
    """Network names become IDs where they stand; secrets and configs are checked. Raises ClusterError."""
    task = spec.task_template or TaskSpec()
    if task.container_spec is not None:
        _secrets(store, task.container_spec)
        _configs(store, task.container_spec)
    return replace(
        spec,
        task_template=replace(task, networks=_networks(store, task.networks)),
        networks=_networks(store, spec.networks),
    )


def _networks(store: Store, attachments: Attachments) -> Attachments:
    return [replace(a, target=_network(store, a.target or "")) for a in attachments] if attachments else attachments


def _network(store: Store, target: str) -> str:
    try:
        network = lookup.network(store, target)
    except NotFound as error:
        if target in LOCAL_NETWORKS:
            return target
        raise ClusterError(str(error)) from error  # an Engine answers 500 here
    if network.spec.ingress:
        raise InvalidArgument(f"network {target} is the ingress network: services use it by publishing ports")
    return network.id


def _secrets(store: Store, container: ContainerSpec) -> None:
    references = container.secrets or []
    for reference in references:
        if not reference.secret_id or not reference.secret_name:
            raise invalid("malformed secret reference")
    gone = [r.secret_name or "" for r in references if store.secrets.get(r.secret_id or "") is None]
    if gone:
        raise invalid(f"{'secrets' if len(gone) > 1 else 'secret'} not found: {', '.join(sorted(gone))}")
    _targets("secret", [(r.secret_name or "", _target(r)) for r in references])


def _configs(store: Store, container: ContainerSpec) -> None:
    references = container.configs or []
    for reference in references:
        if not reference.config_id or not reference.config_name:
            raise invalid("malformed config reference")
    gone = [r.config_name or "" for r in references if store.configs.get(r.config_id or "") is None]
    if gone:
        raise invalid(f"{'configs' if len(gone) > 1 else 'config'} not found: {', '.join(sorted(gone))}")
    _targets("config", [(r.config_name or "", _target(r)) for r in references])


def _target(reference: SecretReference | ConfigReference) -> str:
    return reference.file.name if reference.file else ""


def _targets(noun: str, references: Sequence[tuple[str, str]]) -> None:
    """Two references may not appear at the same place."""
    seen: dict[str, str] = {}
    for name, target in references:
        if target and target in seen:
            raise invalid(f"{noun} references '{seen[target]}' and '{name}' have a conflicting target: '{target}'")
        seen[target] = name


def users_of_secret(store: Store, secret_id: str) -> list[str]:
    """Names of the services that use it, sorted."""
    return sorted(
        s.spec.name or ""
        for s in store.services
        if (task := s.spec.task_template) and task.container_spec
        if any(r.secret_id == secret_id for r in task.container_spec.secrets or [])
    )


def users_of_config(store: Store, config_id: str) -> list[str]:
    return sorted(
        s.spec.name or ""
        for s in store.services
        if (task := s.spec.task_template) and task.container_spec
        if any(r.config_id == config_id for r in task.container_spec.configs or [])
    )


def users_of_network(store: Store, network_id: str) -> list[str]:
    """IDs of the services attached to it, oldest first."""
    return [
        s.id
        for s in store.services
        if any(
            a.target == network_id
            for a in [*(s.spec.networks or []), *((s.spec.task_template and s.spec.task_template.networks) or [])]
        )
    ]
