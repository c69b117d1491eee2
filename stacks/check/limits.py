"""Values that a manager would refuse: said at their place, and before anything of the stack has been created.

The bounds are Swarm's. Rejected: leaving it to the manager, which refuses the third service of five.

Pure: no I/O.
"""

import re
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

from essaim.cluster.durations import format_duration
from essaim.stacks.canonical.units import parse_cpus
from essaim.stacks.source.tree import Node, Path, Problems

Check: TypeAlias = Callable[[Any], str | None]
"""What is wrong with a value, or None."""

MIN_MEMORY = 4 << 20
MIN_CPUS = 1_000_000
MILLISECOND = 1_000_000
SERVICE_NAME = re.compile(r"[a-zA-Z0-9](?:[-_]*[a-zA-Z0-9]+)*\Z")
MAX_SERVICE_NAME = 63
DATA_NAME = re.compile(r"[a-zA-Z0-9](?:[a-zA-Z0-9_.-]*[a-zA-Z0-9])?\Z")
MAX_DATA_NAME = 64


def memory(value: Any) -> str | None:
    return f"must be at least 4 MiB, found {int(value)} bytes" if value and value < MIN_MEMORY else None


def cpus(value: Any) -> str | None:
    return f"must be at least 0.001, found {value}" if 0 < parse_cpus(str(value)) < MIN_CPUS else None


def not_negative(value: Any) -> str | None:
    return f"must not be negative, found {value}" if value < 0 else None


def not_before_now(value: Any) -> str | None:
    return f"must not be negative, found {format_duration(value)}" if value < 0 else None


def of_a_check(value: Any) -> str | None:
    return f"must be at least 1ms, found {format_duration(value)}" if value and value < MILLISECOND else None


def share(value: Any) -> str | None:
    return None if 0 <= value <= 1 else f"must be between 0 and 1, found {value}"


CHECKS: dict[tuple[str, ...], Check] = {
    **{("deploy", "resources", part, "memory"): memory for part in ("limits", "reservations")},
    **{("deploy", "resources", part, "cpus"): cpus for part in ("limits", "reservations")},
    ("mem_limit",): memory, ("mem_reservation",): memory, ("cpus",): cpus,
    ("deploy", "restart_policy", "delay"): not_before_now,
    ("deploy", "restart_policy", "window"): not_before_now,
    ("deploy", "restart_policy", "max_attempts"): not_negative,
    **{("deploy", part, key): not_before_now for part in ("update_config", "rollback_config")
       for key in ("delay", "monitor")},
    **{("deploy", part, "parallelism"): not_negative for part in ("update_config", "rollback_config")},
    **{("deploy", part, "max_failure_ratio"): share for part in ("update_config", "rollback_config")},
    ("stop_grace_period",): not_before_now,
    **{("healthcheck", key): of_a_check for key in ("interval", "timeout", "start_period", "start_interval")},
    ("healthcheck", "retries"): not_negative,
}  # fmt: skip


def check_limits(services: dict[str, Node], problems: Problems) -> None:
    for name, service in services.items():
        path: Path = ((None, "services"), name)
        for keys, check in CHECKS.items():
            node = service.get(*keys)
            if node is not None and (message := check(node.value)):
                problems.add(node.place, _below(path, keys), message)
        _check_ports(service, path, problems)
        _check_mounts(service, path, problems)


def _below(path: Path, keys: tuple[str, ...]) -> Path:
    for key in keys:
        path = (path, key)
    return path


def _check_ports(service: Node, path: Path, problems: Problems) -> None:
    endpoint = service.get("deploy", "endpoint_mode")
    is_dnsrr = endpoint is not None and endpoint.value == "dnsrr"
    seen: set[tuple[Any, ...]] = set()
    for index, entry in enumerate(_entries(service, "ports")):
        port = {key: child.value for key, child in entry.value.items()}
        if is_dnsrr and port["mode"] == "ingress":
            message = "a port of mode ingress cannot be published with endpoint_mode dnsrr; use mode: host"
            problems.add(entry.place, ((path, "ports"), index), message)
        key = (port.get("published"), port["protocol"], port.get("host_ip"), port["mode"])
        if key[0] is not None and key in seen and port["mode"] == "host":
            problems.add(entry.place, ((path, "ports"), index), f"port {key[0]}/{key[1]} is published twice")
        seen.add(key)


def _check_mounts(service: Node, path: Path, problems: Problems) -> None:
    targets = {str(entry.value["target"].value) for entry in _entries(service, "volumes")}
    for index, entry in enumerate(_entries(service, "volumes")):
        if not entry.value["target"].value:
            problems.add(entry.value["target"].place, (((path, "volumes"), index), "target"), "must not be empty")
    for index, entry in enumerate(_entries(service, "tmpfs")):
        target = str(entry.value).partition(":")[0]
        if target in targets:
            problems.add(entry.place, ((path, "tmpfs"), index), f"duplicate mount point {target}")
        targets.add(target)


def _entries(service: Node, key: str) -> Iterator[Node]:
    node = service.get(key)
    yield from node.value if node is not None else ()


def name_problem(kind: str, full: str) -> str | None:
    """Why a cluster cannot have an object of that name; `full` is with the stack's name before it."""
    if kind == "services":
        if not SERVICE_NAME.match(full):
            return f'"{full}" cannot be a service\'s name: letters and digits, with - and _ between them'
        return f'"{full}" is longer than {MAX_SERVICE_NAME} characters' if len(full) > MAX_SERVICE_NAME else None
    if not DATA_NAME.match(full):
        return f'"{full}" cannot be the name of one of the {kind}: letters and digits, with -, _ and . between them'
    return f'"{full}" is longer than {MAX_DATA_NAME} characters' if len(full) > MAX_DATA_NAME else None
