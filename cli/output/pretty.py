"""`--pretty` of nodes, secrets and configs.

Pure: objects to text.
"""

import base64
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from essaim.cli.values.durations import go_time
from essaim.cli.values.sizes import binary_size
from essaim.cluster.cpus import NANO

from .rows import capital, hostname

Object = Mapping[str, Any]


def node_text(node: Object) -> str:
    spec, status = node.get("Spec") or {}, node.get("Status") or {}
    description = node.get("Description") or {}
    lines = [f"ID:\t\t\t{node['ID']}"]
    if spec.get("Name"):
        lines.append(f"Name:\t\t\t{spec['Name']}")
    lines += label_block(spec.get("Labels"), "Labels:")
    lines += [
        f"Hostname:              \t{hostname(node)}",
        f"Joined at:             \t{when(node.get('CreatedAt'))}",
        "Status:",
        f" State:\t\t\t{capital(status.get('State') or '')}",
    ]
    if status.get("Message"):
        lines.append(f" Message:              \t{status['Message']}")
    lines.append(f" Availability:         \t{capital(spec.get('Availability') or '')}")
    if status.get("Addr"):
        lines.append(f" Address:\t\t{status['Addr']}")
    manager = node.get("ManagerStatus")
    if manager is not None:
        lines += [
            "Manager Status:",
            f" Address:\t\t{manager.get('Addr') or ''}",
            f" Raft Status:\t\t{capital(manager.get('Reachability') or '')}",
            f" Leader:\t\t{'Yes' if manager.get('Leader') else 'No'}",
        ]
    return "\n".join([*lines, *host_lines(description)]) + "\n"


def host_lines(description: Object) -> list[str]:
    platform, resources = description.get("Platform") or {}, description.get("Resources") or {}
    engine, tls = description.get("Engine") or {}, description.get("TLSInfo") or {}
    lines = [
        "Platform:",
        f" Operating System:\t{platform.get('OS') or ''}",
        f" Architecture:\t\t{platform.get('Architecture') or ''}",
        "Resources:",
        f" CPUs:\t\t\t{(resources.get('NanoCPUs') or 0) // NANO}",
        f" Memory:\t\t{binary_size(resources.get('MemoryBytes') or 0)}",
    ]
    plugins = engine.get("Plugins") or []
    if plugins:
        lines.append("Plugins:")
        for kind in dict.fromkeys(plugin["Type"] for plugin in plugins):
            names = ", ".join(plugin["Name"] for plugin in plugins if plugin["Type"] == kind)
            lines.append(f" {kind}:\t\t{names}")
    lines.append(f"Engine Version:\t\t{engine.get('EngineVersion') or ''}")
    lines += label_block(engine.get("Labels"), "Engine Labels:")
    if tls.get("TrustRoot"):
        lines += [
            "TLS Info:",
            " TrustRoot:",
            tls["TrustRoot"],
            f" Issuer Subject:\t{tls.get('CertIssuerSubject') or ''}",
            f" Issuer Public Key:\t{tls.get('CertIssuerPublicKey') or ''}",
        ]
    return lines


def label_block(labels: Mapping[str, str] | None, title: str) -> list[str]:
    if not labels:
        return []
    return [title, *(f" - {key}={value}" if value else f" - {key}" for key, value in sorted(labels.items()))]


def when(stamp: str | None) -> str:
    """A time as `--pretty` prints it: in lower case."""
    return go_time(stamp).lower()


def secret_text(secret: Object, now: datetime) -> str:
    return file_text(secret, driver=(secret["Spec"].get("Driver") or {}).get("Name") or "")


def config_text(config: Object, now: datetime) -> str:
    data = base64.b64decode(config["Spec"].get("Data") or "").decode(errors="replace")
    return file_text(config) + f"Data:\n{data}\n"


def file_text(item: Object, *, driver: str | None = None) -> str:
    """Secrets are laid out with spaces, configs with tabs; both as docker does it."""
    spec = item["Spec"]
    tab = "\t\t\t" if driver is None else " " * 14
    lines = [f"ID:{tab}{item['ID']}", f"Name:{tab}{spec.get('Name') or ''}"]
    lines += label_block(spec.get("Labels"), "Labels:")
    if driver is not None:
        lines.append(f"Driver:{' ' * 12}{driver}")
    gap = "            \t" if driver is None else " " * 8
    lines += [f"Created at:{gap}{when(item.get('CreatedAt'))}", f"Updated at:{gap}{when(item.get('UpdatedAt'))}"]
    return "\n".join(lines) + "\n"
