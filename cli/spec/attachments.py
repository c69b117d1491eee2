"""What a service is attached to: ports, mounts, networks, secrets, configs.

Networks, secrets and configs arrive with their IDs (`Ids`): the command has asked the daemon before.

Pure: parts of a specification and flags to new parts. What does not fit raises ValueError.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from msgspec.structs import replace

from essaim.cli.flags import Flags
from essaim.cli.values.mounts import merge_mounts
from essaim.cli.values.references import FileReference
from essaim.cluster.container import ConfigReference, ContainerSpec, SecretReference
from essaim.cluster.service import EndpointSpec, NetworkAttachmentConfig, PortConfig

from .lists import added, removed, touched

Reference = TypeVar("Reference", SecretReference, ConfigReference)


@dataclass(frozen=True, slots=True)
class Ids:
    """Names to IDs of what the flags refer to."""

    secrets: Mapping[str, str] = field(default_factory=dict)
    configs: Mapping[str, str] = field(default_factory=dict)
    networks: Mapping[str, str] = field(default_factory=dict)


def change_endpoint(current: EndpointSpec | None, flags: Flags) -> EndpointSpec | None:
    if not (touched(flags, "publish") or flags.given("endpoint-mode")):
        return current
    base = current or EndpointSpec()
    if flags.given("endpoint-mode"):
        base = replace(base, mode=flags.text("endpoint-mode"))
    if touched(flags, "publish"):
        ports = change_ports(base.ports or [], added(flags, "publish"), removed(flags, "publish"))
        if "publish" not in flags.flags:  # create keeps the order in which they were given
            ports.sort(key=lambda port: (port.published_port or 0, port.target_port or 0, port.protocol or ""))
        base = replace(base, ports=ports or None)
    return base


def change_ports(current: list[PortConfig], add: list[PortConfig], remove: set[str]) -> list[PortConfig]:
    """`--publish-rm` takes a target port (`80`, `80/udp`), or a port as it was published."""
    gone = [target_of(text) for text in sorted(remove)]
    kept = [port for port in current if not any(matches(port, target, protocol) for target, protocol in gone)]
    for port in add:
        if port not in kept:
            kept.append(port)
    check_ports(kept)
    return kept


def target_of(text: str) -> tuple[int, str]:
    """(target, protocol)."""
    body, _, protocol = text.partition("/")
    target = body.rpartition(":")[2]
    return int(target), protocol or "tcp"


def matches(port: PortConfig, target: int, protocol: str) -> bool:
    return port.target_port == target and (port.protocol or "tcp") == protocol


def check_ports(ports: list[PortConfig]) -> None:
    """Two ports of one protocol, address and mode must differ in what they publish."""
    seen: dict[tuple[object, ...], PortConfig] = {}
    for port in ports:
        if not port.published_port:
            continue
        key = (port.published_port, port.protocol or "tcp", port.publish_mode or "ingress", port.host_ip)
        if key in seen:
            raise ValueError(f"conflicting port mapping between {describe(port)} and {describe(seen[key])}")
        seen[key] = port


def describe(port: PortConfig) -> str:
    return f"{port.published_port}:{port.target_port}/{port.protocol or 'tcp'}"


def change_mounts(container: ContainerSpec, flags: Flags) -> ContainerSpec:
    if not touched(flags, "mount"):
        return container
    gone = removed(flags, "mount")
    new = added(flags, "mount")
    if "mount" in flags.flags:
        seen: set[str | None] = set()
        for mount in new:
            if mount.target in seen:
                raise ValueError(f"Duplicate mount point: {mount.target}")
            seen.add(mount.target)
        return replace(container, mounts=new or None)
    kept = [mount for mount in container.mounts or [] if mount.target not in gone]
    return replace(container, mounts=merge_mounts([*kept, *new]) or None)


def change_networks(
    current: list[NetworkAttachmentConfig] | None, flags: Flags, ids: Mapping[str, str]
) -> list[NetworkAttachmentConfig] | None:
    """Targets are IDs, sorted."""
    if not touched(flags, "network"):
        return current
    gone = removed(flags, "network")
    gone |= {ids[name] for name in gone if name in ids}
    kept = [network for network in current or [] if network.target not in gone]
    present = {network.target for network in kept}
    for network in added(flags, "network"):
        found = replace(network, target=ids[network.target])
        if found.target in present:
            raise ValueError(f"service is already attached to network {network.target}")
        present.add(found.target)
        kept.append(found)
    return sorted(kept, key=lambda network: network.target or "") or None


def change_files(container: ContainerSpec, flags: Flags, ids: Ids) -> ContainerSpec:
    """Secrets and configs."""
    if touched(flags, "secret"):
        secrets = [
            SecretReference(file=item.file, secret_id=ids.secrets[item.source], secret_name=item.source)
            for item in unique_targets(added(flags, "secret"), "secret")
        ]
        container = replace(container, secrets=merge(container.secrets, secrets, removed(flags, "secret")))
    if touched(flags, "config"):
        configs = [
            ConfigReference(file=item.file, config_id=ids.configs[item.source], config_name=item.source)
            for item in unique_targets(added(flags, "config"), "config")
        ]
        container = replace(container, configs=merge(container.configs, configs, removed(flags, "config")))
    return container


def name_of(reference: SecretReference | ConfigReference) -> str | None:
    return reference.secret_name if isinstance(reference, SecretReference) else reference.config_name


def merge(current: list[Reference] | None, made: list[Reference], gone: set[str]) -> list[Reference] | None:
    """Names that are `gone` go; a new reference replaces the one with the same target."""
    targets = {ref.file.name for ref in made if ref.file}
    stays: list[Reference] = []
    for ref in current or []:
        if name_of(ref) not in gone and not (ref.file and ref.file.name in targets):
            stays.append(ref)
    found = stays + made
    return found if found else None


def unique_targets(items: list[FileReference], what: str) -> list[FileReference]:
    seen: set[str] = set()
    for item in items:
        if item.file.name in seen:
            raise ValueError(f"duplicate {what} target for {item.source} not allowed")
        seen.add(item.file.name)
    return items
