"""`service inspect --pretty`.

Pure: a service to text.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from essaim.cli.template.values import float_text
from essaim.cli.values.durations import time_ago
from essaim.cli.values.sizes import binary_size
from essaim.cluster.cpus import NANO
from essaim.cluster.durations import format_duration

Object = Mapping[str, Any]


def service_text(service: Object, networks: Mapping[str, str], now: datetime) -> str:
    """The main points; `networks` are names by ID."""
    spec = service["Spec"]
    task = spec.get("TaskTemplate") or {}
    lines = ["", f"ID:\t\t{service['ID']}", f"Name:\t\t{spec.get('Name') or ''}"]
    if spec.get("Labels"):
        lines += ["Labels:", *(f" {key}={value}" for key, value in sorted(spec["Labels"].items()))]
    lines += mode_lines(spec.get("Mode") or {})
    lines += update_status(service.get("UpdateStatus"), now)
    lines += placement_lines(task.get("Placement"))
    lines += rollout_lines(spec.get("UpdateConfig"), "Update")
    lines += rollout_lines(spec.get("RollbackConfig"), "Rollback")
    container = task.get("ContainerSpec") or {}
    lines += container_lines(container)
    lines += log_lines(task.get("LogDriver"))
    lines += resource_lines(task.get("Resources"))
    attached = task.get("Networks") or spec.get("Networks") or []
    if attached:
        names = (networks.get(item["Target"], item["Target"]) for item in attached)
        lines.append("Networks: " + " ".join(names) + " ")
    endpoint = service.get("Endpoint") or {}
    lines.append(f"Endpoint Mode:\t{(endpoint.get('Spec') or {}).get('Mode') or ''}")
    lines += port_lines(endpoint.get("Ports") or [])
    lines += health_lines(container.get("Healthcheck"))
    return "\n".join([*lines, "", ""])


def mode_lines(mode: Object) -> list[str]:
    if mode.get("Global") is not None:
        return ["Service Mode:\tGlobal"]
    if mode.get("Replicated") is not None:
        replicas = mode["Replicated"].get("Replicas")
        return ["Service Mode:\tReplicated", *([f" Replicas:\t{replicas}"] if replicas is not None else [])]
    return ["Service Mode:"]


def update_status(status: Object | None, now: datetime) -> list[str]:
    if not status or not status.get("State"):
        return []
    lines = ["UpdateStatus:", f" State:\t\t{status['State']}"]
    if status.get("StartedAt"):
        lines.append(f" Started:\t{time_ago(status['StartedAt'], now)}")
    if status["State"] == "completed" and status.get("CompletedAt"):
        lines.append(f" Completed:\t{time_ago(status['CompletedAt'], now)}")
    return [*lines, f" Message:\t{status.get('Message') or ''}"]


def placement_lines(placement: Object | None) -> list[str]:
    if placement is None:
        return []
    lines = ["Placement:"]
    if placement.get("Constraints"):
        lines.append(f" Constraints:\t[{' '.join(placement['Constraints'])}]")
    spread = [item["Spread"]["SpreadDescriptor"] for item in placement.get("Preferences") or [] if item.get("Spread")]
    if spread:
        lines.append(f" Preferences:   [{' '.join(f'spread={item}' for item in spread)}]")
    if placement.get("MaxReplicas"):
        lines.append(f" Max Replicas Per Node:   {placement['MaxReplicas']}")
    return lines


def rollout_lines(config: Object | None, kind: str) -> list[str]:
    if config is None:
        return []
    lines = [f"{kind}Config:", f" Parallelism:\t{config.get('Parallelism') or 0}"]
    if config.get("Delay"):
        lines.append(f" Delay:\t\t{format_duration(config['Delay'])}")
    lines.append(f" On failure:\t{config.get('FailureAction') or ''}")
    if config.get("Monitor"):
        lines.append(f" Monitoring Period: {format_duration(config['Monitor'])}")
    lines.append(f" Max failure ratio: {float_text(float(config.get('MaxFailureRatio') or 0))}")
    return [*lines, f" {kind} order:".ljust(20) + (config.get("Order") or "")]


def container_lines(container: Object) -> list[str]:
    lines = ["ContainerSpec:", f" Image:\t\t{container.get('Image') or ''}"]
    for key, title in (("Args", "Args"), ("Env", "Env")):
        if container.get(key):
            lines.append(f" {title}:\t\t" + "".join(f"{item} " for item in container[key]))
    if container.get("Dir"):
        lines.append(f" Dir:\t\t{container['Dir']}")
    if container.get("Init") is not None:
        lines.append(f" Init:\t\t{str(container['Init']).lower()}")
    if container.get("User"):
        lines.append(f" User: {container['User']}")
    return lines + kernel_lines(container) + file_lines(container)


def kernel_lines(container: Object) -> list[str]:
    lines = []
    add, drop = container.get("CapabilityAdd"), container.get("CapabilityDrop")
    if add or drop:
        lines.append("Capabilities:")
        lines += [f" Add: {', '.join(add)}"] if add else []
        lines += [f" Drop: {', '.join(drop)}"] if drop else []
    if container.get("Sysctls"):
        lines += ["SysCtls:", *(f" {key}: {value}" for key, value in sorted(container["Sysctls"].items()))]
    if container.get("Ulimits"):
        lines.append("Ulimits:")
        lines += [f" {item['Name']}: {item.get('Soft', 0)}:{item.get('Hard', 0)}" for item in container["Ulimits"]]
    return lines


def file_lines(container: Object) -> list[str]:
    lines = []
    if container.get("Mounts"):
        lines.append("Mounts:")
        for mount in container["Mounts"]:
            lines += [
                f" Target:\t{mount.get('Target') or ''}",
                f"  Source:\t{mount.get('Source') or ''}",
                f"  ReadOnly:\t{str(bool(mount.get('ReadOnly'))).lower()}",
                f"  Type:\t\t{mount.get('Type') or ''}",
            ]
    for key, name in (("Configs", "ConfigName"), ("Secrets", "SecretName")):
        if container.get(key):
            lines.append(f"{key}:")
            for item in container[key]:
                lines += [f" Target:\t{(item.get('File') or {}).get('Name') or ''}", f"  Source:\t{item.get(name)}"]
    return lines


def log_lines(driver: Object | None) -> list[str]:
    if not driver or not driver.get("Name"):
        return []
    lines = ["Log Driver:", f" Name:\t\t{driver['Name']}"]
    if driver.get("Options"):
        options = sorted(driver["Options"].items())
        lines += [" LogOpts:", *(f"  {key + ':':<16}{value}" for key, value in options), ""]
    return lines


def resource_lines(resources: Object | None) -> list[str]:
    if resources is None:
        return []
    lines = ["Resources:"]
    for key in ("Reservations", "Limits"):
        found = resources.get(key) or {}
        part = []
        if found.get("NanoCPUs"):
            part.append(f"  CPU:\t\t{float_text(found['NanoCPUs'] / NANO)}")
        if found.get("MemoryBytes"):
            part.append(f"  Memory:\t{binary_size(found['MemoryBytes'])}")
        if key == "Limits" and found.get("Pids"):
            part.append(f"  PIDs:\t\t{found['Pids']}")
        if part:
            lines += [f" {key}:", *part]
    return lines


def port_lines(ports: list[Object]) -> list[str]:
    if not ports:
        return []
    lines = ["Ports:"]
    for port in ports:
        lines += [
            f" PublishedPort = {port.get('PublishedPort') or 0}",
            f"  Protocol = {port.get('Protocol') or ''}",
            f"  TargetPort = {port.get('TargetPort') or 0}",
            f"  PublishMode = {port.get('PublishMode') or ''}",
        ]
    lines[-1] += " "
    return lines


def health_lines(health: Object | None) -> list[str]:
    if not health:
        return []
    lines = [
        " Healthcheck:",
        f"  Interval = {format_duration(health.get('Interval') or 0)}",
        f"  Retries = {health.get('Retries') or 0}",
        f"  StartPeriod =\t{format_duration(health.get('StartPeriod') or 0)}",
        f"  Timeout =\t{format_duration(health.get('Timeout') or 0)}",
    ]
    tests = [f"\t Test = {item}" for item in health.get("Test") or []]
    if tests:
        lines += ["  Tests:", *tests]
        lines[-1] += " "
    return lines
