"""Rules that span keys or go by values: what excludes what, and what a cluster cannot share.

Pure: no I/O.
"""

import ipaddress
import re
from collections.abc import Callable
from functools import partial
from typing import Any

from essaim.stacks.canonical.values import familiar_image
from essaim.stacks.source.document import Document
from essaim.stacks.source.tree import Node, Path, Problems, plain

CONSTRAINT = re.compile(
    r"\s*[a-z_][a-z0-9\-_.]+\s*(==|!=)\s*[a-z0-9:\-_\s.*()?+\[\]\\^$|/]*[a-z0-9:\-_.*()?+\[\]\\^$|/]\s*\Z",
    re.IGNORECASE,
)
ADDRESSES: dict[str, Callable[[str], object]] = {
    "subnet": partial(ipaddress.ip_network, strict=False),
    "ip_range": partial(ipaddress.ip_network, strict=False),
    "gateway": ipaddress.ip_address,
}
MOUNT_OPTIONS = ("bind", "volume", "tmpfs", "image")
SHARED_MODES = ("service:", "container:")


def check_rules(document: Document, problems: Problems) -> None:
    """Report what cannot work."""
    for name, service in document.services.items():
        path: Path = ((None, "services"), name)
        _check_image(service, path, problems)
        _check_shared(service, path, problems)
        _check_replicas(service, path, problems)
        _check_targets(service, path, problems)
        _check_constraints(service, path, problems)
        _check_mount_types(service, path, problems)
    _check_published(document.services, problems)
    for name, network in document.networks.items():
        _check_addresses(network, ((None, "networks"), name), problems)


def _check_addresses(network: Node, path: Path, problems: Problems) -> None:
    """What a manager would refuse when other networks have been created already."""
    pools = network.get("ipam", "config")
    for index, pool in enumerate(pools.value if pools is not None else ()):
        below: Path = (((path, "ipam"), "config"), index)
        auxiliary = pool.get("aux_addresses")
        given = [((below, key), pool.get(key), parse) for key, parse in ADDRESSES.items()]
        for key, node in (auxiliary.value if auxiliary is not None else {}).items():
            given.append((((below, "aux_addresses"), key), node, ipaddress.ip_address))
        for where, node, parse in given:
            try:
                if node is not None:
                    parse(str(node.value))
            except ValueError as error:
                problems.add(node.place, where, str(error))


def _check_mount_types(service: Node, path: Path, problems: Problems) -> None:
    """Options belong to one type of mount: elsewhere they would be dropped."""
    for index, entry in enumerate(_entries(service, "volumes")):
        kind = entry.value["type"]
        for other in MOUNT_OPTIONS:
            options = entry.get(other)
            if other != kind.value and options is not None and _matter(other, options, kind):
                message = f"{other} options are incompatible with type {kind.value}"
                problems.add(options.key_place or options.place, (((path, "volumes"), index), other), message)
        if kind.value == "cluster":
            message = "there are no cluster volumes; use type: volume with a driver that every node has"
            problems.add(kind.place, (((path, "volumes"), index), "type"), message)


def _matter(name: str, options: Node, kind: Node) -> bool:
    """`data:/x:z` is common in public files: the label, of which a warning says that it has no effect, is no option of
    a bind alone."""
    return bool(options.value) and not (name == "bind" and kind.value == "volume" and set(options.value) == {"selinux"})


def _check_targets(service: Node, path: Path, problems: Problems) -> None:
    """One place in a container holds one secret, config or mount."""
    for key, what in (("secrets", "secret target"), ("configs", "config target"), ("volumes", "mount point")):
        seen: set[str] = set()
        for index, entry in enumerate(_entries(service, key)):
            target = str((entry.get("target") or entry.value["source"]).value)
            if target in seen:
                problems.add(entry.place, ((path, key), index), f"duplicate {what} {target}")
            seen.add(target)


def _check_constraints(service: Node, path: Path, problems: Problems) -> None:
    constraints = service.get("deploy", "placement", "constraints")
    below: Path = (((path, "deploy"), "placement"), "constraints")
    for index, entry in enumerate(constraints.value if constraints is not None else ()):
        if not CONSTRAINT.match(str(entry.value)):
            message = f'must be KEY==VALUE or KEY!=VALUE, such as node.role==worker, found "{entry.value}"'
            problems.add(entry.place, (below, index), message)


def _check_published(services: dict[str, Node], problems: Problems) -> None:
    """A port is published once in a cluster: said before anything is created, not in the middle of a deploy."""
    seen: dict[tuple[Any, ...], str] = {}
    for name, service in services.items():
        for index, entry in enumerate(_entries(service, "ports")):
            port = plain(entry)
            key = (port.get("published"), port["protocol"], port.get("host_ip"))
            if key[0] is None or port["mode"] != "ingress":
                continue
            if key in seen:
                message = f"port {key[0]}/{key[1]} is already published by the service {seen[key]}"
                problems.add(entry.place, ((((None, "services"), name), "ports"), index), message)
            seen[key] = name


def _entries(service: Node, key: str) -> list[Node]:
    node = service.get(key)
    return node.value if node is not None else []


def _at(service: Node, key: str) -> Any:
    node = service.value[key]
    return node.key_place or node.place


def _check_image(service: Node, path: Path, problems: Problems) -> None:
    image = service.get("image")
    if image is None or not image.value:
        built = service.get("build") is not None
        hint = "build is not carried out here: build and push, then name the image" if built else "give one with image:"
        problems.add(service.key_place or service.place, path, f"no image specified; {hint}")
        return
    try:
        familiar_image(str(image.value))
    except ValueError:
        problems.add(image.place, (path, "image"), f'"{image.value}" is not a valid image reference')


def _check_shared(service: Node, path: Path, problems: Problems) -> None:
    for key in ("network_mode", "pid", "ipc"):
        node = service.get(key)
        if node is not None and str(node.value).startswith(SHARED_MODES):
            what = "network" if key == "network_mode" else "namespace"
            message = f'"{node.value}" is not supported: the other container may run on another node'
            problems.add(node.place, (path, key), f"{message}, and its {what} exists only there")
    mode = service.get("network_mode")
    if mode is not None and service.get("networks") is not None:
        problems.add(mode.place, (path, "network_mode"), "network_mode and networks exclude each other")


def _check_replicas(service: Node, path: Path, problems: Problems) -> None:
    scale, replicas = service.get("scale"), service.get("deploy", "replicas")
    if scale is not None and replicas is not None and scale.value != replicas.value:
        problems.add(
            scale.place, (path, "scale"), f"scale and deploy.replicas ({replicas.value}) contradict each other"
        )
    for key, node in (("scale", scale), ("replicas", replicas)):
        if node is not None and node.value < 0:
            problems.add(node.place, (path, key), f"must not be negative, found {node.value}")
    count = replicas or scale
    mode = service.get("deploy", "mode")
    if service.get("container_name") is None:
        return
    if (count is not None and count.value > 1) or (mode is not None and mode.value.startswith("replicated-job")):
        message = "a container's name exists only once: it is refused for more than one replica"
        problems.add(_at(service, "container_name"), (path, "container_name"), message)
