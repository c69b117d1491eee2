"""API objects (decoded JSON) to rows of lists, and the lists' columns.

Pure: data to rows.
"""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from essaim.cli.stacknames import NAMESPACE
from essaim.cli.values.durations import go_time, time_ago
from essaim.cli.values.images import familiar

from .listing import Listing, Row
from .naturalsort import natural
from .portlist import ingress_ports

Object = Mapping[str, Any]
SHORT = 12
"""Letters of an ID that lists show."""

SERVICES = Listing(
    "{{.ID}}\t{{.Name}}\t{{.Mode}}\t{{.Replicas}}\t{{.Image}}\t{{.Ports}}",
    {"ID": "ID", "Name": "NAME", "Mode": "MODE", "Replicas": "REPLICAS", "Image": "IMAGE", "Ports": "PORTS"},
    raw="id: {{.ID}}\nname: {{.Name}}\nmode: {{.Mode}}\nreplicas: {{.Replicas}}\nimage: {{.Image}}\n"
    "ports: {{.Ports}}\n",
)
NODES = Listing(
    "{{.ID}} {{if .Self}}*{{else}} {{ end }}\t{{.Hostname}}\t{{.Status}}\t{{.Availability}}\t{{.ManagerStatus}}"
    "\t{{.EngineVersion}}",
    {
        "ID": "ID",
        "Self": "",
        "Hostname": "HOSTNAME",
        "Status": "STATUS",
        "Availability": "AVAILABILITY",
        "ManagerStatus": "MANAGER STATUS",
        "EngineVersion": "ENGINE VERSION",
        "TLSStatus": "TLS STATUS",
    },
    raw="node_id: {{.ID}}\nhostname: {{.Hostname}}\nstatus: {{.Status}}\navailability: {{.Availability}}\n"
    "manager_status: {{.ManagerStatus}}\n",
)
SECRETS = Listing(
    "{{.ID}}\t{{.Name}}\t{{.Driver}}\t{{.CreatedAt}}\t{{.UpdatedAt}}",
    {
        "ID": "ID",
        "Name": "NAME",
        "Driver": "DRIVER",
        "CreatedAt": "CREATED",
        "UpdatedAt": "UPDATED",
        "Labels": "LABELS",
    },
)
CONFIGS = Listing(
    "{{.ID}}\t{{.Name}}\t{{.CreatedAt}}\t{{.UpdatedAt}}",
    {"ID": "ID", "Name": "NAME", "CreatedAt": "CREATED", "UpdatedAt": "UPDATED", "Labels": "LABELS"},
)
NETWORKS = Listing(
    "{{.ID}}\t{{.Name}}\t{{.Driver}}\t{{.Scope}}",
    {
        "ID": "NETWORK ID",
        "Name": "NAME",
        "Driver": "DRIVER",
        "Scope": "SCOPE",
        "IPv4": "IPV4",
        "IPv6": "IPV6",
        "Internal": "INTERNAL",
        "Labels": "LABELS",
        "CreatedAt": "CREATED AT",
    },
)
STACKS = Listing("{{.Name}}\t{{.Services}}", {"Name": "NAME", "Services": "SERVICES"})


def mode_name(spec: Object) -> str:
    """`replicated`, `global`, `replicated job`, `global job`."""
    mode = spec.get("Mode") or {}
    for key, name in (("Global", "global"), ("Replicated", "replicated"), ("ReplicatedJob", "replicated job")):
        if mode.get(key) is not None:
            return name
    return "global job" if mode.get("GlobalJob") is not None else ""


def replicas_text(service: Object) -> str:
    """`2/3`, with what a job has completed, or the limit per node."""
    spec, status = service.get("Spec") or {}, service.get("ServiceStatus") or {}
    running, desired, completed = (status.get(key) or 0 for key in ("RunningTasks", "DesiredTasks", "CompletedTasks"))
    mode = spec.get("Mode") or {}
    if (job := mode.get("ReplicatedJob")) is not None:
        return f"{running}/{desired} ({completed}/{job.get('TotalCompletions') or 0} completed)"
    if mode.get("GlobalJob") is not None:
        return f"{running}/{desired} ({completed}/{desired + completed} completed)"
    placement = (spec.get("TaskTemplate") or {}).get("Placement") or {}
    if mode.get("Replicated") is not None and placement.get("MaxReplicas"):
        return f"{running}/{desired} (max {placement['MaxReplicas']} per node)"
    return f"{running}/{desired}"


def image_of(spec: Object) -> str:
    container = (spec.get("TaskTemplate") or {}).get("ContainerSpec") or {}
    return str(container.get("Image") or "")


def service_rows(services: Iterable[Object]) -> list[Row]:
    ordered = sorted(services, key=lambda item: natural((item.get("Spec") or {}).get("Name") or ""))
    return [
        {
            "ID": service["ID"][:SHORT],
            "Name": service["Spec"].get("Name") or "",
            "Mode": mode_name(service["Spec"]),
            "Replicas": replicas_text(service),
            "Image": familiar(image_of(service["Spec"])),
            "Ports": ingress_ports((service.get("Endpoint") or {}).get("Ports")),
        }
        for service in ordered
    ]


def node_rows(nodes: Iterable[Object], self_id: str, cluster_root: str = "") -> list[Row]:
    return [node_row(node, self_id, cluster_root) for node in sorted(nodes, key=lambda node: natural(hostname(node)))]


def hostname(node: Object) -> str:
    return str((node.get("Description") or {}).get("Hostname") or "")


def node_row(node: Object, self_id: str, cluster_root: str) -> Row:
    description = node.get("Description") or {}
    manager = node.get("ManagerStatus")
    reach = "" if manager is None else "Leader" if manager.get("Leader") else capital(manager.get("Reachability") or "")
    trust = (description.get("TLSInfo") or {}).get("TrustRoot") or ""
    tls = "Unknown" if not trust or not cluster_root else "Ready" if trust == cluster_root else "Needs Rotation"
    return {
        "ID": node["ID"],
        "Self": node["ID"] == self_id,
        "Hostname": hostname(node),
        "Status": capital((node.get("Status") or {}).get("State") or ""),
        "Availability": capital((node.get("Spec") or {}).get("Availability") or ""),
        "ManagerStatus": reach,
        "EngineVersion": (description.get("Engine") or {}).get("EngineVersion") or "",
        "TLSStatus": tls,
    }


def capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def label_text(labels: Mapping[str, str] | None) -> str:
    return ",".join(f"{key}={value}" for key, value in sorted((labels or {}).items()))


def secret_rows(secrets: Iterable[Object], now: datetime) -> list[Row]:
    return [
        {**file_row(secret, now), "Driver": (secret["Spec"].get("Driver") or {}).get("Name") or ""}
        for secret in by_name(secrets)
    ]


def config_rows(configs: Iterable[Object], now: datetime) -> list[Row]:
    return [file_row(config, now) for config in by_name(configs)]


def by_name(objects: Iterable[Object]) -> list[Object]:
    return sorted(objects, key=lambda item: natural(item["Spec"].get("Name") or ""))


def file_row(item: Object, now: datetime) -> dict[str, Any]:
    return {
        "ID": item["ID"],
        "Name": item["Spec"].get("Name") or "",
        "CreatedAt": time_ago(item.get("CreatedAt"), now),
        "UpdatedAt": time_ago(item.get("UpdatedAt"), now),
        "Labels": label_text(item["Spec"].get("Labels")),
    }


def network_rows(networks: Iterable[Object], *, truncate: bool) -> list[Row]:
    ordered = sorted(networks, key=lambda item: natural(item.get("Name") or ""))
    return [
        {
            "ID": item["Id"][:SHORT] if truncate else item["Id"],
            "Name": item.get("Name") or "",
            "Driver": item.get("Driver") or "",
            "Scope": item.get("Scope") or "",
            "IPv4": str(bool(item.get("EnableIPv4"))).lower(),
            "IPv6": str(bool(item.get("EnableIPv6"))).lower(),
            "Internal": str(bool(item.get("Internal"))).lower(),
            "Labels": label_text(item.get("Labels")),
            "CreatedAt": go_time(item.get("Created")),
        }
        for item in ordered
    ]


def stack_rows(services: Iterable[Object]) -> list[Row]:
    """Stacks, counted from the labels of their services."""
    counts: dict[str, int] = {}
    for service in services:
        name = (service["Spec"].get("Labels") or {}).get(NAMESPACE)
        if name:
            counts[name] = counts.get(name, 0) + 1
    return [{"Name": name, "Services": str(counts[name])} for name in sorted(counts, key=natural)]
