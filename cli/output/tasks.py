"""Rows of `ps`: tasks by name, newest first in each slot, older ones indented.

Pure: data to rows.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from essaim.cli.values.durations import parse_time, time_ago
from essaim.cli.values.images import familiar

from .listing import Listing, Row
from .naturalsort import natural
from .portlist import host_ports
from .rows import SHORT, capital

TASKS = Listing(
    "{{.ID}}\t{{.Name}}\t{{.Image}}\t{{.Node}}\t{{.DesiredState}}\t{{.CurrentState}}\t{{.Error}}\t{{.Ports}}",
    {
        "ID": "ID",
        "Name": "NAME",
        "Image": "IMAGE",
        "Node": "NODE",
        "DesiredState": "DESIRED STATE",
        "CurrentState": "CURRENT STATE",
        "Error": "ERROR",
        "Ports": "PORTS",
    },
    raw="id: {{.ID}}\nname: {{.Name}}\nimage: {{.Image}}\nnode: {{.Node}}\ndesired_state: {{.DesiredState}}\n"
    "current_state: {{.CurrentState}}\nerror: {{.Error}}\nports: {{.Ports}}\n",
)
MAX_ERROR = 30


@dataclass(frozen=True, slots=True)
class Names:
    """IDs to names; what is missing stays an ID."""

    services: Mapping[str, str]
    nodes: Mapping[str, str]

    def task(self, task: Mapping[str, Any]) -> str:
        service = task.get("ServiceID") or ""
        slot = task.get("Slot") or task.get("NodeID") or ""
        return f"{self.services.get(service, service)}.{slot}"

    def node(self, task: Mapping[str, Any]) -> str:
        found = task.get("NodeID") or ""
        return self.nodes.get(found, found)


def shorten(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[: limit - 1] + "…"


def task_rows(
    tasks: Iterable[Mapping[str, Any]], names: Names, now: datetime, *, truncate: bool, indent: bool = True
) -> list[Row]:
    """`indent` marks older tasks of a slot, in tables."""

    def moment(task: Mapping[str, Any]) -> float:
        return -parse_time(task["CreatedAt"]).timestamp() if task.get("CreatedAt") else 0.0

    ordered = sorted(tasks, key=lambda task: (natural(names.task(task)), moment(task)))
    rows: list[Row] = []
    before = None
    for task in ordered:
        name = names.task(task)
        shown = f" \\_ {name}" if indent and name == before else name
        rows.append(task_row(task, shown, names, now, truncate=truncate))
        before = name
    return rows


def task_row(task: Mapping[str, Any], name: str, names: Names, now: datetime, *, truncate: bool) -> Row:
    status = task.get("Status") or {}
    error = str(status.get("Err") or "")
    if error:
        error = f'"{shorten(error, MAX_ERROR) if truncate else error}"'
    image = str(((task.get("Spec") or {}).get("ContainerSpec") or {}).get("Image") or "")
    return {
        "ID": task["ID"][:SHORT] if truncate else task["ID"],
        "Name": name,
        "Image": familiar(image) if truncate else image,
        "Node": names.node(task),
        "DesiredState": capital(task.get("DesiredState") or ""),
        "CurrentState": f"{capital(status.get('State') or '')} {time_ago(status.get('Timestamp'), now)}".rstrip(),
        "Error": error,
        "Ports": host_ports((status.get("PortStatus") or {}).get("Ports")),
    }
